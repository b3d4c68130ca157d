"""Counting: the law of counts and thresholds, and answers that nothing but the count gives away."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from hybrids.task import Split
from hybrids_plugins.tasks.counting import FIRST, NO, YES, Counting

MIN_P = 1e-4


def drawn(task, count):
    """Contexts, symbols asked for, thresholds, answers."""
    batch = task.sample(torch.arange(count), seed=0, split=Split.TRAIN)
    tokens = batch.tokens.numpy()[:, :-1]
    return tokens[:, :-2] - FIRST, tokens[:, -2] - FIRST, tokens[:, -1] - task.first_number, batch.targets[:, 0].numpy()


def stated_law(most):
    """Probability of each (threshold, count)."""
    law = {}
    for t, k in itertools.product(range(most), range(most + 1)):
        law[t, k] = Fraction(1, 2 * most) * (Fraction(1, most - t) if k > t else Fraction(1, t + 1))
    assert sum(law.values()) == 1
    return law


@pytest.mark.parametrize(("n", "most"), [(5, 3), (4, 4), (9, 1), (32, 16)])
def test_thresholds_and_counts_have_the_stated_law(n, most):
    context, query, threshold, _ = drawn(Counting(num_tokens=n, max_count=most, num_symbols=5), 20_000)
    count = (context == query[:, None]).sum(1)
    law = stated_law(most)
    observed = np.bincount(threshold * (most + 1) + count, minlength=len(law))
    assert stats.chisquare(observed, [float(p) * 20_000 for p in law.values()]).pvalue > MIN_P


def test_answers_are_balanced_at_every_threshold_and_symbol():
    _, query, threshold, answer = drawn(Counting(), 40_000)
    assert set(answer) == {NO, YES}
    for given, num in ((threshold, 16), (query, 16)):
        asked, yes = np.bincount(given, minlength=num), np.bincount(given, answer == YES, minlength=num)
        assert stats.chisquare(asked).pvalue > MIN_P
        assert stats.chisquare(np.concatenate([yes, asked - yes]), np.tile(asked / 2, 2)).pvalue > MIN_P


def test_an_answer_is_a_linear_count_of_whole_tokens():
    task = Counting(num_symbols=12)
    batch = task.sample(torch.arange(2000), seed=0, split=Split.TEST)
    for tokens, target in zip(batch.tokens.tolist(), batch.targets[:, 0].tolist(), strict=True):
        *words, asked, threshold, _ = map(task.spell, tokens)
        assert (sum(word == asked for word in words) > int(threshold[1:])) == (task.spell(target) == "[YES]")


def test_the_symbol_asked_for_stands_at_uniform_places_and_the_others_are_uniform():
    context, query, *_ = drawn(Counting(num_tokens=8, max_count=4, num_symbols=4), 20_000)
    asked = context == query[:, None]
    twice = asked[asked.sum(1) == 2]
    pairs = [int("".join(map(str, row)), 2) for row in twice.astype(int).tolist()]
    possible = [2**i + 2**j for i, j in itertools.combinations(range(8), 2)]
    assert stats.chisquare([pairs.count(p) for p in possible]).pvalue > MIN_P
    others = (context - query[:, None] - 1) % 4
    assert stats.chisquare(np.bincount(others[~asked], minlength=3)).pvalue > MIN_P


@pytest.mark.parametrize(
    ("text", "asked", "found"),
    [
        ("s1 s1 s2", "s1 #1", "s1"),
        ("s1 s1 s2", "s1 #2", "[FAILED]"),
        ("s11 s1 s11", "s1 #1", "[FAILED]"),
        ("s1 s1 s1", "s2 #0", "[FAILED]"),
    ],
)
def test_the_search_does_not_count_the_question_itself(text, asked, found):
    task = Counting(num_tokens=3, max_count=3, mode="retrieval")
    token = {task.spell(t): t for t in range(task.vocab_size)}
    tokens = [token[word] for word in f"{text} {asked} [SS] {asked} [ES]".split()]
    assert task.search(tokens) == [token[found]]


def test_it_has_neither_facts_nor_bits():
    task = Counting()
    assert (task.facts, task.bits, task.recalled_bits(torch.tensor(0.1)), task.chance_accuracy) == (
        None,
        None,
        None,
        0.5,
    )


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"max_count=33 must be from 1 to 32 \(num_tokens=32\)"):
        Counting(max_count=33)
    assert Counting(max_count=32).max_count == 32
