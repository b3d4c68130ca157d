"""Stateless random numbers: the published generator, its statistics, the laws drawn from it.

Seeds are fixed, so every statistic below is one number; a threshold on p rejects a sound generator once in
10,000.
"""

import itertools
import math
from hashlib import blake2b

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.errors import UserError
from hybrids.rng import Draws, exponentials, first_distinct, splitmix64
from hybrids.rng import _draws_needed as draws_needed

MIN_P = 1e-4
METHODS = {
    "bits": lambda d: d.bits("x", 5),
    "integers": lambda d: d.integers("x", 5, 1000),
    "uniform": lambda d: d.uniform("x", 5),
    "distinct, few": lambda d: d.distinct("x", 5, 4095),
    "distinct, all": lambda d: d.distinct("x", 9, 9),
    "weighted": lambda d: d.weighted_distinct("x", 5, torch.arange(1.0, 9.0, device=d.rows.device)),
}


def rows(count: int, seed: int = 0, stream: int = 0) -> Draws:
    return Draws.of(torch.arange(count), seed=seed, stream=stream)


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def plain_words(seed: int, stream: int, index: int, purpose: str, num: int) -> list[int]:
    golden = 0x9E3779B97F4A7C15
    row = mix((digest(f"{seed}/{stream}") + (index + 1) * golden) % 2**64)
    outputs = [mix((row + digest(purpose) + n * golden) % 2**64) for n in range(1, num // 2 + 1)]
    return [word for output in outputs for word in (output % 2**32, output >> 32)]


def test_outputs_are_those_of_the_published_splitmix64():
    # First outputs for seed 1234567, as listed for Vigna's splitmix64.c (Rosetta Code, "Splitmix64").
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    published.append(16408922859458223821)
    assert [x % 2**64 for x in splitmix64(torch.tensor([1234567]), 5)[0].tolist()] == published


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (0, 2), (123, 1), (2**64 - 1, 0), (-5, 7), (10**30, 1)])
def test_bits_are_those_of_an_implementation_in_python_integers(seed, stream):
    index = [0, 1, 63, 10**6, 2**40, 2**62]
    words = Draws.of(torch.tensor(index), seed=seed, stream=stream).bits("some purpose", 8)
    assert words.tolist() == [plain_words(seed, stream, i, "some purpose", 8) for i in index]


@pytest.mark.parametrize("high", [2, 10, 1000, 4095])
def test_integers_are_uniform(high):
    drawn = rows(20_000).integers("x", 20, high)
    assert drawn.min() >= 0
    assert drawn.max() < high
    assert stats.chisquare(np.bincount(drawn.flatten().numpy(), minlength=high)).pvalue > MIN_P


def test_integers_take_the_high_part_of_word_times_range():
    expected = [[word * 1000 // 2**32 for word in plain_words(3, 0, i, "x", 4)] for i in range(3)]
    assert rows(3, seed=3).integers("x", 4, 1000).tolist() == expected


def test_uniform_floats_are_uniform():
    drawn = rows(20_000).uniform("x", 10)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.flatten().double().numpy(), "uniform").pvalue > MIN_P


def test_every_bit_is_set_half_of_the_time():
    words = rows(10_000).bits("x", 5)
    set_share = torch.stack([(words >> bit & 1).double().mean() for bit in range(32)])
    assert (set_share - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(words.numel())


PAIRS = {
    "index": lambda w: (w(), w(first=1)),
    "distant index": lambda w: (w(), w(first=2**32)),
    "position": lambda w: (w()[:, :-1], w()[:, 1:]),
    "next position but one": lambda w: (w()[:, :-2], w()[:, 2:]),
    "next index, previous position": lambda w: (w()[:, 1:], w(first=1)[:, :-1]),
    "stream": lambda w: (w(), w(stream=1)),
    "seed": lambda w: (w(), w(seed=1)),
    "seed and stream swapped": lambda w: (w(seed=1, stream=2), w(seed=2, stream=1)),
    "purpose": lambda w: (w(), w(purpose="y")),
}


def words_of(first=0, seed=0, stream=0, purpose="x"):
    return Draws.of(torch.arange(first, first + 20_000), seed=seed, stream=stream).bits(purpose, 10)


@pytest.mark.parametrize("neighbour", PAIRS)
def test_neighbours_are_independent(neighbour):
    a, b = (x.flatten().numpy() for x in PAIRS[neighbour](words_of))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(a.size)
    for low in (0, 28):  # the lowest and the highest four bits, jointly
        joint = np.bincount((a >> low & 15) * 16 + (b >> low & 15), minlength=256)
        assert stats.chisquare(joint).pvalue > MIN_P


@pytest.mark.parametrize("bit", [0, 1, 5, 17, 31, 32, 47, 62])
def test_flipping_one_bit_of_the_index_flips_half_of_the_word(bit):
    index = torch.arange(4000) * 977
    changed = [Draws.of(i, seed=0, stream=0).bits("x", 1)[:, 0] for i in (index, index ^ (1 << bit))]
    flipped = torch.stack([((changed[0] ^ changed[1]) >> out & 1).double().mean() for out in range(32)])
    assert (flipped - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_does_not_depend_on_the_other_rows(method):
    index = torch.arange(50)
    order = torch.from_numpy(np.random.default_rng(0).permutation(50))
    whole = METHODS[method](Draws.of(index, seed=4, stream=1))
    assert torch.equal(METHODS[method](Draws.of(index[order], seed=4, stream=1)), whole[order])
    assert torch.equal(METHODS[method](Draws.of(torch.tensor([7]), seed=4, stream=1)), whole[7:8])
    assert METHODS[method](Draws.of(index[:0], seed=4, stream=1)).shape == (0, whole.shape[1])


def test_the_first_words_do_not_depend_on_how_many_are_drawn():
    many = rows(20).bits("x", 9)
    assert all(torch.equal(rows(20).bits("x", num), many[:, :num]) for num in range(9))


@pytest.mark.parametrize("method", METHODS)
def test_no_result_waits_for_the_device(method):
    """On the meta device a tensor has a shape and no data, so that reading a value would raise."""
    rows = Draws.of(torch.arange(4, device="meta"), seed=0, stream=0)
    assert METHODS[method](rows).shape == METHODS[method](Draws.of(torch.arange(4), seed=0, stream=0)).shape


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_cpu_and_cuda_give_the_same_numbers(method):
    index = torch.arange(20_000)
    on_cpu, on_cuda = (METHODS[method](Draws.of(index.to(device), seed=9, stream=2)) for device in ("cpu", "cuda"))
    assert torch.equal(on_cpu, on_cuda.cpu())


def frequencies(outcomes: torch.Tensor, high: int) -> np.ndarray:
    """How often each row occurs, read as a number in base `high`."""
    code = sum(outcomes[:, i] * high ** (outcomes.shape[1] - 1 - i) for i in range(outcomes.shape[1]))
    return np.bincount(code.numpy(), minlength=high ** outcomes.shape[1])


@pytest.mark.parametrize(("num", "high"), [(3, 5), (5, 5), (2, 40), (2, 60), (1, 30)])
def test_all_ordered_selections_are_equally_likely(num, high):
    counts = frequencies(rows(150_000).distinct("x", num, high), high)
    allowed = [len(set(outcome)) == num for outcome in itertools.product(range(high), repeat=num)]
    assert counts[~np.array(allowed)].sum() == 0
    assert stats.chisquare(counts[allowed]).pvalue > MIN_P


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.integers(0, 2**40))
def test_selections_never_hold_a_duplicate(high, share, seed):
    num = round(share * high)
    drawn = rows(4, seed=seed).distinct("x", num, high)
    assert drawn.shape == (4, num)
    assert all(len(set(row)) == num and set(row) <= set(range(high)) for row in drawn.tolist())


def test_every_place_of_a_large_selection_is_uniform():
    drawn = rows(20_000).distinct("x", 64, 4095)
    for place in (0, 1, 40, 63):
        assert stats.chisquare(np.bincount(drawn[:, place].numpy(), minlength=4095)).pvalue > MIN_P
    first_is_larger = (drawn[:, 0] > drawn[:, 63]).double().mean()
    assert abs(first_is_larger - 0.5) < 4 * 0.5 / math.sqrt(20_000)


@pytest.mark.parametrize("high", [4, 2**24])  # repeats found with a table, and by sorting
def test_first_distinct_keeps_new_values_in_order_and_falls_back_to_a_valid_row(high):
    draws = torch.tensor(list(itertools.product(range(4), repeat=5)))
    for draw, result in zip(draws.tolist(), first_distinct(draws, 3, high).tolist(), strict=True):
        new = list(dict.fromkeys(draw))
        assert result == (new[:3] if len(new) >= 3 else [0, 1, 2])


@pytest.mark.parametrize(("num", "high"), [(2, 100), (4, 4095), (64, 4095), (512, 4095), (900, 4095), (256, 2**20)])
def test_draws_suffice_but_for_a_negligible_probability(num, high):
    count = draws_needed(num, high)
    assert stats.binom.logcdf(num - 1, count, 1 - (num - 1) / high) < -64 * math.log(2)
    assert count < 2 * num + 10


@pytest.mark.parametrize(("num", "high", "named"), [(5, 4, "num=5"), (-1, 4, "num=-1"), (1, 0, "high=0")])
def test_an_impossible_selection_is_refused(num, high, named):
    with pytest.raises(UserError, match=named):
        rows(1).distinct("x", num, high)
    with pytest.raises(UserError, match="high=16777217 must be from 1 to 16777216"):
        rows(1).integers("x", 1, 2**24 + 1)


def successive_probability(outcome: tuple[int, ...], weights: list[float]) -> float:
    """The definition: each draw in proportion to the weights that are left."""
    left, probability = sum(weights), 1.0
    for position in outcome:
        probability *= weights[position] / left
        left -= weights[position]
    return probability


@pytest.mark.parametrize("weights", [[5.0, 1.0, 3.0, 0.5], [1.0] * 4, [1000.0, 1.0, 1.0, 10.0]])
@pytest.mark.parametrize("num", [1, 2, 4])
def test_weighted_selections_follow_successive_draws(weights, num):
    counts = frequencies(rows(200_000).weighted_distinct("x", num, torch.tensor(weights)), 4)
    outcomes = list(itertools.product(range(4), repeat=num))
    allowed = np.array([len(set(outcome)) == num for outcome in outcomes])
    expected = np.array([successive_probability(o, weights) for o, ok in zip(outcomes, allowed, strict=True) if ok])
    assert counts[~allowed].sum() == 0
    assert stats.chisquare(counts[allowed], expected * 200_000 / expected.sum()).pvalue > MIN_P


def test_weighted_selections_agree_with_numpy():
    p = np.arange(1, 29) ** -0.99
    rng = np.random.default_rng(0)
    numpys = np.stack([rng.choice(28, 4, replace=False, p=p / p.sum()) for _ in range(20_000)])
    ours = rows(20_000).weighted_distinct("x", 4, torch.from_numpy(p)).numpy()
    for place in range(4):
        both = np.stack([np.bincount(drawn[:, place], minlength=28) for drawn in (ours, numpys)])
        assert stats.chi2_contingency(both).pvalue > MIN_P


def test_weights_of_each_row_and_weights_of_zero():
    weights = torch.tensor([[0.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 0.0]])
    drawn = rows(2).weighted_distinct("x", 4, weights)
    assert set(drawn[0, :2].tolist()) == {1, 3}
    assert drawn[1, 3] == 3
    assert drawn.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 2


def test_exponentials_are_accurate_logarithms():
    words = torch.cat([rows(1000).bits("x", 1000).flatten(), 2 ** torch.arange(32), 2**32 - 2 ** torch.arange(32)])
    words = torch.cat([words, torch.tensor([0])])[None]
    exact = 32 - np.log2(words.numpy() + 0.5)
    ours = exponentials(words)
    assert ours.min() > 0
    assert np.abs(ours.numpy() / 2**44 - exact).max() < 1.8e-7


def test_exponentials_are_exponential():
    drawn = exponentials(rows(20_000).bits("x", 10)).flatten().numpy() / 2**44 * math.log(2)
    assert stats.kstest(drawn, "expon").pvalue > MIN_P
