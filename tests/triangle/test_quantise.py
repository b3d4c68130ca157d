"""Rounding of states, against values that are kept exactly and published quantisers of a normal variable."""

import pytest
import torch

from hybrids.triangle import quantise


def normal(num, seed=0):
    return torch.randn(num, generator=torch.Generator().manual_seed(seed))


def rounded(x, bits, *, fitted_on=None):
    fitted_on = x if fitted_on is None else fitted_on
    return quantise.fit((((fitted_on,),),), bits)((((x,),),))[0][0][0]


def rms(x):
    return x.square().mean().sqrt().item()


VALUES = {
    "four": (-3.0, -1.0, 1.0, 3.0),
    "signs": (-0.1, 0.1),
    "saturated": (0.0, 1.0),
    "one": (0.1,),
    "nothing": (0.0,),
    "unlike": (0.0, 1.0, 10.0),
    "rare": (*(0.0,) * 1000, 1.0, 2.0, 3.0),
    "with an outlier": (-3.0, -1.0, 1.0, 1e6),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_as_many_values_as_levels_are_kept_exactly(values, dtype):
    x = torch.tensor(values, dtype=dtype).repeat(20)
    least = max(1, (len(set(values)) - 1).bit_length())
    for bits in (least, least + 1, 8, 9, 12, 16):
        assert torch.equal(rounded(x, bits), x), bits


@pytest.mark.parametrize("bits", [1, 2, 5, 9])
def test_there_are_at_most_two_to_the_bits_levels(bits):
    x = normal(20_000)
    assert 2**bits - 256 * (bits > 8) <= len(rounded(x, bits).unique()) <= 2**bits


def test_every_value_goes_to_the_nearest_level():
    levels = torch.tensor([-1.0, 0.0, 4.0])
    x = torch.tensor([-7.0, -0.6, -0.4, 1.9, 2.1, 9.0])
    assert quantise.round_to(x, levels, 2).tolist() == [-1, -1, 0, 0, 4, 4]
    assert quantise.round_to(x, levels, 3).tolist() == pytest.approx([-1, -2 / 3, -1 / 3, 4 / 3, 8 / 3, 4])


MAX_1960 = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}
"""Least mean square error of a unit normal variable at 2**bits levels: Max (1960), table I."""


@pytest.mark.parametrize(("bits", "least"), MAX_1960.items())
def test_a_normal_variable_loses_as_little_as_it_can(bits, least):
    x, other = normal(100_000), normal(100_000, seed=1)
    assert rms(rounded(x, bits, fitted_on=other) - x) ** 2 == pytest.approx(least, rel=0.04)


@pytest.mark.parametrize("bits", [6, 8, 12, 16])
def test_many_levels_come_near_what_theory_allows(bits):
    """sqrt(3) pi / 2 levels**-2 (Panter and Dite, 1951); from 8 bits on, even parts cost up to as much again."""
    x, other = normal(100_000), normal(100_000, seed=1)
    inner = x.abs() < 4  # what lies outside all values seen is cut off
    assert rms((rounded(x, bits, fitted_on=other) - x)[inner]) ** 2 < 2 * 2.7207 / 4**bits


@pytest.mark.parametrize(("bits", "alone"), [(3, 0.1858), (4, 0.0975), (8, 0.0064)])
def test_an_outlier_does_not_set_the_step(bits, alone):
    """10,000 unit normals and one 1,000, which may cost the others a level; alone they lose what Max (1960) gives."""
    x = torch.cat([normal(10_000), torch.tensor([1000.0])])
    found = rounded(x, bits)
    assert rms((found - x)[:-1]) < 1.2 * alone
    assert found[-1] == pytest.approx(1000, rel=0.001)


def test_an_outlier_that_was_not_seen_is_cut_off_and_moves_nothing():
    x, other = normal(1000), normal(10_000, seed=1)
    assert torch.equal(
        rounded(torch.cat([x, torch.tensor([1e6])]), 4, fitted_on=other)[:-1], rounded(x, 4, fitted_on=other)
    )


def test_what_is_not_finite_sets_no_level():
    x = torch.cat([normal(1000), torch.tensor([float("nan"), float("inf")])])
    assert rms((rounded(x, 4) - x)[:1000]) < 0.11


def test_a_quantiser_counts_its_bits_for_each_element():
    cache = (((torch.zeros(2, 3), torch.arange(4), normal(10)),),)
    assert quantise.fit(cache, 3).count(cache) == 3 * 6 + 64 * 4 + 3 * 10
