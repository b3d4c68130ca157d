"""The bound, the coordinates and the law of the triangle, against brute force and simulated memories."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrids.errors import UserError
from hybrids.tasks.recalled_bits import recalled_bits
from hybrids.triangle.bound import bits_per_fact, max_facts, max_utilisation, min_state_bits
from hybrids.triangle.coordinates import Measured, flatness, locate
from hybrids.triangle.intervals import LawBroken, check_law, estimate, upper_limit


def test_exact_recall_needs_the_bits_of_the_values():
    assert max_facts(1024, 256, 0.0) == 128.0
    assert min_state_bits(128, 256, 0.0) == 1024.0


@pytest.mark.parametrize(("num_symbols", "error", "facts"), [(32, 0.10, 253), (256, 0.10, 152), (1024, 0.10, 120)])
def test_published_table_of_the_bound(num_symbols, error, facts):
    assert math.floor(max_facts(1024, num_symbols, error)) == facts


errors = st.floats(0, 1)
alphabets = st.integers(2, 4096)


@given(alphabets, errors, errors)
def test_more_errors_need_no_more_bits(num_symbols, one, other):
    low, high = sorted((one * (1 - 1 / num_symbols) * 0.999, other * (1 - 1 / num_symbols) * 0.999))
    assert bits_per_fact(num_symbols, high) <= bits_per_fact(num_symbols, low) + 1e-12
    assert bits_per_fact(num_symbols, high) > -1e-12


@given(alphabets, errors, st.integers(1, 10**6))
def test_inverse_and_agreement_with_what_tasks_use(num_symbols, error, num_facts):
    error = error * (1 - 1 / num_symbols) * 0.99
    needed = min_state_bits(num_facts, num_symbols, error)
    assert max_facts(needed, num_symbols, error) == pytest.approx(num_facts)
    rate = torch.tensor(error, dtype=torch.float64)
    whole = num_facts * math.log2(num_symbols)
    told = recalled_bits(rate, bits=whole, num_facts=num_facts, num_symbols=num_symbols).item()
    assert told == pytest.approx(needed, rel=1e-9, abs=1e-9 * whole)


@pytest.mark.parametrize(("num_symbols", "error"), [(1, 0.0), (2, 0.5), (4, 0.75), (4, -0.1), (4, 1.0)])
def test_where_the_bound_says_nothing_it_refuses(num_symbols, error):
    with pytest.raises(ValueError, match=r"num_symbols=1 must|error=.* must be at least 0 and below"):
        bits_per_fact(num_symbols, error)


@pytest.mark.parametrize(("num_facts", "num_symbols", "num_states"), [(2, 2, 2), (2, 3, 2), (3, 2, 2), (2, 2, 3)])
def test_no_code_at_all_beats_the_bound(num_facts, num_symbols, num_states):
    """Every map from values to states, read in the best way: its facts never exceed the bound at its error."""
    contents = list(itertools.product(range(num_symbols), repeat=num_facts))
    best = 1.0
    for code in itertools.product(range(num_states), repeat=len(contents)):
        right = 0
        for state, fact in itertools.product(range(num_states), range(num_facts)):
            held = [values[fact] for values, at in zip(contents, code, strict=True) if at == state]
            right += max((held.count(v) for v in range(num_symbols)), default=0)
        best = min(best, 1 - right / (len(contents) * num_facts))
    assert best < 1 - 1 / num_symbols  # the best code does better than guessing, or the test would show nothing
    assert num_facts <= max_facts(math.log2(num_states), num_symbols, best) + 1e-9


@pytest.mark.parametrize("stored", range(90, 101))
def test_a_table_of_the_first_facts_comes_close_to_the_bound_and_never_beats_it(stored):
    num_facts, num_symbols = 100, 1024
    error = (num_facts - stored) / num_facts * (1 - 1 / num_symbols)
    possible = max_facts(stored * math.log2(num_symbols), num_symbols, error)
    assert num_facts <= possible + 1e-9
    assert possible < 1.06 * num_facts


def test_a_test_with_few_facts_cannot_show_a_full_state():
    assert max_utilisation(32, 32, 56_000) == pytest.approx(160 / 56_000)
    assert max_utilisation(10_000, 32, 100) == 1.0


def test_a_model_without_a_state_is_refused_as_a_fault_of_the_user():
    with pytest.raises(UserError, match="state_bits=0 must be positive"):
        max_utilisation(32, 32, 0)


@pytest.mark.parametrize(("once", "twice", "expected"), [(5, 5, 1.0), (5, 10, 0.0), (0, 0, 1.0), (4, 4 * 2**0.5, 0.5)])
def test_flatness(once, twice, expected):
    assert flatness(once, twice) == pytest.approx(expected)


def test_coordinates_of_pure_stacks():
    """A state of 2 D n elements, read whole: (0, 0); one that stays: (1, 1)."""
    grows = locate(Measured(64, 8192, 1000, 0), Measured(128, 16384, 2000, 0), 60.0, 120.0)
    stays = locate(Measured(64, 512, 700, 0), Measured(128, 512, 700, 0))
    assert grows == (0.0, 0.0, 0.5)
    assert stays == (1.0, 1.0, None)


def formula(errors):
    return recalled_bits(errors, bits=64.0, num_facts=8, num_symbols=256)


def test_estimate_is_not_above_the_truth_on_average():
    """The plain formula of a sample's error rate is; 200 samples of 24 examples at a true error of 5 %."""
    generator = torch.Generator().manual_seed(3)
    truth = formula(torch.tensor(0.05, dtype=torch.float64)).item()
    samples = (torch.rand(200, 24, 8, generator=generator) < 0.05).double().mean(dim=2)
    found = [estimate(sample, formula, num_resamples=200) for sample in samples]
    plain = torch.stack([formula(sample.mean()) for sample in samples]).mean().item()
    mean = sum(e.bits for e in found) / len(found)
    spread = torch.tensor([e.bits for e in found]).std().item() / len(found) ** 0.5
    assert plain > truth
    assert mean < truth + 2 * spread
    assert sum(e.low <= truth <= e.high for e in found) >= 186
    assert all(e.surely <= e.low <= e.bits <= e.high for e in found)
    assert all(e.surely <= truth for e in found)


def test_without_errors_the_sure_limit_still_allows_for_some():
    found = estimate(torch.zeros(1000), formula)
    assert found.bits == found.high == 64.0
    assert found.low == pytest.approx(formula(torch.tensor(1 - 0.025 ** (1 / 1000))).item(), rel=0.001)
    assert 0 < upper_limit(torch.zeros(1000)) < 0.02
    assert 50 < found.surely < 64


@pytest.mark.parametrize("num", [200, 1000])
def test_the_interval_holds_a_rare_error_of_whole_examples(num):
    """Wrong with probability 0.001, eight answers at once: the bootstrap held it in 17 and in 69 %."""
    generator = torch.Generator().manual_seed(4)
    truth = formula(torch.tensor(0.001, dtype=torch.float64)).item()
    samples = (torch.rand(300, num, generator=generator) < 0.001).double()
    found = {k: estimate((torch.arange(num) < k).double(), formula) for k in samples.sum(dim=1).unique().tolist()}
    held = [found[k].low <= truth <= found[k].high for k in samples.sum(dim=1).tolist()]
    assert sum(held) >= 0.93 * len(held)


def test_limit_holds_for_answers_that_fail_together():
    """Examples wrong as a whole, with probability 0.1: the limit is exceeded in at most 1 of 1,000."""
    generator = torch.Generator().manual_seed(0)
    samples = (torch.rand(3000, 200, generator=generator) < 0.1).double()
    assert sum(upper_limit(sample) < 0.1 for sample in samples) <= 3 + 3 * 3**0.5


def test_the_law_is_an_alarm():
    check_law(100.0, 100)
    with pytest.raises(LawBroken, match=r"at least 101.0 bits were recalled from a state of 100 bits: .*leak"):
        check_law(101.0, 100)
