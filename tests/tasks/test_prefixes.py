"""Scans, rounded prefixes and mixtures of lengths, against itertools and plain counting."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybrids.errors import UserError
from hybrids.rng import Draws
from hybrids.tasks.prefixes import Lengths, prefix_scan, prefix_slice, prefix_values


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=40))
def test_a_scan_composes_functions_in_their_order(functions):
    """Functions of four numbers, that of later tokens applied last; they do not commute."""
    tables = [[*function, 3] for function in functions]
    scanned = prefix_scan(torch.tensor([tables]), lambda earlier, later: later.gather(-1, earlier))
    expected = itertools.accumulate(tables, lambda f, g: [g[value] for value in f])
    assert scanned[0].tolist() == list(expected)


def test_prefixes_are_rounded_up_to_powers_of_two():
    numbers = torch.arange(1, 2000)
    assert prefix_slice(numbers).tolist() == [2 ** math.ceil(math.log2(n)) for n in numbers.tolist()]
    assert prefix_slice(torch.tensor([2**24, 2**24 - 1])).tolist() == [2**24, 2**24]


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_values_of_prefixes_are_those_that_occur(a, b):
    low, high = sorted((a, b))
    assert prefix_values(low, high) == tuple(sorted(set(prefix_slice(torch.arange(low, high + 1)).tolist())))


@pytest.mark.parametrize(("step", "values"), [(1, (4, 5, 6, 7, 8, 9)), (2, (5, 7, 9)), (9, (9,))])
def test_lengths_are_uniform_with_the_stated_shares(step, values):
    lengths = Lengths.of(9, 4, step=step)
    assert lengths.values == values
    drawn = lengths.draw(Draws.of(torch.arange(6000), seed=0, stream=0)).flatten().numpy()
    counts = np.bincount(drawn, minlength=10)
    assert counts[list(values)].sum() == 6000
    assert stats.chisquare(counts[list(values)]).pvalue > 1e-4 or len(values) == 1
    expected = [np.mean([length >= t for length in values]) for t in range(1, 10)]
    assert lengths.shares.tolist() == pytest.approx(expected)
    assert Lengths.of(9, None, step=step).values == (9,)


@pytest.mark.parametrize(
    ("length", "shortest", "message"),
    [(9, 10, r"min_length=10 must be from 2 to 9 \(length=9\)"), (1, None, "length=1 must be from 2 to 16777216")],
)
def test_impossible_lengths_are_refused(length, shortest, message):
    with pytest.raises(UserError, match=message):
        Lengths.of(length, shortest, least=2)
