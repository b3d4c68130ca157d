"""What the tasks of associative recall share."""

import itertools
import math

import pytest
import torch

from hybrids.tasks.query_slots import bits_of_values, slot_weights

CPU = torch.device("cpu")


def test_weights_fall_as_a_power_of_the_slot():
    assert slot_weights(4, 1.0, CPU).tolist() == [1, 1, 1, 1]
    assert slot_weights(3, 0.5, CPU).tolist() == pytest.approx([1, 1 / math.sqrt(2), 1 / math.sqrt(3)])


@pytest.mark.parametrize("power", [0.0, -1.0, 10.5, math.nan])
def test_other_powers_are_refused(power):
    with pytest.raises(ValueError, match="must be above 0 and at most 10"):
        slot_weights(4, power, CPU)


def test_bits_count_the_outcomes():
    assert bits_of_values(3, 5, distinct=True) == pytest.approx(
        math.log2(len(list(itertools.permutations(range(5), 3))))
    )
    assert bits_of_values(3, 5, distinct=False) == pytest.approx(math.log2(5**3))
