"""Numbers of a run: a file that is only ever appended to, and W&B that never costs a run."""

import logging
import warnings

import pytest

from hybrids.errors import UserError
from hybrids.training.logs import (
    FOREIGN_WARNINGS,
    LogSettings,
    MetricsFile,
    build_loggers,
    silence_foreign_messages,
)
from hybrids.training.metrics import drop_metrics, read_metrics
from hybrids.training.train import train


def test_rows_are_appended_and_the_last_one_holds(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"train/loss": 2.0, "epoch": 0}, step=1)
    before = path.read_bytes()
    again = MetricsFile(path)
    again.log_metrics({"train/loss": 1.5, "val/accuracy": 0.25}, step=1)
    again.log_metrics({"train/loss": 1.0}, step=2)
    assert path.read_bytes().startswith(before)
    assert path.read_text().splitlines()[:2] == ["step,metric,value", "1,train/loss,2.0"]
    assert read_metrics(path) == {"train/loss": {1: 1.5, 2: 1.0}, "val/accuracy": {1: 0.25}}


@pytest.mark.parametrize("cut", ["1,tr", "1,train/loss", "1,train/loss,", "1,train/loss,2.", "7"])
def test_a_row_that_was_cut_in_half_costs_only_itself(tmp_path, cut):
    """Of 2.345 a kill may leave 2., which is a number too."""
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,metric,value\n0,train/loss,3.0\n{cut}")
    assert read_metrics(path) == {"train/loss": {0: 3.0}}
    drop_metrics(path, 2)
    MetricsFile(path).log_metrics({"train/loss": 2.0}, step=2)
    assert read_metrics(path) == {"train/loss": {0: 3.0, 2: 2.0}}


def test_rows_that_a_resumed_run_writes_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path)
    for step in range(4):
        log.log_metrics({"train/loss": float(step)}, step=step)
    whole = path.read_bytes()
    log.log_metrics({"test/accuracy": 0.5}, step=4)
    drop_metrics(path, 4)
    assert path.read_bytes() == whole
    drop_metrics(path, 0)
    assert path.read_text() == "step,metric,value\n"


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value\nfirst,train/loss,3.0\n")
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: .*'first'"):
        read_metrics(path)


@pytest.mark.parametrize("cut", ["", "s", "step,met", "step,metric,value", "step,metric,value\r"])
def test_a_header_that_was_cut_in_half_is_written_again(tmp_path, cut):
    path = tmp_path / "metrics.csv"
    path.write_text(cut, newline="")
    drop_metrics(path, 0)
    MetricsFile(path).log_metrics({"a": 1.0}, step=0)
    assert path.read_bytes() == b"step,metric,value\r\n0,a,1.0\r\n"


def test_tensorboard_is_written_beside_the_metrics(make_run):
    run = make_run("pattern=A", "logger=tensorboard")
    train(run)
    assert list((run.folder.path / "tensorboard").glob("events.out.tfevents.*"))
    assert run.folder.metrics_file.is_file()
    assert not (run.folder.path / "wandb").exists()


def test_without_a_login_wandb_logs_offline(nobody, make_run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for message in FOREIGN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        run = make_run("pattern=A", "logger=wandb")
        train(run)
    logs = list((run.folder.path / "wandb").glob("offline-run-*"))
    assert len(logs) == 1 and logs[0].name.endswith(run.id)
    assert list(logs[0].glob("*.wandb"))
    assert read_metrics(run.folder.metrics_file)["test/accuracy"]


def test_without_network_wandb_falls_back_with_one_warning(nobody, make_run):
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    nobody.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # a port that nobody listens on
    run = make_run("pattern=A", "logger=wandb", "logger.wandb_timeout=1")
    with pytest.warns(UserWarning, match="W&B cannot be reached .* logging offline") as caught:
        train(run)
    assert len([w for w in caught if "W&B" in str(w.message)]) == 1
    assert list((run.folder.path / "wandb").glob("offline-run-*"))
    assert run.folder.read_result() is not None


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
def test_when_wandb_goes_online(nobody, tmp_path, monkeypatch, mode, environment, online):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []

    class Log:
        experiment = None

        def __init__(self, *, offline, **settings):
            asked.append(not offline)

    monkeypatch.setattr("hybrids.training.logs.WandbLogger", Log)
    build_loggers(LogSettings(wandb=True, wandb_mode=mode), tmp_path, "id", {})
    assert asked == [online]


def test_wandb_is_told_the_group_and_the_job_type(nobody, tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr(
        "hybrids.training.logs.WandbLogger", lambda **given: told.update(given) or type("L", (), {"experiment": 0})
    )
    build_loggers(LogSettings(group="sweep-1", job_type="capacity-rate"), tmp_path, "id", {})
    assert (told["group"], told["job_type"], told["id"]) == ("sweep-1", "capacity-rate", "id")


@pytest.mark.parametrize(
    "text", ["machine api.wandb.ai\n login user\n password 0123\n", "machine elsewhere login a password b"]
)
def test_a_netrc_entry_is_a_login(nobody, tmp_path, monkeypatch, text):
    (tmp_path / "home" / ".netrc").write_text(text)
    (tmp_path / "home" / ".netrc").chmod(0o600)
    monkeypatch.setattr(
        "hybrids.training.logs.WandbLogger", lambda offline, **settings: type("L", (), {"experiment": offline})
    )
    log = build_loggers(LogSettings(wandb=True), tmp_path, "id", {})[1]
    assert log.experiment is ("api.wandb.ai" not in text)


def test_lightning_does_not_talk_about_itself(capfd, make_run):
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    with warnings.catch_warnings():
        silence_foreign_messages()
    train(make_run("pattern=A"))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
