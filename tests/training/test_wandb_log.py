"""The W&B log of a run: one W&B run for each folder, rows in order, and no failure of W&B costs a run.

Against a stand-in for the server on this machine; what is sent to it is what wandb sends.
"""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import wandb
from wandb_file import read_log
from wandb_server import StandInServer, end_wandb

from hybrids.errors import UserError
from hybrids.training.lit import LitModel
from hybrids.training.logs import build_loggers
from hybrids.training.metrics import read_metrics
from hybrids.training.process import FOREIGN_WARNINGS
from hybrids.training.settings import LogSettings
from hybrids.training.train import train
from hybrids.training.wandb_log import ID_FILE, is_online


@pytest.fixture
def server(nobody):
    """A W&B server that knows the user."""
    server = StandInServer()
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    nobody.setenv("WANDB_BASE_URL", server.url)
    nobody.setattr(wandb.Api, "_HTTP_TIMEOUT", 1)  # seconds; by default 19
    yield server
    end_wandb()
    server.close()


@pytest.fixture
def make_run(make_run):
    return lambda *overrides: make_run("pattern=A", "logger=wandb", "logger.wandb_timeout=20", *overrides)


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def at_step(monkeypatch):
    """Do something before a training step."""

    def arrange(number, act):
        original = LitModel.training_step

        def step(self, batch, batch_idx):
            if self.global_step == number:
                monkeypatch.setattr(LitModel, "training_step", original)
                act()
            return original(self, batch, batch_idx)

        monkeypatch.setattr(LitModel, "training_step", step)

    return arrange


@pytest.fixture
def killed_at(at_step):
    def kill(run, number):
        def end():
            raise Killed

        at_step(number, end)
        with pytest.raises(Killed):
            train(run)
        end_wandb()  # as the end of the process does

    return kill


def logs_of(run):
    return sorted((run.folder.path / "wandb").glob("*run-*"))


def training_rows(history):
    """(W&B step, optimiser step) of the rows that are of training steps."""
    return [(row["_step"], row["trainer/global_step"]) for row in history if "train/loss" in row]


def test_without_a_login_wandb_logs_offline(nobody, make_run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for message in FOREIGN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        run = make_run()
        train(run)
    (place,) = logs_of(run)
    log = read_log(next(place.glob("*.wandb")))
    assert place.name.startswith("offline-run-")
    assert (log.run.display_name, log.config["identity"]) == (run.id, run.id)
    assert log.run.run_id == (run.folder.path / ID_FILE).read_text().strip() != run.id
    assert read_metrics(run.folder.metrics_file)["test/accuracy"]


def test_a_folder_is_one_wandb_run(server, make_run, killed_at, tmp_path):
    run = make_run()
    killed_at(run, 6)
    train(run)
    train(make_run("rerun=true"))
    train(make_run(f"runs_dir={tmp_path / 'elsewhere'}"))
    assert len(server.runs) == 3
    for logged in server.runs.values():
        assert logged.config["identity"]["value"] == logged.display_name == run.id
        assert training_rows(logged.history) == [(step, step) for step in range(8)]
        assert logged.exit_code == 0
        assert logged.summary["test/accuracy"] == read_metrics(run.folder.metrics_file)["test/accuracy"][8]


def test_a_folder_from_before_keeps_its_wandb_run(nobody, tmp_path):
    (tmp_path / "wandb" / "offline-run-20250101_000000-mqar-L~A-0123abcd").mkdir(parents=True)
    log = build_loggers(LogSettings(), tmp_path, "mqar-L~A-0123abcd", {})[1]
    assert log.version == "mqar-L~A-0123abcd"


@pytest.mark.parametrize("ends_well", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_resumed_offline_run_goes_on_in_steps_when_it_is_synchronised(
    server, make_run, killed_at, monkeypatch, ends_well
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = make_run()
    killed_at(run, 6)
    if not ends_well:  # the process of W&B dies with its parent, and what it had not written yet is lost
        (file,) = run.folder.path.glob("wandb/offline-run-*/*.wandb")
        file.write_bytes(file.read_bytes()[:7])
    train(run)
    sync(run.folder.path / "wandb")
    (logged,) = server.runs.values()
    assert training_rows(logged.history) == [(step, step) for step in range(8)]
    steps = [row["_step"] for row in logged.history]
    assert steps == sorted(set(steps))


def sync(place):
    command = [sys.executable, "-m", "wandb", "sync", str(place)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert "Finished syncing" in done.stderr, done.stderr


@pytest.mark.slow
def test_an_online_run_that_goes_on_offline_repeats_no_row_from_before_its_checkpoint(
    server, make_run, killed_at, monkeypatch
):
    run = make_run()
    killed_at(run, 6)
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(run)
    sync(logs_of(run)[0])
    (logged,) = server.runs.values()
    steps = [step for _, step in training_rows(logged.history)]
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]  # nobody can be asked whether 4 and 5 have arrived


@pytest.mark.slow
def test_rows_that_the_server_never_got_are_sent_when_the_run_goes_on(server, make_run, killed_at, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = make_run()
    killed_at(run, 6)
    monkeypatch.delenv("WANDB_MODE")
    train(run)
    (logged,) = server.runs.values()
    assert training_rows(logged.history) == [(step, step) for step in range(8)]


def lose_network(server, how):
    if how == "close":
        server.close()
    else:
        server.mood = how


@pytest.mark.parametrize(
    "how", ["close", pytest.param("error", marks=pytest.mark.slow), pytest.param("hang", marks=pytest.mark.slow)]
)
def test_a_network_lost_in_training_costs_nothing_but_the_log(server, make_run, at_step, how):
    run = make_run("logger.wandb_timeout=5")
    at_step(5, lambda: lose_network(server, how))
    start = time.monotonic()
    with pytest.warns(UserWarning, match="W&B has not taken the whole log .* `wandb sync .*` uploads") as caught:
        result = train(run)
    assert time.monotonic() - start < 100  # 5 seconds to finish in, and one for a table; without a limit it is 400
    assert len([one for one in caught if "W&B" in str(one.message)]) == 1
    assert run.folder.read_result() == result


@pytest.mark.slow
def test_what_an_online_run_could_not_send_can_be_synchronised(server, make_run, at_step, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = make_run("logger.wandb_timeout=5")
    at_step(2, lambda: lose_network(server, "error"))
    with pytest.warns(UserWarning, match="has not taken the whole log") as caught:
        train(run)
    server.mood = "ok"
    command = str(caught[-1].message).partition("`")[2].partition("`")[0]
    assert command.startswith("wandb sync ")
    subprocess.run([sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, check=True)
    (logged,) = server.runs.values()
    assert {step for _, step in training_rows(logged.history)} == set(range(8))
    assert logged.summary["test/accuracy"] == read_metrics(run.folder.metrics_file)["test/accuracy"][8]


def test_a_wandb_process_that_dies_costs_nothing_but_the_log(server, make_run, at_step):
    run = make_run()
    at_step(3, kill_service)
    with pytest.warns(UserWarning, match="W&B has not taken the whole log"):
        result = train(run)
    assert run.folder.read_result() == result


def kill_service():
    """Kill the process of W&B that this one has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = stat.read_text().rpartition(") ")
        if name.endswith("(wandb-core") and rest.split()[1] == str(os.getpid()):
            os.kill(int(stat.parent.name), signal.SIGKILL)


def test_without_network_wandb_falls_back_with_one_warning(nobody, make_run):
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    nobody.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # a port that nobody listens on
    run = make_run("logger.wandb_timeout=1")
    with pytest.warns(UserWarning, match="W&B cannot be used .* logging offline") as caught:
        train(run)
    assert len([w for w in caught if "W&B" in str(w.message)]) == 1
    assert list((run.folder.path / "wandb").glob("offline-run-*"))
    assert run.folder.read_result() is not None


def test_a_key_that_wandb_refuses_is_a_warning(server, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.warns(UserWarning, match="API key must have .* logging offline"):
        build_loggers(LogSettings(), tmp_path, "id", {})


@pytest.mark.slow
def test_a_wandb_run_that_was_deleted_is_followed_by_another(server, make_run, killed_at):
    run = make_run()
    killed_at(run, 6)
    (old,) = server.runs
    server.deleted.add(old)
    run = make_run("logger.wandb_timeout=5")
    with pytest.warns(UserWarning, match=f"the W&B run {old} was deleted on the server; .* starts another"):
        train(run)
    (new,) = set(server.runs) - {old}
    assert (run.folder.path / ID_FILE).read_text().strip() == new
    assert training_rows(server.runs[new].history) == [(step, step) for step in range(8)]


@pytest.mark.parametrize(
    ("mode", "environment", "online"),
    [
        ("auto", {}, False),
        ("auto", {"WANDB_API_KEY": "0" * 40}, True),
        ("auto", {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, False),
        ("auto", {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "dryrun"}, False),
        ("auto", {"WANDB_MODE": "online"}, True),
        ("offline", {"WANDB_API_KEY": "0" * 40}, False),
        ("online", {}, True),
    ],
)
def test_when_wandb_goes_online(nobody, no_network, mode, environment, online):
    for name, value in environment.items():
        nobody.setenv(name, value)
    assert is_online(LogSettings(wandb_mode=mode)) is online


def test_a_disabled_wandb_logs_nothing(nobody, tmp_path):
    nobody.setenv("WANDB_MODE", "disabled")
    assert len(build_loggers(LogSettings(), tmp_path, "id", {})) == 1


@pytest.mark.parametrize("host", [None, "https://api.wandb.ai", "https://wandb.example.org"])
def test_a_login_made_by_wandb_is_found(nobody, host):
    if host is not None:
        nobody.setenv("WANDB_BASE_URL", host)
    assert not is_online(LogSettings())
    wandb.teardown()
    wandb.setup(wandb.Settings(silent=True))
    wandb.login(key="0" * 40, verify=False)  # what `wandb login` does
    wandb.teardown()
    assert is_online(LogSettings())
    nobody.setenv("WANDB_BASE_URL", "https://another.example.org")
    wandb.teardown()
    assert not is_online(LogSettings())


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("logger.project=a/b", "logger.project is refused by W&B: .*'a/b'.*cannot contain"),
        (f"logger.project={'x' * 129}", "logger.project is refused by W&B: .*128 characters"),
        ("logger.project=''", "logger.project= is empty"),
    ],
)
def test_a_name_that_wandb_refuses_is_an_error_before_training(nobody, make_run, tmp_path, setting, reason):
    with pytest.raises(UserError, match=reason) as caught:
        train(make_run(setting))
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_wandb_is_told_the_group_and_the_job_type(nobody, tmp_path):
    log = build_loggers(LogSettings(group="sweep-1", job_type="capacity-rate"), tmp_path, "id", {})[1]
    assert (log.run.group, log.run.job_type, log.run.name) == ("sweep-1", "capacity-rate", "id")
