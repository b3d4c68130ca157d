"""c-gram retrieval: what is asked for stands once, and the law says how that is made so."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from hybrids.rng import Draws
from hybrids.task import Split
from hybrids_plugins.tasks.cgram_retrieval import FIRST, CGramRetrieval

MIN_P = 1e-4


def drawn(task, count):
    """Contexts and questions, from 0."""
    tokens = task.sample(torch.arange(count), seed=0, split=Split.TRAIN).tokens.numpy()[:, :-1] - FIRST
    return tokens[:, : task.num_tokens], tokens[:, task.num_tokens :]


def occurrences(context, query):
    windows = np.lib.stride_tricks.sliding_window_view(context, query.shape[1], axis=1)
    return (windows == query[:, None]).all(2)


def stated_law(n, c, v):
    """Probability of each (context, question), by going through all that can be drawn."""
    law, starts = Counter(), n - c + 1
    for context, place in itertools.product(itertools.product(range(v), repeat=n), range(starts)):
        query = context[place : place + c - 1]
        hit = set()
        for start in range(n - c + 2):
            if start != place and context[start : start + c - 1] == query:
                hit.add(start if start < place else start + c - 2)
        outside = sorted(set(range(v)) - set(query))
        options = [outside if i in hit else [context[i]] for i in range(n)]
        for changed in itertools.product(*options):
            law[(*changed, *query)] += 1 / v**n / starts / len(outside) ** len(hit)
    return law


@pytest.mark.parametrize(("n", "c", "v"), [(3, 2, 3), (4, 3, 3), (5, 4, 4), (5, 3, 3)])
def test_examples_have_the_stated_law(n, c, v):
    law = stated_law(n, c, v)
    context, query = drawn(CGramRetrieval(num_tokens=n, gram_length=c, num_symbols=v), 40_000)
    counts = Counter(map(tuple, np.column_stack([context, query]).tolist()))
    assert set(counts) <= set(law)
    expected = np.array(list(law.values())) * 40_000
    observed = np.array([counts[example] for example in law])
    rare = expected < 5  # chi-square wants larger cells, so these are one
    cells = [np.append(x[~rare], x[rare].sum())[: len(x[~rare]) + rare.any()] for x in (observed, expected)]
    assert stats.chisquare(*cells).pvalue > MIN_P


@pytest.mark.parametrize(("n", "c", "v"), [(40, 3, 3), (200, 3, 16), (200, 2, 3), (64, 6, 6), (300, 4, 4)])
def test_what_is_asked_for_stands_once_and_anywhere(n, c, v):
    context, query = drawn(CGramRetrieval(num_tokens=n, gram_length=c, num_symbols=v), 4000)
    stands = occurrences(context, query)
    assert (stands.sum(1) == 1).all()
    places = stands.argmax(1)
    assert places.max() <= n - c
    assert stats.chisquare(np.bincount(places // 2)[: (n - c + 1) // 2]).pvalue > MIN_P


def test_few_symbols_are_replaced():
    """They are where the drawing without replacement differs: as many as the docstring says."""
    task, index = CGramRetrieval(num_tokens=64), torch.arange(4000)
    raw = task.sample(index, seed=0, split=Split.TRAIN).tokens[:, :64].numpy() - FIRST
    first = Draws.of(index, seed=0, stream=Split.TRAIN).integers("symbols", 64, 16).numpy()
    rate, expected = (raw != first).sum() / 4000, 61 / 16**2
    assert abs(rate - expected) < 5 * (expected / 4000) ** 0.5


def test_symbols_stay_close_to_uniform():
    context, _ = drawn(CGramRetrieval(num_tokens=64), 2000)
    share = np.bincount(context.ravel(), minlength=16) / context.size
    assert abs(share - 1 / 16).max() < 5 * (1 / 16 / context.size) ** 0.5
    answers = CGramRetrieval().sample(torch.arange(20_000), seed=0, split=Split.VAL).targets[:, 0].numpy() - FIRST
    assert stats.chisquare(np.bincount(answers, minlength=16)).pvalue > MIN_P


def test_it_has_facts_but_no_number_of_bits():
    task = CGramRetrieval(num_tokens=20, gram_length=4)
    assert (task.facts, task.bits, task.recalled_bits(torch.tensor(0.1))) == (17, None, None)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"gram_length": 1}, "gram_length=1 must be from 2"),
        ({"gram_length": 17}, r"num_symbols=16 must be from 17 to \d+ \(gram_length=17\)"),
        ({"gram_length": 10, "num_tokens": 9}, r"num_tokens=9 must be from 10 to \d+ \(gram_length=10\)"),
    ],
)
def test_sizes_without_a_unique_question_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CGramRetrieval(**kwargs)
