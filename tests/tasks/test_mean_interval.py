"""The intervals of a mean and of a difference: coverage, computed and simulated, and exact ones of 0 and 1."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from hybrids.tasks.mean_interval import difference_interval, mean_interval

ERRORS = (0.0, 1e-4, 0.001, 0.003, 0.01, 0.05, 0.2, 0.5)


@cache
def interval(shares, counts):
    return mean_interval(torch.tensor(np.repeat(shares, counts)))


@pytest.mark.parametrize(("wrong", "num"), [(0, 1), (0, 20), (1, 200), (7, 20), (50, 100), (256, 256)])
def test_of_right_and_wrong_it_is_that_of_clopper_and_pearson(wrong, num):
    expected = binomtest(wrong, num).proportion_ci(confidence_level=0.95, method="exact")
    low, high = interval((0.0, 1.0), (num - wrong, wrong))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02 * (expected.high - expected.low))


@pytest.mark.parametrize("num", [20, 200, 1000])
@pytest.mark.parametrize("error", ERRORS)
def test_it_covers_examples_that_are_wrong_as_a_whole(error, num):
    """Coverage summed over the binomial law of wrong examples, all but one in a million of it."""
    wrong = np.arange(*(binom.ppf([1e-6, 1 - 1e-6], num, error) + np.array([0, 1])), dtype=int)
    limits = [interval((0.0, 1.0), (num - k, k)) for k in wrong.tolist()]
    covered = [low <= error <= high for low, high in limits]
    assert binom.pmf(wrong, num, error) @ covered >= 0.945


def covered(error, num, answers, correlation, *, times):
    """Share of simulated tests whose interval holds the error; an example has so many answers, or 1 to as many."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(times):
        rates = error
        if correlation > 0 and error > 0:  # of the answers of one example: beta-binomial
            rates = generator.beta(*np.array([error, 1 - error]) * (1 / correlation - 1), size=num)
        sizes = np.full(num, answers) if isinstance(answers, int) else generator.integers(1, max(answers) + 1, num)
        values, counts = np.unique(generator.binomial(sizes, rates) / sizes, return_counts=True)
        low, high = interval(tuple(values.tolist()), tuple(counts.tolist()))
        hits += low <= error <= high
    return hits / times


@pytest.mark.parametrize(("num", "error", "correlation"), [(200, 0.001, 0.9), (200, 0.02, 0.5), (1000, 0.001, 0.2)])
def test_it_covers_examples_whose_answers_fail_together(num, error, correlation):
    assert covered(error, num, 8, correlation, times=200) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.001, 0.02, 0.5])
@pytest.mark.parametrize("num", [200, 1000])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("answers", [8, 64, (8,)], ids=str)
def test_it_covers_whatever_the_correlation_and_the_number_of_answers(num, correlation, answers, error):
    assert covered(error, num, answers, correlation, times=600) >= 0.93


def test_it_narrows_as_answers_agree():
    """200 examples of 64 answers, all with an error of a half: 3 / 4 of the width are gone with the binomial's."""
    whole = interval((0.0, 1.0), (100, 100))
    shares = np.random.default_rng(0).binomial(64, 0.5, 200) / 64
    low, high = mean_interval(torch.tensor(shares))
    assert high - low < (whole[1] - whole[0]) / 4


def rights(generator, chance_both, *chances):
    """Right or wrong of two models on 200 examples, that share what `chance_both` of them come to."""
    shared = generator.random(200) < chance_both
    luck = generator.random(200)
    return [torch.tensor(np.where(shared, luck, generator.random(200)) < chance).double() for chance in chances]


@pytest.mark.parametrize("is_paired", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.3, 0.35),
        (0.98, 0.999),
        pytest.param(0.5, 0.5, marks=pytest.mark.slow),
        pytest.param(1.0, 0.99, marks=pytest.mark.slow),
    ],
)
def test_a_difference_is_covered(is_paired, first, second):
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        one, other = rights(generator, 0.8 if is_paired else 0.0, first, second)
        low, high = difference_interval(one, other, is_paired=is_paired)
        hits += low <= second - first <= high
    assert hits >= 186


def test_a_paired_difference_is_a_mean_of_differences():
    one, other = rights(np.random.default_rng(1), 0.9, 0.6, 0.7)
    low, high = mean_interval((other - one + 1) / 2)
    limits = difference_interval(one, other, is_paired=True)
    assert limits == pytest.approx((2 * low - 1, 2 * high - 1), abs=0.01)
    wide = difference_interval(one, other, is_paired=False)
    assert wide[1] - wide[0] > 1.5 * (limits[1] - limits[0])


def test_models_that_never_differ_may_still_do_so_elsewhere():
    right = torch.ones(100, dtype=torch.float64)
    low, high = difference_interval(right, right, is_paired=True)
    unseen = 1 - 0.025 ** (1 / 100)  # exact: what would have shown with probability 97.5 %
    assert (low, high) == pytest.approx((-unseen, unseen), rel=0.05)


def test_a_falling_function_of_the_means():
    one, other = torch.full((50,), 0.2).double(), torch.full((50,), 0.1).double()
    low, high = difference_interval(one, other, lambda error: 10 * (1 - error), is_paired=True)
    assert low < 1.0 < high and high - low < 2.5
