"""What holds for every task in each of its forms: the oracle, devices, the sizes of its batches.

IsTree, whose oracle walks graphs, is in `is_tree/`; what the public checks of `hybrids check` look at is not here.
"""

import math

import pytest
import torch
from task_settings import SETTINGS

from hybrids import registry
from hybrids.errors import UserError
from hybrids.task import Split

CASES = [(name, settings) for name, several in SETTINGS.items() for settings in several]

SHAPES = {
    ("copying", ()): (32, 10),
    ("copying", (("shows_answers", True),)): (32, 10),
    ("function_evaluation", ()): (33, 1),
    ("induction", ()): (64, 1),
    ("mqar", (("length", 256), ("num_pairs", 64))): (256, 64),
    ("mqar_two_token_keys", ()): (64, 9),
    ("mqar_updates", ()): (64, 8),
    ("permutation_composition", ()): (48, 16),
    ("permutation_composition", (("answers", "online"),)): (32, 16),
    ("selective_copying", ()): (80, 16),
}
"""Tokens and answers of an example."""

ASKS_LESS = {"flip_flop", "mqar", "state_tracking", "state_based_recall"}
"""Tasks that ask some examples less than others."""


def build(name, settings):
    return registry.get("task", name).cls(**settings)


def test_every_task_is_here():
    assert {*SETTINGS, "is_tree"} == set(registry.names("task"))


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_oracle_solves_10_000_examples(name, settings):
    """Of all forms of a task together."""
    task = build(name, settings)
    for split in Split:
        batch = task.sample(torch.arange(10_000 // len(SETTINGS[name]) // 3 + 1), seed=split + 1, split=split)
        right = task.solve(batch.tokens, batch.positions) == batch.targets
        assert (right | ~batch.valid).all()
        assert batch.valid.all() or name in ASKS_LESS or "min_length" in settings


@pytest.mark.parametrize(("name", "settings"), [case for case in CASES if case[1].get("mode") != "retrieval"])
def test_no_answer_by_place_alone_beats_chance(name, settings):
    """The most frequent one of 2,000 examples, given to 2,000 others; traces of searches are mostly brackets."""
    task = build(name, settings)
    batch = task.sample(torch.arange(4000), seed=3, split=Split.TRAIN)
    seen, asked = (x.split(2000)[0] for x in (batch.targets, batch.targets.flip(0)))
    best = torch.stack([column.mode().values for column in seen.T])
    right = (asked == best)[batch.valid.flip(0)[:2000]].double().mean().item()
    luck = 4 * math.sqrt(task.chance_accuracy * (1 - task.chance_accuracy) / 2000) + 4 / 2000
    assert right <= task.chance_accuracy + luck


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_sampling_never_waits_for_the_device(name, settings):
    """On the meta device a tensor has a shape and no data, so that reading a value would raise."""
    task = build(name, settings)
    batch = task.sample(torch.arange(8, device="meta"), seed=0, split=Split.TRAIN)
    assert (batch.tokens.shape, batch.targets.shape) == ((8, task.length), (8, task.num_targets))


@pytest.mark.parametrize(("case", "shape"), SHAPES.items())
def test_examples_are_as_long_as_their_settings_say(case, shape):
    name, settings = case
    task = build(name, dict(settings))
    assert (task.length, task.num_targets) == shape


@pytest.mark.parametrize("name", [name for name in SETTINGS if registry.get("task", name).cls.choices])
def test_a_word_that_is_no_choice_is_refused_with_those_that_are(name):
    setting, words = next(iter(registry.get("task", name).cls.choices.items()))
    with pytest.raises(UserError) as refusal:
        build(name, {setting: words[0] + "x"})
    asked = f"did you mean {words[0]!r}? allowed: {', '.join(words)}"
    assert str(refusal.value) == f"{setting}={words[0] + 'x'!r} is unknown; {asked}"


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_cpu_and_cuda_give_the_same_examples(name, settings):
    task, index = build(name, settings), torch.arange(10_000)
    on_cpu, on_cuda = (task.sample(index.to(device), seed=5, split=Split.VAL) for device in ("cpu", "cuda"))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu[:4], on_cuda[:4], strict=True))
    assert all(torch.equal(on_cpu.slices[key], on_cuda.slices[key].cpu()) for key in on_cpu.slices)
