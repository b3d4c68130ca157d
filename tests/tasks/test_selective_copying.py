"""Selective copying: the published generator restated, its law, bits."""

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
from hybrids_plugins.tasks.selective_copying import SelectiveCopying

MIN_P = 1e-4


def sample(task, count, split=Split.TRAIN):
    return task.sample(torch.arange(count), seed=0, split=split)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 30), st.integers(2, 50), st.integers(0, 2**32))
def test_examples_are_those_of_the_published_task(n, num_noise, num_symbols, seed):
    """Noise with n symbols in it, then n markers; at these the symbols are wanted, in order."""
    task = SelectiveCopying(num_tokens=n, num_noise=num_noise, num_symbols=num_symbols)
    batch = task.sample(torch.arange(4), seed=seed, split=Split.VAL)
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        words = [task.spell(token) for token in tokens]
        symbols = [word for word in words if word[0] == "s"]
        assert all(int(word[1:]) < num_symbols for word in symbols)
        assert len(symbols) == n
        assert words[: n + num_noise].count(".") == num_noise
        assert words[n + num_noise :] == ["[COPY]"] * n
        assert positions == list(range(n + num_noise, 2 * n + num_noise))
        assert [task.spell(token) for token in targets] == symbols


def test_every_choice_of_places_is_as_likely():
    tokens = sample(SelectiveCopying(num_tokens=3, num_noise=4), 20_000).tokens.numpy()[:, :7]
    choices = (tokens > 1) @ (2 ** np.arange(7))
    possible = [sum(2**i for i in places) for places in itertools.combinations(range(7), 3)]
    assert set(choices) <= set(possible)
    assert stats.chisquare([(choices == choice).sum() for choice in possible]).pvalue > MIN_P


def test_symbols_are_uniform_and_independent_of_their_places():
    batch = sample(SelectiveCopying(num_tokens=2, num_noise=2, num_symbols=4), 20_000)
    symbols = (batch.targets.numpy() - 2) @ [4, 1]
    first = (batch.tokens.numpy() > 1).argmax(1)
    assert stats.chisquare(np.bincount(symbols, minlength=16)).pvalue > MIN_P
    table = [np.bincount(symbols[first == place], minlength=16) for place in range(3)]
    assert stats.chi2_contingency(table).pvalue > MIN_P


def test_bits_count_the_sequences():
    task = SelectiveCopying(num_tokens=3, num_symbols=5)
    assert task.bits == pytest.approx(math.log2(len(list(itertools.product(range(5), repeat=3)))))
    assert (task.facts, task.chance_accuracy) == (3, 1 / 5)
    recalled = task.recalled_bits(torch.tensor(0.25).double())
    lost = 3 * (-0.25 * math.log2(0.25 / 4) - 0.75 * math.log2(0.75))
    assert recalled.item() == pytest.approx(task.bits - lost)


def test_the_published_size_has_the_published_vocabulary():
    task = SelectiveCopying(num_tokens=16, num_noise=4080)
    assert (task.vocab_size, task.length - task.num_tokens) == (16, 4096)


@pytest.mark.parametrize("context", [2, 3, 20, 33, 81, 1000])
def test_a_context_is_filled_in_proportion(context):
    task = SelectiveCopying().at_context(context)
    assert task.length == context
    assert task.num_tokens == max(1, 16 * context // 80)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_tokens": 0}, "num_tokens=0 must be from 1"),
        ({"num_tokens": 2**24}, rf"num_tokens={2**24} must be from 1 to {2**24 - 48} \(num_noise=48\)"),
        ({"num_noise": -1}, "num_noise=-1 must be at least 0"),
        ({"num_symbols": 1}, "num_symbols=1 must be from 2"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SelectiveCopying(**kwargs)
    with pytest.raises(ValueError, match="context=1 must be at least 2"):
        SelectiveCopying().at_context(1)


def test_no_test_example_was_trained_on():
    assert measure_overlap(SelectiveCopying(), 0, Split.TEST, num_train=20_000, num_eval=20_000) == 0
