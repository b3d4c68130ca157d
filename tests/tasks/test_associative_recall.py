"""Associative recall: both laws, and what an exact answerer has to store."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from scipy import stats

from hybrids.task import Split
from hybrids_plugins.tasks.associative_recall import FIRST, AssociativeRecall

MIN_P = 1e-4


def drawn(task, count):
    """Contexts and symbols asked for, from 0."""
    tokens = task.sample(torch.arange(count), seed=0, split=Split.TRAIN).tokens.numpy()[:, :-1] - FIRST
    return tokens[:, :-1], tokens[:, -1]


def p_of_uniform(examples, possible):
    """p of the claim that all possible examples are as likely, and no other occurs."""
    counts = Counter(map(tuple, examples.tolist()))
    assert set(counts) <= set(possible)
    return stats.chisquare([counts[example] for example in possible]).pvalue


def test_distinct_symbols_are_asked_for_uniformly():
    context, query = drawn(AssociativeRecall(num_tokens=3, num_symbols=4), 20_000)
    possible = [(*symbols, q) for symbols in itertools.permutations(range(4), 3) for q in symbols[:2]]
    assert p_of_uniform(np.column_stack([context, query]), possible) > MIN_P


def test_otherwise_the_symbol_asked_for_alone_is_unique():
    context, query = drawn(AssociativeRecall(num_tokens=4, num_symbols=3, distinct_symbols=False), 20_000)
    contexts = itertools.product(range(3), repeat=4)
    possible = [(*symbols, q) for symbols in contexts for q in symbols[:3] if symbols.count(q) == 1]
    assert p_of_uniform(np.column_stack([context, query]), possible) > MIN_P


@pytest.mark.parametrize("distinct", [True, False])
def test_every_place_but_the_last_is_asked_for_as_often(distinct):
    context, query = drawn(AssociativeRecall(num_tokens=50, num_symbols=64, distinct_symbols=distinct), 20_000)
    asked = context == query[:, None]
    assert (asked.sum(1) == 1).all()
    assert stats.chisquare(asked.sum(0)[:-1]).pvalue > MIN_P
    assert asked[:, -1].sum() == 0


def test_bits_count_the_contexts_that_one_store_cannot_serve_together():
    """An exact answerer in one state is a map from symbols to symbols: try all of them at 4 symbols."""
    contexts = list(itertools.permutations(range(4), 3))
    maps = itertools.product(range(4), repeat=4)
    served = max(sum(m[a] == b and m[b] == c for a, b, c in contexts) for m in maps)
    assert AssociativeRecall(num_tokens=3, num_symbols=4).bits == pytest.approx(math.log2(len(contexts) / served))


ENCODERS = {
    "nothing": lambda c: (),
    "first": lambda c: c[0],
    "second": lambda c: c[1],
    "ends": lambda c: (c[0], c[-1]),
    "set": lambda c: tuple(sorted(c)),
    "first pair": lambda c: c[:2],
    "all": lambda c: c,
    "cycle": lambda c: c[c.index(min(c)) :] + c[: c.index(min(c))],
    "parity": lambda c: sum(c) % 2,
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(3, 4), (4, 4), (3, 6)])
def test_no_store_recalls_more_than_it_holds(name, size):
    n, v = size
    contexts, states = list(itertools.permutations(range(v), n)), Counter()
    followers = defaultdict(Counter)
    for context in contexts:
        state = ENCODERS[name](context)
        states[state] += 1
        for a, b in itertools.pairwise(context):
            followers[state, a][b] += 1
    right = sum(max(counts.values()) for counts in followers.values()) / len(contexts) / (n - 1)
    held = math.log2(len(contexts)) - sum(c * math.log2(c) for c in states.values()) / len(contexts)
    recalled = AssociativeRecall(num_tokens=n, num_symbols=v).recalled_bits(torch.tensor(1 - right).double())
    assert recalled is not None
    assert recalled.item() <= held + 1e-9
    if name == "all" or (name == "cycle" and n == v):
        assert right == 1
    if name == "cycle" and n == v:
        assert recalled.item() == pytest.approx(held), "the bound is met"


def test_repeated_symbols_have_no_number_of_bits():
    task = AssociativeRecall(distinct_symbols=False)
    assert (task.bits, task.recalled_bits(torch.tensor(0.1)), task.facts) == (None, None, 31)


def test_distinct_symbols_have_to_be_there():
    with pytest.raises(ValueError, match=r"num_tokens=257 must be from 2 to 256 .*num_symbols=256"):
        AssociativeRecall(num_tokens=257)
    assert AssociativeRecall(num_tokens=257, distinct_symbols=False).num_tokens == 257
    assert AssociativeRecall().sizes == {"num_tokens": (32, 64, 128, 256)}
