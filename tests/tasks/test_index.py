"""Index: the law of symbols and places, bits."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from hybrids.task import Split
from hybrids_plugins.tasks.index import FIRST, Index

MIN_P = 1e-4


def drawn(task, count):
    """Symbols and places, from 0."""
    tokens = task.sample(torch.arange(count), seed=0, split=Split.TRAIN).tokens.numpy()[:, :-1]
    return tokens[:, :-1] - FIRST, tokens[:, -1] - task.first_place


def test_contexts_and_places_are_uniform_together():
    task = Index(num_tokens=3, num_symbols=3)
    symbols, places = drawn(task, 20_000)
    cell = (symbols @ [9, 3, 1]) * 3 + places
    assert stats.chisquare(np.bincount(cell, minlength=81)).pvalue > MIN_P


def test_every_place_of_a_longer_context_is_asked_as_often():
    symbols, places = drawn(Index(num_tokens=100), 20_000)
    assert stats.chisquare(np.bincount(places, minlength=100)).pvalue > MIN_P
    assert stats.chisquare(np.bincount(symbols[:, 57], minlength=64)).pvalue > MIN_P


def test_bits_are_the_entropy_of_all_answers():
    task = Index(num_tokens=3, num_symbols=4)
    contexts = itertools.product(range(FIRST, FIRST + 4), repeat=3)
    answers = {tuple(task.answer(c, [task.first_place + i]) for i in range(3)) for c in contexts}
    assert task.bits == pytest.approx(math.log2(len(answers)))
    assert (task.facts, task.chance_accuracy) == (3, 1 / 4)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.5])
def test_recalled_bits_are_the_information_through_a_symmetric_channel(error):
    """A store that returns each symbol, or with probability `error` any other, carries exactly this much."""
    channel = np.full((8, 8), error / 7)
    np.fill_diagonal(channel, 1 - error)
    information = 3 + (channel[0] * np.log2(np.where(channel[0] > 0, channel[0], 1))).sum()
    recalled = Index(num_tokens=5, num_symbols=8).recalled_bits(torch.tensor(error, dtype=torch.float64))
    assert recalled is not None
    assert recalled.item() == pytest.approx(5 * information, abs=1e-9)


def test_a_context_may_grow_to_the_places_of_the_vocabulary():
    task = Index(max_tokens=100)
    assert task.sizes == {"num_tokens": (32, 64)}
    assert task.resize(num_tokens=100).vocab_size == task.vocab_size == 4 + 64 + 100
    with pytest.raises(ValueError, match=r"num_tokens=101 must be from 1 to 100 \(max_tokens=100"):
        task.resize(num_tokens=101)
