"""Associative recall with keys of two tokens: neither half decides the value, the stated law, sizes that fit.

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
from hybrids_plugins.tasks.mqar_two_token_keys import CompositionalAssociativeRecall

MIN_P = 1e-4


def draw(count: int, **kwargs) -> tuple[CompositionalAssociativeRecall, Batch]:
    task = CompositionalAssociativeRecall(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=Split.TRAIN)


def triples(tokens: list[int], num_pairs: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + 3]) for i in range(0, 3 * num_pairs, 3)]


def assert_sound(task: CompositionalAssociativeRecall, batch: Batch) -> None:
    """An independent reading of the definition, from the tokens on."""
    n, third = task.num_pairs, task.vocab_size // 3
    side = next(g for g in itertools.count(1) if g * g >= n)
    assert batch.valid.all()
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        pairs = triples(tokens, n)
        keys = [(a, b) for a, b, _ in pairs]
        assert all(0 < a < third <= b < 2 * third <= v < task.vocab_size for a, b, v in pairs)
        assert len(set(keys)) == n
        assert max(len({a for a, _ in keys}), len({b for _, b in keys})) <= side
        assert targets == [v for _, _, v in pairs]
        assert len(set(targets)) == n or not task.distinct_values
        assert [(tokens[p - 1], tokens[p]) for p in positions] == keys
        assert all(3 * n < p < task.length and p % 3 == 1 for p in positions)
        assert task.random_fillers or tokens[3 * n :].count(0) == len(tokens) - 5 * n


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"length": 24, "num_pairs": 4, "vocab_size": 10},
        {"length": 65, "num_pairs": 10, "random_fillers": False},
        {"length": 6, "num_pairs": 1, "vocab_size": 6},
        {"length": 256, "num_pairs": 40, "distinct_values": False, "vocab_size": 30},
    ],
)
def test_the_oracle_and_the_definition_accept_every_example(kwargs):
    task, wrong = CompositionalAssociativeRecall(**kwargs), 0
    for split in Split:
        batch = task.sample(torch.arange(700), seed=1, split=split)
        wrong += int((task.solve(batch.tokens, batch.positions) != batch.targets).sum())
        assert_sound(task, Batch(*(x[:100] for x in batch[:4]), {}))
    assert wrong == 0


def test_the_oracle_reads_a_context_written_by_hand():
    task = CompositionalAssociativeRecall(vocab_size=12, length=15, num_pairs=2)
    tokens = torch.tensor([[1, 5, 9, 1, 6, 10, 1, 6, 0, 1, 5, 0, 0, 0, 0]])
    assert task.solve(tokens, torch.tensor([[7, 10]])).tolist() == [[10, 9]]


@pytest.mark.parametrize("n", [4, 9, 16])
def test_no_half_of_a_key_decides_the_value_where_pairs_fill_the_grid(n):
    side = math.isqrt(n)
    for tokens in draw(50, length=6 * n, num_pairs=n)[1].tokens.tolist():
        pairs = triples(tokens, n)
        for half in (0, 1):
            values = Counter(pair[half] for pair in pairs)
            assert list(values.values()) == [side] * side


def test_every_choice_and_order_of_the_cells_is_as_frequent():
    """Three of the four cells of a 2 x 2 grid with halves 1, 2 and 3, 4, 5: 2! * 3 * 2 grids, 4! orders of each."""
    _, batch = draw(12_000, num_pairs=3, vocab_size=9, length=18)
    keys = Counter(tuple((a, b) for a, b, _ in triples(tokens, 3)) for tokens in batch.tokens.tolist())
    possible = set()
    for halves in itertools.combinations(range(3, 6), 2):
        possible |= set(itertools.permutations(itertools.product((1, 2), halves), 3))
    assert set(keys) == possible
    assert len(possible) == 72
    assert stats.chisquare(list(keys.values())).pvalue > MIN_P


def test_the_halves_of_a_key_are_uniform_and_unrelated():
    _, batch = draw(4000, num_pairs=1, vocab_size=15, length=6)
    joint = Counter((a, b) for a, b, *_ in batch.tokens.tolist())
    assert set(joint) == set(itertools.product(range(1, 5), range(5, 10)))
    assert stats.chisquare(list(joint.values())).pvalue > MIN_P


@pytest.mark.parametrize("distinct", [True, False])
def test_answers_are_uniform(distinct):
    _, batch = draw(6000, num_pairs=4, vocab_size=24, distinct_values=distinct)
    answers = batch.targets.numpy() - 16
    assert all(stats.chisquare(np.bincount(column, minlength=8)).pvalue > MIN_P for column in answers.T)
    same = (answers[:, 0] == answers[:, 1]).mean()
    assert same == 0 if distinct else abs(same - 1 / 8) < 4 * math.sqrt(1 / 8 / 6000)


@pytest.mark.parametrize("power", [0.01, 1.0])
def test_queries_fall_with_the_published_weights(power):
    """NumPy's `choice` without replacement, with which zoology places the queries."""
    _, batch = draw(3000, power=power)
    assert_published_places((batch.positions.numpy() - 28) // 3, 12, power, MIN_P)


def test_fillers_are_uniform_over_the_vocabulary():
    _, batch = draw(2000, vocab_size=50)
    rest = batch.tokens[:, [29, 32, 62, 63]]  # thirds of slots, and what is left behind the last slot
    assert stats.chisquare(np.bincount(rest.flatten(), minlength=50)).pvalue > MIN_P


def test_a_constant_answer_is_right_as_often_as_chance_says():
    task, batch = draw(4000, vocab_size=48)
    best = np.bincount(batch.targets.flatten()).max() / batch.targets.numel()
    assert task.chance_accuracy == 1 / 16
    assert abs(best - 1 / 16) < 0.005


@pytest.mark.parametrize("distinct", [True, False])
def test_bits_are_the_entropy_of_the_values(distinct):
    task = CompositionalAssociativeRecall(vocab_size=15, num_pairs=3, distinct_values=distinct)
    values = itertools.permutations(range(5), 3) if distinct else itertools.product(range(5), repeat=3)
    assert task.bits == pytest.approx(math.log2(len(list(values))))
    assert task.facts == 3


def test_examples_of_the_splits_do_not_overlap():
    task = CompositionalAssociativeRecall(length=24, num_pairs=4, random_fillers=False)
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(task, 0, split, num_train=100_000, num_eval=100_000) == 0


@settings(max_examples=300)
@given(st.integers(-1, 20), st.integers(-2, 130), st.integers(0, 70), st.booleans())
def test_a_size_is_sound_or_refused_with_one_that_works(n, length, vocab, distinct):
    kwargs = {"num_pairs": n, "length": length, "vocab_size": vocab, "distinct_values": distinct}
    if n < 1 or length < 6 * n:
        with pytest.raises(ValueError, match=r"(num_pairs|length)=-?\d+ ") as error:
            CompositionalAssociativeRecall(**kwargs)
        if found := re.search(r"at most (\d+) do, or use length=(\d+)", str(error.value)):
            most, shortest = int(found[1]), int(found[2])
            assert_sound(*draw(2, length=length, num_pairs=most))
            assert_sound(*draw(2, length=shortest, num_pairs=n))
            for size in ({"length": length, "num_pairs": most + 1}, {"length": shortest - 1, "num_pairs": n}):
                with pytest.raises(ValueError, match=r"do not fit|at least 6"):
                    CompositionalAssociativeRecall(**size)
        return
    try:
        assert_sound(*draw(4, **kwargs))
    except ValueError as error:
        found = re.fullmatch(r"vocab_size=(\d+) must be from (\d+) to \d+ \(num_pairs=\d+\)", str(error))
        assert found and int(found[1]) == vocab < int(found[2])
        assert_sound(*draw(2, **(kwargs | {"vocab_size": int(found[2])})))


def test_the_smallest_vocabulary_is_no_larger_than_it_has_to_be():
    """One isolated smaller vocabulary, whose values are as many because a third is rounded down, is given away."""
    for n in range(1, 40):
        side, possible = math.isqrt(n - 1) + 1, []
        for vocab in range(3, 200):
            if vocab // 3 - 1 >= side and vocab - 2 * (vocab // 3) >= n:
                possible.append(vocab)
        with pytest.raises(ValueError, match="vocab_size=1 must be from") as error:
            CompositionalAssociativeRecall(num_pairs=n, length=6 * n, vocab_size=1)
        stated = int(re.findall(r"from (\d+)", str(error.value))[0])
        assert stated in possible[:2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_pairs": 11}, "num_pairs=11 do not fit into length=64: at most 10 do, or use length=66 or more"),
        ({"power": 0.0}, "power=0.0 must be above 0"),
        ({"length": 5, "num_pairs": 1}, "length=5 must be at least 6"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CompositionalAssociativeRecall(**kwargs)


def test_context_scales_the_pairs():
    task = CompositionalAssociativeRecall().at_context(256)
    assert (task.length, task.num_pairs) == (256, 36)
    assert CompositionalAssociativeRecall().sizes["num_pairs"] == (9, 16, 25, 36, 49, 64)
