"""A signal to a run: it ends after the step that it is in, says so, and goes on as if nothing had happened."""

import functools
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from hybrids.training.lit import LitModel
from hybrids.training.metrics import read_metrics
from hybrids.training.ranks import find_ranks
from hybrids.training.stop import SIGNALS, Stop
from hybrids.training.train import train


@pytest.fixture
def make_run(make_run):
    return functools.partial(make_run, "pattern=LA")


@pytest.fixture
def signal_at(monkeypatch):
    """Send this process a signal in the n-th call of a step."""

    def arrange(method, call, signum=signal.SIGTERM):
        original, calls = getattr(LitModel, method), [0]

        def step(self, batch, batch_idx):
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signum)
            return original(self, batch, batch_idx)

        monkeypatch.setattr(LitModel, method, step)

    return arrange


def stop(run, signum=signal.SIGTERM):
    handlers = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(SystemExit) as ended:
        train(run)
    assert ended.value.code == 128 + signum  # what a shell reports of a process that the signal has ended
    assert [signal.getsignal(one) for one in SIGNALS] == handlers
    assert run.folder.read_result() is None


def metrics(run):
    """What training and validation have logged, and at which step."""
    logged = read_metrics(run.folder.metrics_file)
    return {name: values for name, values in logged.items() if not name.startswith("test/")}


@pytest.mark.parametrize(
    ("method", "call", "step"),
    [  # of 8 steps, with a validation of 2 batches after each fourth
        ("training_step", 1, 1),
        ("training_step", 3, 3),
        ("training_step", 4, 4),
        ("training_step", 6, 6),
        ("training_step", 8, 8),
        ("validation_step", 1, 4),
        ("validation_step", 2, 4),
        ("validation_step", 3, 8),
        ("validation_step", 4, 8),
        ("test_step", 1, 8),
        ("test_step", 2, 8),
    ],
)
def test_a_run_that_sigterm_stops_keeps_its_last_step_and_ends_bit_for_bit_like_an_unbroken_one(
    make_run, signal_at, unbroken, capsys, method, call, step
):
    run = make_run()
    signal_at(method, call)
    stop(run)
    told = f"run {run.folder.path} was stopped by SIGTERM after step {step}; the same command goes on from there"
    assert capsys.readouterr().err.splitlines() == [told]
    assert run.folder.checkpoints()[0].name == f"step={step:08d}.ckpt"
    result, expected = train(run), unbroken.folder.read_result()
    assert f"it continues from step={step:08d}.ckpt" in capsys.readouterr().out
    assert metrics(run) == metrics(unbroken)
    weights = [torch.load(one.folder.checkpoints()[0], weights_only=True)["state_dict"] for one in (run, unbroken)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert result["val"] == expected["val"] and result["test"] == expected["test"] and result["steps"] == 8


def test_a_run_may_be_stopped_again_and_again_and_keeps_two_checkpoints(make_run, signal_at, unbroken):
    run = make_run()
    for _ in range(4):  # in the second step after each start
        signal_at("training_step", 2)
        stop(run)
        assert len(list(run.folder.checkpoint_dir.iterdir())) <= 2
    train(run)
    assert metrics(run) == metrics(unbroken)
    assert [path.name for path in run.folder.checkpoints()] == ["step=00000008.ckpt", "step=00000006.ckpt"]


def test_a_run_between_validations_of_which_the_last_step_has_none_goes_on_too(make_run, signal_at, tmp_path):
    settings = ["trainer.max_steps=6", "trainer.val_every=4"]
    whole = make_run(*settings, f"runs_dir={tmp_path / 'whole'}")
    train(whole)
    run = make_run(*settings)
    signal_at("training_step", 6)
    stop(run)
    assert run.folder.checkpoints()[0].name == "step=00000006.ckpt"
    train(run)
    assert metrics(run) == metrics(whole)


@pytest.mark.parametrize("signum", [one for one in SIGNALS if one != signal.SIGTERM])
def test_every_signal_that_would_end_the_process_stops_the_run(make_run, signal_at, signum):
    run = make_run()
    signal_at("training_step", 2, signum)
    stop(run, signum)
    assert run.folder.checkpoints()[0].name == "step=00000002.ckpt"


def test_sigcont_ends_nothing(make_run, signal_at):
    """Slurm sends it before SIGTERM, and after a suspended job goes on."""
    run = make_run()
    signal_at("training_step", 2, signal.SIGCONT)
    assert train(run)["steps"] == 8


def test_a_signal_while_the_model_is_built_ends_the_run_at_once(make_run, monkeypatch, capsys):
    monkeypatch.setattr("hybrids.training.train.measure_sizes", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    run = make_run()
    stop(run)
    assert "was stopped by SIGTERM after step 0" in capsys.readouterr().err
    with run.folder.lock():
        pass


def test_a_signal_that_is_ignored_stays_ignored(make_run, signal_at):
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = make_run()
        signal_at("training_step", 2, signal.SIGHUP)
        assert train(run)["steps"] == 8
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_handled_the_signal_before_handles_it_once_the_step_is_kept(make_run, signal_at):
    """As submitit's handler of SIGUSR2, which puts the job into the queue again and exits."""
    run, seen = make_run(), []

    def requeue(signum, frame):
        seen.append((signum, run.folder.checkpoints()[0].name))
        raise SystemExit(255)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        signal_at("training_step", 3, signal.SIGUSR2)
        with pytest.raises(SystemExit) as ended:
            train(run)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert ended.value.code == 255 and seen == [(signal.SIGUSR2, "step=00000003.ckpt")]


def test_ctrl_c_ends_a_run_as_other_signals_do(make_run, signal_at, capsys):
    run = make_run()
    signal_at("training_step", 3, signal.SIGINT)
    stop(run, signal.SIGINT)
    assert "was stopped by Ctrl-C after step 3; the same command goes on from there" in capsys.readouterr().err
    assert run.folder.checkpoints()[0].name == "step=00000003.ckpt"


def test_another_ctrl_c_ends_it_at_once_but_not_the_same_one_passed_on(monkeypatch, tmp_path):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    asked = Stop(tmp_path, find_ranks(1, 1))
    asked.is_deferred = True
    for clock[0] in (100.0, 100.5):
        asked._note(signal.SIGINT, None)
    clock[0] = 102.0
    with pytest.raises(KeyboardInterrupt):
        asked._note(signal.SIGINT, None)


@pytest.mark.parametrize(
    ("given", "job"),
    [
        ({"SLURM_JOB_ID": "42"}, "42"),
        ({"SLURM_JOB_ID": "42", "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2"}, "40_2"),
        ({"SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "bash"}, None),
        ({}, None),
    ],
)
def test_slurms_warning_puts_the_job_into_the_queue_again(make_run, signal_at, monkeypatch, given, job):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    commands = []
    monkeypatch.setattr("hybrids.training.stop.subprocess.run", lambda command, check: commands.append(command))
    run = make_run()
    signal_at("training_step", 2, signal.SIGUSR1)
    stop(run, signal.SIGUSR1)
    assert commands == ([["scontrol", "requeue", job]] if job else [])


def test_workers_of_a_loader_survive_a_signal_to_all_processes(make_run, monkeypatch):
    """They hand over the batch of the step that the run ends with."""
    run, original = make_run("data.num_workers=1"), LitModel.training_step

    def step(self, batch, batch_idx):
        if batch_idx == 2:
            workers = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
            names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in workers]
            assert any(name.startswith(("pt_data", "python", "pytest")) for name in names), names
            for pid in [*workers, os.getpid()]:
                os.kill(pid, signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LitModel, "training_step", step)
    stop(run)
    assert run.folder.checkpoints()[0].name == "step=00000003.ckpt"
