"""What cannot fit is refused before there is a folder, and what fits is not; memory that runs out is one sentence."""

import os

import pytest
import torch

from hybrids.errors import UserError
from hybrids.model.measure import held_bytes
from hybrids.task import Split
from hybrids.training import memory
from hybrids.training.lit import LitModel
from hybrids.training.train import build_model, train


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("data.batch_size=120000000000", "data.batch_size=120000000000"),
        ("model.d_model=1000000", "model.d_model=1000000"),
        ("task.length=10000000000", "task.length=10000000000"),
        ("pattern=Lx9999 model.d_model=4096", "pattern=Lx9999"),
        ("data.num_val_examples=1200000000000", "data.num_val_examples=1200000000000"),
        ("data.num_test_examples=1200000000000", "data.num_test_examples=1200000000000"),
        ("data.num_test_examples=120000000000 data.eval_batch_size=120000000000", "task.length=16"),
        ("data.num_recall_examples=1000000000000", "data.num_recall_examples=1000000000000"),
        ("data.num_workers=10000000", "data.num_workers=10000000"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_with_the_setting_and_no_folder(make_run, settings, named):
    run = make_run("pattern=LA", *settings.split())
    with pytest.raises(UserError, match=r"this needs at least .*iB of memory and this machine has .*GiB") as error:
        train(run)
    assert named in str(error.value) and "\n" not in str(error.value)
    assert not run.runs_dir.exists()


@pytest.mark.parametrize("pattern", ["LA", "AAAA", "L+A", "SM"])
@pytest.mark.parametrize("sizes", [(), ("model.d_model=32", "task.length=64", "data.batch_size=6")])
def test_the_estimate_is_below_what_a_training_step_keeps(make_run, pattern, sizes):
    """Against what autograd saves for the backward pass, and AdamW's state beside parameters and gradients."""
    run = make_run(f"pattern={pattern}", *sizes)
    task = run.task.build()
    model = build_model(run, task)
    weights, batch, *_ = memory.estimate(run, task)
    assert weights.bytes <= 16 * sum(parameter.numel() for parameter in model.parameters()) <= 1.5 * weights.bytes
    examples = task.sample(torch.arange(run.data.batch_size), seed=0, split=Split.TRAIN)
    kept = held_bytes(lambda: model.answer(examples)[0], model.parameters())
    assert 0.01 * kept < batch.bytes - 8 * examples.tokens.numel() <= kept


def test_the_limit_of_a_control_group_counts_and_so_do_those_above_it(monkeypatch):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.host_memory() <= total + 2**40  # swap
    files = {
        "/proc/meminfo": "MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\nSwapFree: 1000 kB\n",
        "/proc/self/cgroup": "0::/job/step\n",
        "/sys/fs/cgroup/job/step/memory.max": "max\n",
        "/sys/fs/cgroup/job/memory.max": "8589934592\n",
    }
    monkeypatch.setattr(memory, "_read", lambda path: files.get(str(path), ""))
    assert memory.host_memory() == 8 * 2**30
    files["/proc/self/cgroup"] = "5:cpu:/a\n4:memory:/job\n"
    files["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = "4294967296\n"
    assert memory.host_memory() == 4 * 2**30
    files["/proc/self/cgroup"] = ""
    assert memory.host_memory() == 32_001_000 * 1024


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_memory_that_runs_out_in_training_is_a_sentence(train, monkeypatch, error):
    def step(self, batch, batch_idx):
        raise error

    monkeypatch.setattr(LitModel, "training_step", step)
    told = train("pattern=A").complaint()
    assert told.startswith("memory ran out (") and "data.batch_size=12" in told


def test_an_allocation_that_fails_is_a_sentence():
    """What torch raises on this machine for 2^60 bytes."""
    with pytest.raises(UserError, match="memory ran out"), memory.told_in_a_sentence():
        torch.empty(2**60, dtype=torch.uint8)


def test_another_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), memory.told_in_a_sentence():
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("state context=1000000000000 pattern=LL", "context=1000000000000"),
        ("triangle context=60000000 pattern=A model.d_model=65536", "context=60000000"),
        ("state model.d_model=1000000", "model.d_model=1000000"),
        ("task mqar length=100000000000", "task.length=100000000000"),
        ("capacity task.length=100000000000", "task.length=100000000000"),
        ("capacity task.length=256 model.d_model=1000000", "model.d_model=1000000"),
        ("atlas jamba --context 1000000000000000000000000", "context=1000000000000000000000000"),
    ],
)
def test_other_commands_refuse_too_and_leave_nothing(hybrids, tmp_path, command, named):
    assert named in hybrids(*command.split()).complaint()
    assert list(tmp_path.iterdir()) == []
