"""Copying: the published format restated, its law, both ways to read answers, bits."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.task import Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.copying import Copying

MIN_P = 1e-4


def sample(task, count, split=Split.TRAIN):
    return task.sample(torch.arange(count), seed=0, split=split)


def published(symbols, delay):
    """Input and output of the original task, in words: the answer is wanted at the blanks after the request."""
    n = len(symbols)
    return [*symbols, *["."] * delay, "[COPY]", *["."] * n], [None] * (n + delay + 1) + symbols


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 30), st.integers(2, 50), st.integers(0, 2**32))
def test_examples_are_those_of_the_published_task(n, delay, num_symbols, seed):
    task = Copying(num_tokens=n, delay=delay, num_symbols=num_symbols)
    batch = task.sample(torch.arange(4), seed=seed, split=Split.VAL)
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        words = [task.spell(token) for token in tokens]
        inputs, outputs = published(words[:n], delay)
        assert all(word.startswith("s") and int(word[1:]) < num_symbols for word in words[:n])
        assert words == inputs
        assert [outputs[p] for p in positions] == [task.spell(token) for token in targets]
        assert set(positions) == {p for p, word in enumerate(outputs) if word is not None}


def test_shown_answers_follow_the_position_that_they_are_read_at():
    hidden, shown = (sample(Copying(shows_answers=shows), 50) for shows in (False, True))
    assert torch.equal(hidden.targets, shown.targets)
    assert torch.equal(shown.tokens.gather(1, shown.positions + 1), shown.targets)
    assert torch.equal(shown.positions, hidden.positions - 1)
    assert torch.equal(shown.tokens[:, :22], hidden.tokens[:, :22])


def test_symbols_are_uniform_and_independent():
    targets = sample(Copying(num_tokens=3, num_symbols=4), 20_000).targets.numpy() - 2
    assert stats.chisquare(np.bincount(targets @ [16, 4, 1], minlength=64)).pvalue > MIN_P


def test_bits_count_the_sequences():
    task = Copying(num_tokens=3, num_symbols=5)
    assert task.bits == pytest.approx(math.log2(len(list(itertools.product(range(5), repeat=3)))))
    assert (task.facts, task.chance_accuracy) == (3, 1 / 5)
    recalled = task.recalled_bits(torch.tensor(0.25).double())
    lost = 3 * (-0.25 * math.log2(0.25 / 4) - 0.75 * math.log2(0.75))
    assert recalled.item() == pytest.approx(task.bits - lost)


@pytest.mark.parametrize("context", [3, 4, 20, 33, 64, 1000])
def test_a_context_is_filled_in_proportion(context):
    task = Copying().at_context(context)
    assert task.length == context
    assert task.num_tokens == max(1, 10 * context // 32)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_tokens": 0}, "num_tokens=0 must be at least 1"),
        ({"delay": -1}, "delay=-1 must be at least 0"),
        ({"num_symbols": 1}, "num_symbols=1 must be from 2"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Copying(**kwargs)
    with pytest.raises(ValueError, match="context=2 must be at least 3"):
        Copying().at_context(2)


def test_test_examples_are_seldom_trained_on():
    """8**10 sequences: of 20,000, each is among 20,000 others with probability 2e-5."""
    assert measure_overlap(Copying(), 0, Split.TEST, num_train=20_000, num_eval=20_000) <= 4 / 20_000
