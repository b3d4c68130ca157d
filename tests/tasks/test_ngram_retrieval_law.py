"""N-gram retrieval: what is drawn has the stated law, by enumeration, and that of the published algorithm.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import math
import random
from collections import Counter, defaultdict
from functools import partial
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from drawing import draw_examples
from scipy import stats

from hybrids.task import Batch
from hybrids_plugins.tasks.ngram_retrieval import NgramRetrieval

MIN_P = 1e-4
draw = partial(draw_examples, NgramRetrieval)


def law(num_symbols: int, length: int, n: int, m: int) -> dict[tuple, float]:
    """The stated probability of the symbols of sequence and query, by enumeration."""
    probability, symbols = defaultdict(float), range(num_symbols)
    places = range(length - n - m + 1)
    for sequence in product(symbols, repeat=length):
        grams = Counter(sequence[i : i + n] for i in range(length - n + 1))
        unique = [i for i in places if grams[sequence[i : i + n]] == 1]
        for i in unique:
            probability[sequence + sequence[i : i + n]] += 1 / len(unique)
        for i in [] if unique else places:
            choices = [[x] if x != sequence[i] or j == i else set(symbols) - {x} for j, x in enumerate(sequence)]
            changed = list(product(*choices))
            for other in changed:
                probability[other + other[i : i + n]] += 1 / len(places) / len(changed)
    return {outcome: p / num_symbols**length for outcome, p in probability.items()}


def parts(batch: Batch, length: int, n: int) -> np.ndarray:
    """Symbols of sequence and query, of suffix examples of one length: columns of the stated format."""
    tokens = batch.tokens.numpy() - 3
    return np.concatenate([tokens[:, 1 : 1 + length], tokens[:, 3 + length : 3 + length + n]], axis=1)


def starts_of(drawn: np.ndarray, length: int, n: int) -> np.ndarray:
    """Where each query has a copy, row by row."""
    windows = np.lib.stride_tricks.sliding_window_view(drawn[:, :length], n, axis=1)
    return np.argwhere((windows == drawn[:, None, length:]).all(axis=2))[:, 1]


def assert_has_law(drawn: np.ndarray, expected: dict[tuple, float]) -> None:
    counts = Counter(map(tuple, drawn.tolist()))
    assert sum(expected.values()) == pytest.approx(1)
    assert counts.keys() <= expected.keys()
    seen = [counts[outcome] for outcome in expected]
    assert stats.chisquare(seen, [len(drawn) * p for p in expected.values()]).pvalue > MIN_P


@pytest.mark.parametrize(("num_symbols", "length", "n", "m"), [(2, 7, 2, 1), (3, 5, 1, 2), (3, 5, 2, 2), (2, 6, 3, 1)])
def test_sequences_and_queries_have_the_stated_law(num_symbols, length, n, m):
    """These sizes are so small that many sequences have no unique n-gram with room for an answer."""
    sizes = {"num_symbols": num_symbols, "max_length": length, "query_length": n, "answer_length": m}
    assert_has_law(parts(draw(30_000, **sizes), length, n), law(num_symbols, length, n, m))


def test_shorter_examples_have_the_law_of_their_own_length():
    batch = draw(40_000, num_symbols=2, max_length=9, min_length=6, answer_length=1)
    shortest = Batch(*(x[batch.slices["length"] == 6] for x in batch[:4]), {})
    assert_has_law(parts(shortest, 6, 2), law(2, 6, 2, 1))


def law_of_two_copies() -> dict[tuple, float]:
    """The stated law at V = 3, L = 8, D = 2, n = 2, m = 1: two parts of four, one free symbol in each."""
    probability = defaultdict(float)
    for query in permutations(range(3), 2):
        (third,) = set(range(3)) - set(query)
        for starts in product((0, 1), (4, 5)):
            for answers in permutations([x for x in range(3) if x != query[0]]):
                for fill in product(range(3), repeat=2):
                    sequence = [-1] * 8
                    for start, answer in zip(starts, answers, strict=True):
                        sequence[start : start + 3] = [*query, answer]
                    free = [i for i, x in enumerate(sequence) if x < 0]
                    sequence[free[0]], sequence[free[1]] = fill
                    if free[1] == free[0] + 1 and fill == query:
                        sequence[free[0]] = third
                    probability[(*sequence, *query)] += 1 / (6 * 4 * 2 * 9)
    return probability


def test_repeated_queries_have_the_stated_law():
    sizes = {"num_symbols": 3, "max_length": 8, "query_length": 2, "answer_length": 1, "num_duplicates": 2}
    assert_has_law(parts(draw(30_000, **sizes), 8, 2), law_of_two_copies())


def published(rng: random.Random) -> tuple[list[int], int]:
    """One example of the published algorithm at V = 30, L = 100, 2 -> 3, restated: sequence and place."""
    while True:
        sequence = [rng.randrange(30) for _ in range(100)]
        place = rng.randrange(96)
        pairs = list(pairwise(sequence))
        if pairs.count(pairs[place]) == 1:
            return sequence, place


def test_places_and_queries_fall_as_in_the_published_algorithm():
    rng, drawn = random.Random(0), parts(draw(6000, max_length=100), 100, 2)
    theirs, places = [published(rng) for _ in range(2000)], starts_of(drawn, 100, 2)
    counts = [np.bincount(np.array(x) // 8, minlength=12) for x in (places, [place for _, place in theirs])]
    assert stats.chi2_contingency(counts).pvalue > MIN_P
    assert stats.chisquare(np.bincount(places, minlength=96)).pvalue > MIN_P
    same = [int((drawn[:, 100] == drawn[:, 101]).sum()), sum(x[i] == x[i + 1] for x, i in theirs)]
    assert stats.chi2_contingency([same, [6000 - same[0], 2000 - same[1]]]).pvalue > MIN_P


@pytest.mark.parametrize("kwargs", [{}, {"num_symbols": 6, "max_length": 40, "num_duplicates": 4}])
def test_symbols_queries_and_answers_are_uniform(kwargs):
    task, batch = NgramRetrieval(**kwargs), draw(6000, **kwargs)
    asked = batch.tokens.gather(1, batch.positions[:, :1] - torch.tensor([2, 1]))
    for column in (*batch.targets.T, *asked.T, batch.tokens[:, 1], batch.tokens[:, task.max_length]):
        counts = np.bincount(column.numpy() - 3, minlength=task.num_symbols)
        assert stats.chisquare(counts).pvalue > MIN_P
        assert counts.max() / 6000 < task.chance_accuracy + 4 * math.sqrt(task.chance_accuracy / 6000)


def test_lengths_are_uniform():
    lengths = draw(6000, max_length=60, min_length=50).slices["length"].numpy()
    assert stats.chisquare(np.bincount(lengths, minlength=61)[50:]).pvalue > MIN_P
    assert NgramRetrieval(max_length=52, min_length=50).slice_values == {"length": (50, 51, 52)}


def test_copies_are_uniform_within_their_parts():
    starts = starts_of(parts(draw(4000, max_length=100, num_duplicates=4), 100, 2), 100, 2).reshape(4000, 4)
    for part in range(4):
        assert stats.chisquare(np.bincount(starts[:, part] - 25 * part, minlength=21)).pvalue > MIN_P
