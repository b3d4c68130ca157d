"""A curriculum: the sizes of an example follow from its step, and what cannot be trained on is refused."""

import functools
import re
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch
from curricula import STAGES
from hypothesis import given
from hypothesis import strategies as st

from hybrids.config.compose import spell_overrides
from hybrids.errors import UserError
from hybrids.task import Batch, Split
from hybrids.training import memory
from hybrids.training.curriculum import Curriculum
from hybrids.training.data import TaskData, TrainIndices
from hybrids.training.settings import CurriculumSettings, DataSettings
from hybrids.training.train import train


@pytest.fixture
def make_run(make_run):
    return functools.partial(make_run, "pattern=LA")


@pytest.fixture
def data_of(make_run):
    """The data of a run and its curriculum, which no trainer is attached to."""

    def build(*overrides):
        run = make_run(*overrides)
        task = run.task.build()
        return TaskData(task, run.data, Curriculum.of(run, task))

    return build


def batches(data, count, *, rank=0, world_size=1, start=0):
    """What a rank trains on in the next steps."""
    indices = TrainIndices(data.settings, start=start, rank=rank, world_size=world_size)
    return [data.on_after_batch_transfer(step, 0) for step in islice(indices, count)]


@pytest.fixture
def training(monkeypatch):
    """Data that believes in being trained on."""
    monkeypatch.setattr(TaskData, "_split", lambda self: Split.TRAIN)


def assert_equal(one, other):
    for name in ("tokens", "positions", "targets", "valid"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_together_have_the_examples_of_one_at_any_start(data_of, training, world_size):
    data = data_of(*STAGES)
    for start in (0, 3):
        ranks = [batches(data, 6, rank=rank, world_size=world_size, start=start) for rank in range(world_size)]
        for step, whole in enumerate(batches(data, 9)[start : start + 6]):
            parts = [rank[step] for rank in ranks]
            assert_equal(Batch(*(torch.cat(column) for column in list(zip(*parts, strict=True))[:4]), {}), whole)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_make_the_examples_of_a_task_that_is_generated_on_the_host(data_of, training, monkeypatch, num_workers):
    expected = batches(data_of(*STAGES), 9)
    data = data_of(*STAGES, f"data.num_workers={num_workers}")
    monkeypatch.setattr(type(data.task), "generated_on", "host")
    for made, whole in zip(islice(data.train_dataloader(), 9), expected, strict=False):
        assert_equal(made, whole)


def test_an_example_is_that_of_the_resized_task_under_its_index(data_of, training):
    data = data_of(*STAGES, "data.seed=3")
    first, last = batches(data, 6)[::5]
    sizes = {"length": 8, "num_pairs": 1}
    assert_equal(first, data.task.resize(**sizes).sample(torch.arange(12), seed=3, split=Split.TRAIN))
    assert_equal(last, data.task.sample(torch.arange(60, 72), seed=3, split=Split.TRAIN))


def test_a_finite_training_set_has_so_many_examples_of_each_size(data_of, training):
    seen = batches(data_of("++curriculum.sizes.length=[8]", "task.num_pairs=1", "curriculum.steps=[3]",
                           "data.num_train_examples=24"), 6)  # fmt: skip
    assert [batch.tokens.shape[1] for batch in seen] == [8, 8, 8, 16, 16, 16]
    assert torch.equal(seen[0].tokens, seen[2].tokens) and not torch.equal(seen[0].tokens, seen[1].tokens)
    assert torch.equal(seen[3].tokens, seen[5].tokens) and not torch.equal(seen[3].tokens, seen[4].tokens)


@given(
    steps=st.lists(st.integers(1, 400), max_size=4, unique=True).map(sorted),
    at=st.integers(0, 500),
    seed=st.integers(0, 2**31),
)
def test_the_stage_of_a_step_is_the_number_of_boundaries_behind_it(usual, steps, at, seed):
    run, task = usual
    settings = CurriculumSettings(sizes={"num_pairs": ["1-2"] * (len(steps) + 1)}, steps=steps)
    run = run(settings, seed)
    curriculum = Curriculum.of(run, task)
    assert curriculum.logged_at(at)["stage"] == 1 + sum(step <= at for step in steps)
    assert curriculum.logged_at(at)["num_pairs"] == curriculum.task_at(at).num_pairs
    assert Curriculum.of(run, task).logged_at(at) == curriculum.logged_at(at)


@pytest.fixture(scope="module")
def usual(make_run_in, tmp_path_factory):
    """A run of 1,000 steps under other settings of the curriculum and another seed of the data, and its task."""
    run = make_run_in(tmp_path_factory.mktemp("runs"), "trainer.max_steps=1000")
    return lambda settings, seed: replace(run, curriculum=settings, data=DataSettings(seed=seed)), run.task.build()


def test_a_step_draws_each_of_its_sizes_as_often(usual):
    run, task = usual
    curriculum = Curriculum.of(run(CurriculumSettings(sizes={"length": [[4, 8, 12, 16]]}), 0), task.resize(num_pairs=1))
    drawn = [curriculum.task_at(step).length for step in range(1600)]
    for length in (4, 8, 12, 16):  # 5 standard deviations of a binomial
        assert abs(drawn.count(length) - 400) < 5 * (1600 * 0.25 * 0.75) ** 0.5
    pairs = list(pairwise(drawn))
    assert abs(pairs.count((4, 8)) - 100) < 5 * (1600 * (1 / 16) * (15 / 16)) ** 0.5


@pytest.mark.parametrize(
    ("sizes", "steps", "max_steps", "task"),
    [
        ({"length": [8, 16, 32, 64]}, [500, 1500, 3500, 7500], 20_000, {"length": 128}),
        ({"length": ["4-40"]}, [], 20_000, {"length": 40}),
        ({"length": ["4-40", "4-80", "4-120", "4-160"]}, [10_000, 20_000, 30_000], 40_000, {"length": 160}),
    ],
    ids=["stages", "lengths up to 40", "a maximum that rises from 40 to 160"],
)
def test_published_schedules_can_be_said(make_run, sizes, steps, max_steps, task):
    """Of arXiv:2604.03444, 2411.12537 and 2603.15569, on a task that has a length: whose shortest has 4 tokens."""
    spelt = [f"++curriculum.sizes.{name}=[{','.join(map(str, values))}]" for name, values in sizes.items()]
    run = make_run(*spelt, f"curriculum.steps={steps}", f"trainer.max_steps={max_steps}", "task=induction",
                   f"task.length={task['length']}", base=("logger=csv", "model.d_model=16"))  # fmt: skip
    curriculum = Curriculum.of(run, run.task.build())
    lengths = [[chosen["length"] for chosen in stage.sizes] for stage in curriculum.stages]
    assert [stage.start for stage in curriculum.stages] == [0, *steps]
    if len(sizes["length"]) == len(steps):
        assert lengths == [[8], [16], [32], [64], [128]]
    else:
        assert lengths == [list(range(4, most + 1)) for most in (40, 80, 120, 160)[: len(lengths)]]
    assert {task.length for task in curriculum.stages[-1].tasks} == set(lengths[-1])


def test_another_curriculum_is_another_run_and_another_spelling_is_not(usual):
    run, task = usual
    assert task.num_pairs == 2

    def name(values, steps=(2,)):
        return run(CurriculumSettings(sizes={"num_pairs": values}, steps=list(steps)), 0).id

    none = run(CurriculumSettings(), 0).id
    assert len({none, name([1]), name([1], [3]), name(["1-2"]), name([1, "1-2"])}) == 5
    assert name([1]) == name([1, 2]) == name([[1], [2]]) == name(["1-1", 2])
    assert name(["1-2", 2]) == name([[1, 2], 2])
    assert name([2], []) == name([2, 2]) == none


def test_a_mixture_of_the_task_is_its_last_stage(make_run):
    run = make_run("++curriculum.sizes.num_pairs=[1]", "curriculum.steps=[4]", "vary_facts=true")
    task = run.task.build()
    first, last = (stage.tasks[0] for stage in Curriculum.of(run, task).stages)
    assert (first.slice_values["num_pairs"], last) == ((1,), task)
    assert task.slice_values["num_pairs"] == (1, 2)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "sizes.num_pair=[1] steps=[2]",
            "curriculum.sizes.num_pair is no size of this task; did you mean 'num_pairs'?",
        ),
        (
            "sizes.vocab_size=[32] steps=[2]",
            "curriculum.sizes.vocab_size is no size of this task; allowed: length, num",
        ),
        ("sizes.num_pairs=[1,8] steps=[2,4]", "stage 2 of the curriculum (num_pairs=8): num_pairs=8 do not fit into"),
        ("sizes.num_pairs=[1] steps=[4,2]", "curriculum.steps=[4, 2] must ascend from 1 on"),
        ("sizes.num_pairs=[1,1] steps=[2,2]", "curriculum.steps=[2, 2] must ascend from 1 on"),
        ("sizes.num_pairs=[1] steps=[0]", "curriculum.steps=[0] must ascend from 1 on"),
        ("sizes.num_pairs=[1] steps=[8]", "curriculum.steps=[8] must all be below trainer.max_steps=8"),
        ("sizes.num_pairs=[1] steps=[2,4]", "curriculum.sizes.num_pairs=[1] has 1 stages; allowed: 2 or 3"),
        ("sizes.num_pairs=[1,1,1] steps=[2]", "curriculum.sizes.num_pairs=[1, 1, 1] has 3 stages; allowed: 1 or 2"),
        ("sizes.num_pairs=[1,2] sizes.length=[8] steps=[2]", "stages of different number: 2 of num_pairs, 1 of length"),
        (
            "sizes.num_pairs=[1,1] steps=[2]",
            "the last stage of curriculum.sizes must have the sizes of the task (num_p",
        ),
        ("steps=[2]", "curriculum.steps=[2] needs the sizes"),
        ("sizes.num_pairs=[]", "curriculum.sizes.num_pairs=[] is empty"),
        ("sizes.num_pairs=[[],2] steps=[2]", "curriculum.sizes.num_pairs: [] is no stage"),
        (
            "sizes.num_pairs=[few] steps=[2]",
            "curriculum.sizes.num_pairs: 'few' is no value of a stage; allowed: a whole",
        ),
        ("sizes.num_pairs=[1.5] steps=[2]", "curriculum.sizes.num_pairs: 1.5 is no value of a stage"),
        ("sizes.num_pairs=[2-1] steps=[2]", "curriculum.sizes.num_pairs: '2-1' is no value of a stage"),
        ("sizes.num_pairs=[1-999999999999] steps=[2]", "1-999999999999 are too many values; allowed: 1,000"),
        (
            "sizes.num_pairs=[[1,2]] sizes.length=[[8,12,16]] steps=[2]",
            "curriculum.sizes: stage 1 has values of different number, 2 of num_pairs, 3 of length",
        ),
        ("sizes.length=[1000000000000] steps=[2]", "this needs at least"),
    ],
)
def test_misuse_is_refused_in_a_sentence(make_run, overrides, sentence):
    given = [f"{'++' if 'sizes' in text else ''}curriculum.{text}" for text in overrides.split()]
    with pytest.raises(UserError, match=re.escape(sentence)):
        make_run(*given)


def test_a_vocabulary_that_changes_with_the_size_is_refused(make_run, monkeypatch):
    cls = make_run().task.cls
    monkeypatch.setattr(cls, "resize", lambda self, **sizes: self.replace(**sizes, vocab_size=32))
    with pytest.raises(
        UserError, match=r"stage 1 of the curriculum \(num_pairs=1\): its vocabulary is 32 there and 64"
    ):
        make_run("++curriculum.sizes.num_pairs=[1]", "curriculum.steps=[2]")


def test_more_lengths_than_the_compiler_takes_are_refused(make_run):
    many = ("++curriculum.sizes.length=[[4,6,8,10,12,14,16,18,20]]", "task.num_pairs=1", "task.length=20")
    assert make_run(*many).notes
    with pytest.raises(UserError, match=r"compiles a step for each length, and the curriculum has 9 .* at most 8"):
        make_run(*many, "trainer.compile=true")


def test_memory_is_that_of_the_longest_examples(make_run, monkeypatch):
    """4,096 tokens x 12 examples x 3 vectors of 16 numbers are 9 MB; all the rest of the tiny run is below 1 MB."""
    run = make_run("++curriculum.sizes.length=[4096]", "curriculum.steps=[2]")
    monkeypatch.setattr(memory, "host_memory", lambda: 4_000_000)
    with pytest.raises(UserError, match=r"a batch of training; allowed: .*curriculum.sizes.length"):
        train(run)
    memory.check_run(make_run(), run.task.build(), 16)


def test_one_value_is_spelt_without_brackets():
    spelt = spell_overrides(["curriculum.sizes.length=3-40", "curriculum.sizes.num_pairs=2", "curriculum.steps=7"])
    assert spelt == ["++curriculum.sizes.length=[3-40]", "++curriculum.sizes.num_pairs=[2]", "curriculum.steps=[7]"]
