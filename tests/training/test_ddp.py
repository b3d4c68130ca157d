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

from hybrids.training.metrics import read_metrics
from hybrids.training.record import RunFolder
from hybrids.training.train import train

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tiny):
    """Start `hybrids train` on a tiny run, in a process group of its own."""

    started = []

    def start(runs, *overrides, **variables):
        command = [sys.executable, "-m", "hybrids.cli", "train", *tiny, f"runs_dir={runs}", "pattern=LA", *overrides]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, env={**ENVIRONMENT, **variables}, start_new_session=True, **pipes))
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


def wait_for(runs, step):
    """Until the metrics of the one run have reached a step."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        files = list(Path(runs).glob("*/metrics.csv"))
        if files and max(read_metrics(files[0]).get("train/loss", {0: 0})) >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"step {step} was never reached")


def test_two_ranks_see_the_examples_of_one_and_a_killed_run_ends_like_an_unbroken_one(start, make_run, tmp_path):
    """Under a curriculum: all ranks must have the same stage, and draw the same length."""
    stages = ("++curriculum.sizes.length=[8,[12,16]]", "curriculum.steps=[3]")
    size = ("trainer.max_steps=60", "trainer.val_every=10", *stages)
    two = ("trainer=ddp_cpu", *size)
    killed = start(tmp_path / "killed", *two)
    wait_for(tmp_path / "killed", 14)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
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


def ranks_of(process):
    """Process ids of the ranks that Lightning has started, the first among them."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    others = [int(pid) for pid in children if b"train_ddp_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [process.pid, *others]


def ends(pid):
    """Whether a process ends within ten seconds; Z: nobody has asked how, as the first of a container may not."""
    status, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + 10
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


LONG = ("trainer=ddp_cpu", "trainer.max_steps=100000", "trainer.val_every=100000")


@pytest.mark.slow
@pytest.mark.parametrize("asked", [[0], [1], [0, 1]])
def test_sigterm_to_any_rank_ends_the_launch_with_the_last_step_kept(start, tmp_path, asked):
    process = start(tmp_path, *LONG)
    wait_for(tmp_path, 20)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    for rank in asked:
        os.kill(ranks[rank], signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    said = [line for line in output.splitlines() if "was stopped by SIGTERM after step" in line]
    assert len(said) == 1 and "Traceback" not in output
    steps = int(said[0].partition("after step ")[2].partition(";")[0])
    assert [path.name for path in folder_of(tmp_path).checkpoints()] == [f"step={steps:08d}.ckpt"]
    assert steps >= 20 and ends(ranks[1])
    with folder_of(tmp_path).lock():
        pass


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_no_rank_stays_when_another_is_killed(start, tmp_path, killed):
    process = start(tmp_path, *LONG)
    wait_for(tmp_path, 20)
    ranks = ranks_of(process)
    os.kill(ranks[killed], signal.SIGKILL)
    process.communicate(timeout=30)
    assert ends(ranks[1])
    with folder_of(tmp_path).lock():
        pass


@pytest.mark.slow
def test_a_rank_that_hangs_does_not_keep_the_others(start, tmp_path):
    process = start(tmp_path, *LONG)
    wait_for(tmp_path, 20)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGSTOP)
    time.sleep(1)
    os.kill(ranks[0], signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    with folder_of(tmp_path).lock():
        pass


SLURM = {
    "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost", "SLURM_NNODES": "1",
    "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0",
}  # fmt: skip
"""What srun sets for two tasks on this machine."""


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_tasks_that_slurm_has_started_are_the_ranks_of_one_run(start, make_run, tmp_path, nodes):
    """On one node, and on two, each of which has a local rank 0; then again, when the run has finished."""
    devices = (f"trainer.devices={2 // nodes}", f"trainer.num_nodes={nodes}")
    for attempt in ("test accuracy", "has finished; nothing is done"):
        tasks = []
        for rank in range(2):
            place = (
                {"SLURM_LOCALID": rank, "SLURM_NODEID": 0} if nodes == 1 else {"SLURM_LOCALID": 0, "SLURM_NODEID": rank}
            )
            shape = {"SLURM_NNODES": nodes, "SLURM_NTASKS_PER_NODE": 2 // nodes, "SLURM_PROCID": rank}
            variables = {name: str(value) for name, value in {**place, **shape}.items()}
            tasks.append(start(tmp_path, "trainer=ddp_cpu", *devices, **(SLURM | variables)))
        first, second = (finish(task) for task in tasks)
        assert attempt in first and attempt not in second
    single = make_run("pattern=LA")
    assert single.id == folder_of(tmp_path).path.name


@pytest.mark.slow
def test_sigterm_to_all_tasks_of_slurm_ends_the_run_with_the_last_step_kept(start, tmp_path):
    """As scancel and a preemption have it: SIGCONT, then SIGTERM, to every task."""
    tasks = [start(tmp_path, *LONG, **SLURM, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]
    wait_for(tmp_path, 20)
    for signum in (signal.SIGCONT, signal.SIGTERM):
        for task in tasks:
            task.send_signal(signum)
    outputs = [task.communicate(timeout=30)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [143, 0]
    assert "was stopped by SIGTERM after step" in outputs[0] and "Traceback" not in "".join(outputs)
    assert len(folder_of(tmp_path).checkpoints()) == 1


@pytest.mark.slow
def test_the_other_tasks_end_where_the_first_cannot_begin(start, make_run, tmp_path):
    run = make_run("pattern=LA")
    run.folder.create(run.config)
    with run.folder.lock():
        tasks = [
            start(run.runs_dir, "trainer=ddp_cpu", **SLURM, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"
        ]
        outputs = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [1, 1]
    assert "is being trained by another process" in outputs[0] and "error" not in outputs[1]
