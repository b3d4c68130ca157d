"""Induction heads: the published format restated, its law, bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.task import Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.induction import Induction

MIN_P = 1e-4


def sample(task, count, split=Split.TRAIN):
    return task.sample(torch.arange(count), seed=0, split=split)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 60), st.integers(2, 50), st.integers(0, 2**32))
def test_examples_are_those_of_the_published_task(length, num_symbols, seed):
    """The key stands once before the end and once at it; the symbol after the first is wanted at the second."""
    task = Induction(length=length, num_symbols=num_symbols)
    batch = task.sample(torch.arange(4), seed=seed, split=Split.VAL)
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        words = [task.spell(token) for token in tokens]
        before, after, end = " ".join(words).split("[KEY]")
        assert end == ""
        assert len(before.split()) + len(after.split()) == length - 2
        assert all(int(word[1:]) < num_symbols for word in (before + after).split())
        assert positions == [length - 1]
        assert [task.spell(token) for token in targets] == after.split()[:1]


def test_keys_and_symbols_are_uniform_together():
    """Length 5 and two symbols: three places of the key, and three symbols."""
    tokens = sample(Induction(length=5, num_symbols=2), 20_000).tokens.numpy()[:, :4]
    places = (tokens == 0).argmax(1)
    symbols = np.array([row[row > 0] for row in tokens]) - 1
    assert stats.chisquare(np.bincount(places * 8 + symbols @ [4, 2, 1], minlength=24)).pvalue > MIN_P


def test_the_key_may_be_anywhere_before_its_symbol():
    tokens = sample(Induction(), 20_000).tokens.numpy()
    assert stats.chisquare(np.bincount((tokens == 0).argmax(1), minlength=62)).pvalue > MIN_P


def test_one_symbol_has_to_be_kept():
    task = Induction(num_symbols=4)
    assert (task.facts, task.bits, task.chance_accuracy) == (1, 2, 1 / 4)
    assert task.recalled_bits(torch.tensor(0.75)).item() == 0


def test_the_published_size_has_the_published_vocabulary():
    task = Induction(length=256)
    assert (task.vocab_size, task.length) == (16, 256)
    assert Induction().sizes == {"length": (64, 128, 256, 512, 1024)}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"length": 2}, "length=2 must be from 3"), ({"num_symbols": 1}, "num_symbols=1 must be from 2")],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Induction(**kwargs)


def test_no_test_example_was_trained_on():
    assert measure_overlap(Induction(), 0, Split.TEST, num_train=20_000, num_eval=20_000) == 0
