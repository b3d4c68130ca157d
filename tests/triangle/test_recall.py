"""Recalled bits, read through a saved state, and through one that is rounded."""

import pytest
import torch

from hybrids.model.block import Choice, Letter
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.task import Split
from hybrids.triangle import quantise
from hybrids.triangle.intervals import LawBroken, check_law
from hybrids.triangle.recall import EffectiveBits, effective_bits, measure_recall, smallest_sufficient
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall


def build(vocab_size, pattern="LA", *, tie_embeddings=False):
    torch.manual_seed(0)
    letters = {
        letter: Letter(Choice(get("mixer", name).cls, settings), None)
        for letter, name, settings in (("L", "gated_delta_net", {"num_heads": 1}), ("A", "attention", {"num_heads": 1}))
    }
    return Model(vocab_size, 16, Pattern.parse(pattern), letters, tie_embeddings=tie_embeddings)


def small_task(**settings):
    return MultiQueryAssociativeRecall(vocab_size=12, length=16, num_pairs=2, distinct_values=False, **settings)


@pytest.mark.parametrize("pattern", ["LA", "AL", "A"])
def test_reading_through_the_saved_state_changes_no_answer(pattern):
    task, model = small_task(), build(12, pattern)
    batch = task.sample(torch.arange(64), seed=5, split=Split.TEST)
    _, correct = model.answer(batch)
    found = measure_recall(model, task, seed=5, num_examples=64, batch_size=20)
    assert 0 < found.recalled.error < 1
    assert found.recalled.error == pytest.approx(1 - correct.double().mean().item())


def test_the_state_is_that_of_one_sequence_after_its_facts():
    found = measure_recall(build(12, "A"), small_task(), seed=0, num_examples=40, batch_size=8)
    assert found.state_elements == 2 * 16 * 4  # keys and values of 4 tokens
    assert found.state_bits == 32 * found.state_elements
    assert found.offered == pytest.approx(2 * 2.584962500721156)


def test_a_stack_without_a_state_uses_none_of_it():
    torch.manual_seed(0)
    model = Model(12, 16, Pattern.parse("F"), {"F": Letter(None, Choice(get("channel", "mlp").cls, {}))})
    found = measure_recall(model, small_task(), seed=0, num_examples=40, batch_size=8)
    assert (found.state_bits, found.utilisation) == (0, 0)


class Leaky(MultiQueryAssociativeRecall):
    """Shows each value where it is asked for."""

    def sample(self, index, *, seed, split):
        batch = super().sample(index, seed=seed, split=split)
        return batch._replace(tokens=batch.tokens.scatter(1, batch.positions, batch.targets))


def echo(vocab_size):
    """A model that answers with the token that it is shown: its layers write nothing."""
    model = build(vocab_size, "A", tie_embeddings=True)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
        model.embedding.weight.copy_(torch.nn.functional.normalize(model.embedding.weight))
    return model


def test_a_leak_raises_the_alarm():
    """A state of 16 features in 2 bits holds fewer than the 40 pairs' 281 bits, all of which are 'recalled'."""
    task = Leaky(vocab_size=256, length=160, num_pairs=40, distinct_values=False)
    found = measure_recall(echo(256), task, seed=0, num_examples=200, batch_size=50)
    assert found.recalled.error == 0
    check_law(found.recalled.surely, found.state_bits)  # keys and values of all 80 tokens could hold them
    with pytest.raises(LawBroken):
        check_law(found.recalled.surely, 2 * 16)


def test_tasks_without_bits_are_refused():
    mixture = MultiQueryAssociativeRecall(length=64, num_pairs=8, segments=[[64, 8, 1], [64, 4, 1]])
    with pytest.raises(ValueError, match="has no bits with these settings"):
        measure_recall(build(8192), mixture, seed=0, num_examples=4, batch_size=4)


def test_integers_and_empty_tensors_stay():
    cache = (((torch.arange(3), torch.zeros(2, 0), torch.tensor([0.3, -1.0])),),)
    numbers, empty, rest = quantise.fit(cache, 8)(cache)[0][0]
    assert torch.equal(numbers, torch.arange(3)) and empty.shape == (2, 0)
    assert torch.equal(rest, cache[0][0][2])


@pytest.fixture(scope="module")
def trained():
    """A model that has learned the small task, in about a second."""
    task, model = small_task(), build(12, tie_embeddings=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(200):
        loss, _ = model.answer(task.sample(torch.arange(64 * step, 64 * step + 64), seed=0, split=Split.TRAIN))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task, model


def test_many_bits_keep_what_is_recalled_and_one_does_not(trained):
    task, model = trained
    settings = {"seed": 1, "num_examples": 256, "batch_size": 128}
    whole = measure_recall(model, task, **settings)
    assert whole.recalled.bits > 0.9 * whole.offered
    check_law(whole.recalled.surely, whole.state_bits)
    curve = effective_bits(model, task, levels=(16, 8, 1), **settings)
    assert [entry.total for entry in curve] == [bits * whole.state_elements for bits in (16, 8, 1)]
    assert all(entry.recalled.bits > 0.95 * whole.recalled.bits for entry in curve[:2])
    assert curve[2].recalled.bits < 0.9 * whole.recalled.bits
    best = smallest_sufficient(curve, whole.recalled.bits, kept=0.95)
    assert best is not None and best.bits == 8


def test_the_smallest_state_that_is_enough():
    told = measure_recall(build(12), small_task(), seed=0, num_examples=8, batch_size=8).recalled
    curve = [EffectiveBits(b, 10 * b, told._replace(bits=r)) for b, r in ((16, 50.0), (8, 49.8), (4, 49.5), (2, 30.0))]
    best = smallest_sufficient(curve, 50.0)
    assert best is not None and best.bits == 4
    assert smallest_sufficient(curve, 80.0) is None


def test_what_a_larger_state_does_not_keep_is_not_enough():
    told = measure_recall(build(12), small_task(), seed=0, num_examples=8, batch_size=8).recalled
    curve = [EffectiveBits(b, 10 * b, told._replace(bits=r)) for b, r in ((1, 50.0), (4, 49.0), (8, 49.6), (16, 50.0))]
    best = smallest_sufficient(curve, 50.0)
    assert best is not None and best.bits == 8
    assert smallest_sufficient([entry._replace(recalled=told._replace(bits=49.0)) for entry in curve[3:]], 50.0) is None
