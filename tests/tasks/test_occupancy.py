"""The law of the number of different values, against enumeration."""

import itertools
from collections import Counter

import pytest

from hybrids.tasks.occupancy import occupancy


@pytest.mark.parametrize(("draws", "values"), [(5, 3), (3, 5), (4, 4), (3, 1), (0, 2)])
def test_occupancy_is_what_enumeration_counts(draws, values):
    rows = list(occupancy(draws, values))
    assert len(rows) == draws + 1
    for t, row in enumerate(rows):
        counts = Counter(len(set(outcome)) for outcome in itertools.product(range(values), repeat=t))
        assert row.tolist() == pytest.approx([counts[r] / values**t for r in range(len(row))])


def test_the_mean_is_the_known_one():
    *_, row = occupancy(500, 365)
    assert float(sum(r * p for r, p in enumerate(row))) == pytest.approx(365 * (1 - (364 / 365) ** 500))
