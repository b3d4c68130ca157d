"""The bound on stored bits, against direct counts on small memories."""

import math

import pytest
import torch

from hybrids.tasks.recalled_bits import recalled_bits


def test_no_errors_prove_all_bits():
    assert recalled_bits(torch.tensor(0.0), bits=24.0, num_facts=3, num_symbols=256).item() == 24.0


@pytest.mark.parametrize(("errors", "expected"), [(0.1, 6.732), (0.0, 8.0)])
def test_agrees_with_the_table_of_the_bound(errors, expected):
    """The denominators for V = 256 in the derivation that the project rests on."""
    got = recalled_bits(torch.tensor(errors, dtype=torch.float64), bits=8.0, num_facts=1, num_symbols=256)
    assert got.item() == pytest.approx(expected, abs=5e-4)


def test_guessing_proves_nothing():
    errors = torch.tensor([1 - 1 / 8, 0.9, 1.0], dtype=torch.float64)
    assert recalled_bits(errors, bits=30.0, num_facts=10, num_symbols=8).tolist() == [0.0, 0.0, 0.0]


def test_a_memory_of_the_first_facts_is_not_overrated():
    """It stores m of K values exactly and guesses the rest: the bound may not exceed its m log2 V bits."""
    num_facts, num_symbols = 16, 8
    for stored in range(num_facts + 1):
        errors = torch.tensor((num_facts - stored) / num_facts * (1 - 1 / num_symbols), dtype=torch.float64)
        got = recalled_bits(
            errors, bits=num_facts * math.log2(num_symbols), num_facts=num_facts, num_symbols=num_symbols
        )
        assert got.item() <= stored * math.log2(num_symbols) + 1e-9


def test_one_symbol_holds_no_bits():
    assert recalled_bits(torch.tensor(0.0), bits=0.0, num_facts=4, num_symbols=1).item() == 0.0
