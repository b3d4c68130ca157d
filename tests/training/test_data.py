"""The examples a run sees: the same whatever the ranks, workers and restarts."""

from itertools import islice

import pytest
import torch
from scipy import stats

from hybrids import registry
from hybrids.task import Split
from hybrids.training.data import EvalIndices, TaskData, TrainIndices, measure_overlap
from hybrids.training.settings import DataSettings

TINY = {"vocab_size": 64, "length": 16, "num_pairs": 2}


def tiny_task(**settings):
    return registry.get("task", "mqar").cls(**{**TINY, **settings})


def steps(indices, count):
    return list(islice(indices, count))


def seen(steps):
    """The indices of all these steps of training, in order."""
    return torch.cat([step.indices for step in steps]).tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_batch_of_a_step(world_size):
    settings = DataSettings(batch_size=12)
    ranks = [steps(TrainIndices(settings, start=5, rank=rank, world_size=world_size), 3) for rank in range(world_size)]
    for step in range(3):
        assert seen(rank[step] for rank in ranks) == list(range((5 + step) * 12, (6 + step) * 12))
        assert {rank[step].number for rank in ranks} == {5 + step}


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # on machines of few cores
@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_workers_do_not_change_the_examples(num_workers):
    data = TaskData(tiny_task(), DataSettings(batch_size=6, num_workers=num_workers))
    assert seen(steps(data.train_dataloader(), 9)) == list(range(54))
    assert torch.cat(list(data.val_dataloader())).tolist() == list(range(1024))


def test_a_finite_training_set_repeats_in_order():
    indices = TrainIndices(DataSettings(batch_size=4, num_train_examples=6), start=0, rank=0, world_size=1)
    assert seen(steps(indices, 3)) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_gives_every_example_to_one_rank_and_as_many_batches_to_each(world_size):
    ranks = [list(EvalIndices(30, 12, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(torch.cat([torch.cat(rank) for rank in ranks]).tolist()) == list(range(30))
    assert len({len(rank) for rank in ranks}) == 1


def test_ranks_that_do_not_divide_a_size_are_refused():
    with pytest.raises(ValueError, match=r"data.batch_size=64 is not divisible by 3 ranks"):
        DataSettings().check_ranks(3)


@pytest.mark.parametrize("name", ["batch_size", "num_val_examples", "num_train_examples", "num_workers", "seed"])
def test_negative_sizes_are_refused(name):
    with pytest.raises(ValueError, match=rf"data.{name}=-1"):
        DataSettings(**{name: -1})


def test_batches_of_host_tasks_are_made_by_the_workers(monkeypatch):
    task = tiny_task()
    on_device = TaskData(task, DataSettings(batch_size=6)).sample(torch.arange(6), Split.TRAIN)
    monkeypatch.setattr(type(task), "generated_on", "host")
    batch = next(iter(TaskData(task, DataSettings(batch_size=6, num_workers=1)).train_dataloader()))
    assert torch.equal(batch.tokens, on_device.tokens)
    assert torch.equal(batch.targets, on_device.targets)


def test_overlap_is_all_of_a_tiny_space_and_none_of_a_large_one():
    few = tiny_task(vocab_size=6, length=4, num_pairs=1)  # 2 keys x 3 values, query slot and filler fixed or few
    assert measure_overlap(few, 0, Split.VAL, num_train=5000, num_eval=200) == 1.0
    assert measure_overlap(tiny_task(), 0, Split.VAL, num_train=2000, num_eval=200) == 0.0


SPACES = {"copying": 8**10, "function_composition": 8**8 * 4**4 * 4 * 2}
"""Distinct examples at the defaults, counted by hand, where they are few enough to meet again in 100,000."""


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("task"))
@pytest.mark.parametrize("split", [Split.VAL, Split.TEST])
def test_splits_share_no_examples_but_by_chance(name, split):
    task = registry.get("task", name).cls()
    shared = 100_000 * measure_overlap(task, 0, split, num_train=100_000, num_eval=100_000)
    expected = 100_000**2 / SPACES[name] if name in SPACES else 0.0
    assert shared == 0 or stats.poisson.sf(shared - 1, expected) > 1e-4


def test_the_data_seed_changes_the_examples_and_the_weight_seed_does_not(make_run):
    first, second = make_run("seed=1"), make_run("seed=2")
    other = make_run("data.seed=1")
    batches = [
        TaskData(run.task.build(), run.data).sample(torch.arange(4), Split.TRAIN).tokens
        for run in (first, second, other)
    ]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])
