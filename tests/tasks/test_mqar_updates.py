"""Associative recall with updates: the last binding wins, orders and places have the stated law, sizes that fit.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_mqar import assert_published_places
from scipy import stats

from hybrids.task import Batch, Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.mqar_updates import UpdatedAssociativeRecall

MIN_P = 1e-4


def draw(count: int, *, split: Split = Split.TRAIN, **kwargs) -> tuple[UpdatedAssociativeRecall, Batch]:
    task = UpdatedAssociativeRecall(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=split)


def bindings(tokens: list[int], task: UpdatedAssociativeRecall) -> list[tuple[int, int]]:
    return [(tokens[i], tokens[i + 1]) for i in range(0, 2 * (task.num_pairs + task.num_updates), 2)]


def shape(keys) -> tuple[int, ...]:
    """The keys numbered in the order in which they first come."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return tuple(numbers[key] for key in keys)


def last_value(pairs: list[tuple[int, int]], key: int) -> int:
    return next(value for bound, value in reversed(pairs) if bound == key)


def assert_sound(task: UpdatedAssociativeRecall, batch: Batch) -> None:
    """An independent reading of the definition, from the tokens on."""
    n, u, half = task.num_pairs, task.num_updates, task.vocab_size // 2
    assert batch.valid.all()
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        pairs = bindings(tokens, task)
        times = Counter(key for key, _ in pairs)
        values = [value for _, value in pairs]
        assert Counter(times.values()) == Counter({2: u, 1: n - u})
        assert all(0 < key < half <= value < task.vocab_size for key, value in pairs)
        assert len(set(values)) == n + u or not task.distinct_values
        queries = [tokens[p] for p in positions]
        assert queries == list(dict.fromkeys(key for key, _ in pairs))
        assert targets == [last_value(pairs, key) for key in queries]
        assert all(2 * (n + u) <= p < task.length and p % 2 == 0 for p in positions)
        rest = len(tokens) - 2 * (n + u) - n
        assert task.random_fillers or tokens[2 * (n + u) :].count(0) == rest


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"length": 40, "num_updates": 4, "vocab_size": 24},
        {"length": 64, "num_pairs": 8, "num_updates": 0},
        {"length": 256, "num_pairs": 40, "num_updates": 40, "distinct_values": False, "vocab_size": 84},
        {"length": 6, "num_pairs": 1, "num_updates": 1, "random_fillers": False},
    ],
)
def test_the_oracle_and_the_definition_accept_every_example(kwargs):
    task, wrong = UpdatedAssociativeRecall(**kwargs), 0
    for split in Split:
        batch = task.sample(torch.arange(700), seed=1, split=split)
        wrong += int((task.solve(batch.tokens, batch.positions) != batch.targets).sum())
        assert_sound(task, Batch(*(x[:100] for x in batch[:4]), {}))
    assert wrong == 0


def test_the_oracle_reads_a_context_written_by_hand():
    task = UpdatedAssociativeRecall(vocab_size=10, length=12, num_pairs=2, num_updates=1)
    tokens = torch.tensor([[1, 6, 2, 7, 1, 8, 2, 0, 1, 0, 0, 0]])
    assert task.solve(tokens, torch.tensor([[8, 6]])).tolist() == [[8, 7]]


def test_every_order_of_the_bindings_is_as_frequent():
    """Keys are exchangeable: of the 5! / 4 orders of aabbc, each stands for all that name the keys otherwise."""
    task, batch = draw(6000, num_pairs=3, num_updates=2, length=32)
    orders, expected = Counter(), Counter()
    for tokens in batch.tokens.tolist():
        orders[shape([key for key, _ in bindings(tokens, task)])] += 1
    for order in set(itertools.permutations("aabbc")):
        expected[shape(order)] += 1
    assert set(orders) == set(expected)
    shares = np.array([expected[name] for name in orders]) / expected.total()
    assert stats.chisquare(list(orders.values()), 6000 * shares).pvalue > MIN_P


@pytest.mark.parametrize("distinct", [True, False])
def test_keys_answers_and_replaced_values_are_uniform(distinct):
    task, batch = draw(6000, num_pairs=3, num_updates=1, vocab_size=16, length=32, distinct_values=distinct)
    updated, replaced = [], []
    for tokens, positions in zip(batch.tokens.tolist(), batch.positions.tolist(), strict=True):
        times = Counter(key for key, _ in bindings(tokens, task))
        updated.append(next(j for j, p in enumerate(positions) if times[tokens[p]] == 2))
        replaced.append(next(value for key, value in bindings(tokens, task) if key == tokens[positions[updated[-1]]]))
    answers, lost = batch.targets.numpy() - 8, np.array(replaced) - 8
    for values in (*answers.T, lost):
        assert stats.chisquare(np.bincount(values, minlength=8)).pvalue > MIN_P
    keys = batch.tokens.gather(1, batch.positions).numpy() - 1
    assert all(stats.chisquare(np.bincount(column, minlength=7)).pvalue > MIN_P for column in keys.T)
    same = (answers[range(6000), updated] == lost).mean()
    assert same == 0 if distinct else abs(same - 1 / 8) < 4 * math.sqrt(1 / 8 / 6000)


@pytest.mark.parametrize("power", [0.01, 1.0])
def test_queries_fall_with_the_published_weights(power):
    """NumPy's `choice` without replacement, with which zoology places the queries."""
    _, batch = draw(3000, power=power)
    assert_published_places((batch.positions.numpy() - 24) // 2, 20, power, MIN_P)


def test_fillers_are_uniform_over_the_vocabulary():
    _, batch = draw(2000, vocab_size=50)
    assert stats.chisquare(np.bincount(batch.tokens[:, 25::2].flatten(), minlength=50)).pvalue > MIN_P


def test_a_constant_answer_is_right_as_often_as_chance_says():
    task, batch = draw(4000, vocab_size=32)
    best = np.bincount(batch.targets.flatten()).max() / batch.targets.numel()
    assert task.chance_accuracy == 1 / 16
    assert abs(best - 1 / 16) < 0.005


@pytest.mark.parametrize(("distinct", "n", "u"), [(True, 2, 1), (True, 2, 2), (False, 2, 2), (False, 3, 1)])
def test_bits_are_the_entropy_of_the_last_values_alone(distinct, n, u):
    """All draws of values at a tiny size; binding n + j replaces what binding j says."""
    task = UpdatedAssociativeRecall(num_pairs=n, num_updates=u, vocab_size=8, length=32, distinct_values=distinct)
    draws = itertools.permutations(range(4), n + u) if distinct else itertools.product(range(4), repeat=n + u)
    last = Counter((*values[n:], *values[u:n]) for values in draws)
    shares = np.array(list(last.values())) / last.total()
    assert task.bits == pytest.approx(-shares @ np.log2(shares))
    assert task.facts == n


def test_examples_of_the_splits_do_not_overlap():
    task = UpdatedAssociativeRecall(length=20, num_pairs=4, num_updates=2, random_fillers=False)
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(task, 0, split, num_train=100_000, num_eval=100_000) == 0


sizes = st.integers(-1, 14)


@settings(max_examples=300)
@given(sizes, sizes, st.integers(-2, 60), st.integers(0, 60), st.booleans())
def test_a_size_is_sound_or_refused_with_one_that_works(n, u, length, vocab, distinct):
    kwargs = {"num_pairs": n, "num_updates": u, "length": length, "vocab_size": vocab, "distinct_values": distinct}
    keys, values = len(range(1, vocab // 2)), len(range(vocab // 2, vocab))
    fits = 0 <= u <= n and n > 0 and length % 2 == 0 and 4 * n + 2 * u <= length
    room = keys >= n and values >= (n + u if distinct else 1)
    if fits and room:
        return assert_sound(*draw(4, **kwargs))
    with pytest.raises(ValueError, match=r"(num_pairs|num_updates|length|vocab_size)=-?\d+ ") as error:
        UpdatedAssociativeRecall(**kwargs)
    if found := re.search(r"at most (\w+)=(\d+) \((\w+)=(\d+)\) do, or use length=(\d+)", str(error.value)):
        named = {found[1]: int(found[2]), found[3]: int(found[4])}
        assert_sound(*draw(2, length=length, **named))
        assert_sound(*draw(2, length=int(found[5]), num_pairs=n, num_updates=u))
        one_more = named | {found[1]: int(found[2]) + 1}
        with pytest.raises(ValueError, match=r"do not fit|from 0 to"):
            UpdatedAssociativeRecall(length=length, **one_more)
    if found := re.search(r"vocab_size=\d+ must be from (\d+)", str(error.value)):
        least = int(found[1])
        assert_sound(*draw(2, **(kwargs | {"vocab_size": least})))
        assert vocab < least


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_updates": 9}, "num_updates=9 must be from 0 to 8"),
        ({"length": 36}, "at most num_pairs=7 (num_updates=4) do, or use length=40 or more"),
        ({"num_pairs": 4, "length": 20, "num_updates": 4}, "at most num_updates=2 (num_pairs=4) do, or use length=24"),
        ({"num_pairs": 30, "num_updates": 30}, "at most num_pairs=16 (num_updates=0) do, or use length=180"),
        ({"power": 0.0}, "power=0.0 must be above 0"),
        ({"length": 63}, "length=63 must be even"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        UpdatedAssociativeRecall(**kwargs)


def test_context_scales_pairs_and_updates():
    task = UpdatedAssociativeRecall().at_context(256)
    assert (task.length, task.num_pairs, task.num_updates) == (256, 32, 16)
