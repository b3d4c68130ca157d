"""Capacity from curves whose answer is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrids.studies.capacity.search import Trial, bisect, facts_grid, find_capacity, is_settled, read_capacity


def curve_of(capacity, grid=(1, 2, 4, 8, 16, 32)):
    """A memory of `capacity` facts that guesses the rest, and never rightly."""
    return {k: min(1.0, capacity / k) for k in grid}


def trial(rate, seed, capacity, *, settled=True):
    return Trial(rate, seed, curve_of(capacity), 1000, settled, f"runs/{rate}-{seed}")


def test_the_grid_has_two_numbers_per_octave():
    assert facts_grid(32) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    assert facts_grid(10) == (1, 2, 3, 4, 6, 8, 10)
    assert facts_grid(1) == (1,)
    with pytest.raises(ValueError, match="max_facts=0 must be at least 1"):
        facts_grid(0)


def test_capacity_is_read_between_two_numbers_of_facts():
    assert read_capacity({4: 1.0, 8: 0.8}) == pytest.approx(4 * math.sqrt(2))
    assert read_capacity({1: 1.0, 2: 0.95, 4: 0.85, 8: 0.84}) == pytest.approx(2 * math.sqrt(2))


def test_a_dip_at_fewer_facts_does_not_hide_what_the_state_holds():
    dipping = {1: 0.85, 2: 0.95, 4: 0.88, 8: 0.97, 16: 0.83}
    assert read_capacity(dipping) == pytest.approx(8 * math.sqrt(2))
    assert Trial(0.01, 0, dipping, 1000, True, "").dips == (1, 4)
    assert trial(0.01, 0, 8).dips == ()


def test_nothing_learned_and_nothing_missed():
    assert read_capacity({1: 0.5, 2: 0.89}) == 0.0
    assert Trial(0.01, 0, {1: 0.5, 2: 0.99}, 1000, True, "").is_open
    assert read_capacity({1: 1.0, 64: 0.93}) == 64.0


@given(st.floats(1, 28))
def test_reading_a_memory_that_guesses_the_rest(capacity):
    """Accuracy 0.9 is at K = capacity / 0.9; what is read lies between the same two numbers of facts."""
    read = read_capacity(curve_of(capacity, range(1, 65)))
    assert math.floor(capacity / 0.9) <= read * (1 + 1e-9)
    assert read <= math.ceil(capacity / 0.9) * (1 + 1e-9)


def table(capacities):
    """A trainer that looks its answers up, and what was asked of it."""
    asked = []

    def train(rate, seed):
        asked.append((rate, seed))
        return trial(rate, seed, capacities[rate, seed])

    return train, asked


def test_the_rate_is_chosen_on_one_seed_and_the_interval_is_over_the_others():
    train, asked = table(
        {(0.001, 0): 2, (0.01, 0): 9, (0.1, 0): 5, (0.01, 1): 8, (0.01, 2): 0.1, (0.01, 3): 4, (0.01, 4): 6}
    )
    found = find_capacity(train, [0.1, 0.001, 0.01], range(5))
    assert asked == [(0.001, 0), (0.01, 0), (0.1, 0), (0.01, 1), (0.01, 2), (0.01, 3), (0.01, 4)]
    assert found.rate == 0.01
    values = [read_capacity(curve_of(c)) for c in (4, 6, 8)]
    assert found.facts == values[1]
    assert found.interval == (values[0], values[2])
    assert (found.num_seeds, found.num_never_learned) == (4, 1)
    assert found.coverage == 0.75
    assert found.window == (0.01, 0.1)
    assert found.window_decades == pytest.approx(1.0)
    assert found.reasons == ()


def test_what_could_have_been_larger_is_a_lower_bound():
    train, _ = table({(0.1, 0): 9, (0.01, 0): 5, (0.001, 0): 0.2})
    assert find_capacity(train, [0.1, 0.01, 0.001], [0]).reasons == (
        "the best learning rate, 0.1, is the largest tried",
    )
    assert find_capacity(train, [0.1], [0]).reasons == ("only 1 learning rate tried",)
    train, _ = table({(rate, 0): 40 for rate in (0.1, 0.01, 0.001)})
    assert "the most facts asked for, 32, were recalled" in find_capacity(train, [0.1, 0.01, 0.001], [0]).reasons
    found = find_capacity(lambda rate, seed: trial(rate, seed, 3, settled=False), [0.1, 0.01, 0.001], [0, 1])
    assert "2 of 2 runs were still improving after 1,000 steps" in found.reasons


def test_no_seed_learned():
    found = find_capacity(lambda rate, seed: trial(rate, seed, 0.5), [0.1, 0.01, 0.001], [0, 1, 2])
    assert (found.facts, found.interval, found.num_never_learned, found.window) == (None, None, 2, ())


def test_training_that_still_improves_is_not_settled():
    assert is_settled({100: 0.2, 200: 0.9, 300: 0.904, 400: 0.905})
    assert not is_settled({100: 0.2, 200: 0.5, 300: 0.7, 400: 0.9})
    assert not is_settled({100: 0.9})


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 300))
def test_bisection_finds_the_last_number_recalled(largest, capacity, start):
    asked = []

    def recalls(facts):
        assert 1 <= facts <= largest
        asked.append(facts)
        return facts <= capacity

    assert bisect(recalls, largest, start=start) == min(capacity, largest)
    assert len(asked) == len(set(asked)) <= 2 * math.log2(largest + 1) + 3
