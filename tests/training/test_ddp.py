"""Two processes on gloo: the same examples and numbers as one, and the same end after a kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hybrids.training.logs import read_metrics
from hybrids.training.record import RunFolder
from hybrids.training.train import train

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tiny):
    """Start `hybrids train` on a tiny run, in a process group of its own."""

    started = []

    def start(runs, *overrides):
        command = [sys.executable, "-m", "hybrids.cli", "train", *tiny, f"runs_dir={runs}", "pattern=LA", *overrides]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def folder_of(runs):
    (config,) = Path(runs).glob("*/config.yaml")
    return RunFolder(config.parent)


def kill_after(process, runs, step):
    """Kill all ranks once the metrics have reached a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        files = list(Path(runs).glob("*/metrics.csv"))
        if files and max(read_metrics(files[0]).get("train/loss", {0: 0})) >= step:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.02)
    pytest.fail("the run ended before it could be killed")


def test_two_ranks_see_the_examples_of_one_and_a_killed_run_ends_like_an_unbroken_one(start, make_run, tmp_path):
    size = ("trainer.max_steps=60", "trainer.val_every=10")
    two = ("trainer=ddp_cpu", *size)
    killed = start(tmp_path / "killed", *two)
    kill_after(killed, tmp_path / "killed", 14)
    single = make_run("pattern=LA", *size)
    train(single)
    output = finish(start(tmp_path / "unbroken", *two))
    assert output.count("test accuracy") == 1  # the second rank says nothing
    assert "it continues from step=0000001" in finish(start(tmp_path / "killed", *two))

    unbroken, resumed = (folder_of(tmp_path / name) for name in ("unbroken", "killed"))
    assert single.id == unbroken.path.name  # the number of ranks is no part of the identity
    losses = [read_metrics(f.metrics_file)["train/loss"] for f in (single.folder, unbroken)]
    for step in range(10):  # sums over ranks round differently, and training makes more and more of that
        assert losses[1][step] == pytest.approx(losses[0][step], rel=1e-5)
    weights = [torch.load(f.last_checkpoint()[0], weights_only=True)["state_dict"] for f in (unbroken, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    results = [json.loads(f.result_file.read_text()) for f in (unbroken, resumed)]
    assert results[0]["test"] == results[1]["test"] and results[0]["val"] == results[1]["val"]
