"""How many facts a state of so many bits can give back, at most.

    K <= B / (log2 V - h(e) - e log2(V - 1))

Setting. K values, independent and uniform over V symbols, are bound to K known keys. The state S (B bits) is fixed
before a key is drawn, uniformly and independently of values and state. The reader sees S and the key alone. e_k is its
error on key k, e their mean, h the binary entropy in bits.

Proof. (1) Fano's inequality for each key: I(v_k; S) >= log2 V - h(e_k) - e_k log2(V - 1). (2) The values are
independent, so sum_k I(v_k; S) <= I(v_1 ... v_K; S) <= H(S) <= B. (3) h(e) + e log2(V - 1) is concave, so its mean
over the keys is at most its value at the mean error: K (log2 V - h(e) - e log2(V - 1)) <= B. The key appears only as
the index at which S is read, so nothing is lost by it. Divide where the bracket is positive, which is for e < 1 - 1/V:
from there on a guess does as well and any number of facts can be "recalled".

This is the corrected form of the bound of arXiv:2605.05066, which was withdrawn; it rests on no theorem of that paper.
"""

import math

import torch

from hybrids.errors import check_positive
from hybrids.tasks.recalled_bits import recalled_bits


def bits_per_fact(num_symbols: int, error: float) -> float:
    """Least bits that a state must hold per fact: log2 V - h(e) - e log2(V - 1), positive for e < 1 - 1/V.

    Raises ValueError outside that range, where the bound says nothing.
    """
    if num_symbols < 2:
        raise ValueError(f"num_symbols={num_symbols} must be at least 2: one symbol holds no information")
    if not 0 <= error < 1 - 1 / num_symbols:
        most = f"{1 - 1 / num_symbols:.6g} (num_symbols={num_symbols}), where a guess does as well"
        raise ValueError(f"error={error} must be at least 0 and below {most}")
    rate = torch.tensor(error, dtype=torch.float64)
    return float(recalled_bits(rate, bits=math.log2(num_symbols), num_facts=1, num_symbols=num_symbols))


def max_facts(state_bits: float, num_symbols: int, error: float) -> float:
    """Most facts that a state of `state_bits` can give back at mean error `error`; not rounded down.

    Raises ValueError as `bits_per_fact`, and for a negative state.
    """
    if state_bits < 0:
        raise ValueError(f"state_bits={state_bits} must not be negative")
    return state_bits / bits_per_fact(num_symbols, error)


def min_state_bits(num_facts: float, num_symbols: int, error: float) -> float:
    """Least bits of a state that gives back `num_facts` at mean error `error`: the inverse of `max_facts`."""
    if num_facts < 0:
        raise ValueError(f"num_facts={num_facts} must not be negative")
    return num_facts * bits_per_fact(num_symbols, error)


def max_utilisation(num_facts: int, num_symbols: int, state_bits: float) -> float:
    """Largest share of a state that a test of `num_facts` can show to be used; where it is far below 1, the test
    says nothing about how well a model uses its state. UserError for a model without a state."""
    check_positive("state_bits", state_bits)
    return min(1.0, min_state_bits(num_facts, num_symbols, 0.0) / state_bits)
