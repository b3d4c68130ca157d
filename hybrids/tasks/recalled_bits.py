"""What answers with errors prove about the state that they were read from."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def entropy_bits(laws: Float[Tensor, "*laws N"]) -> Float[Tensor, "*laws"]:
    """The entropy of each law of N values, in bits."""
    return torch.special.entr(laws).sum(dim=-1) / math.log(2)


def recalled_bits(
    errors: Float[Tensor, "..."], *, bits: float, num_facts: int, num_symbols: int
) -> Float[Tensor, "..."]:
    """Least bits stored about `num_facts` answers that together hold `bits`, given mean error rates: [0, bits].

    bits - K (h(e) + e log2(V - 1)), in bits; 0 from e = 1 - 1/V on, where guessing does as well. With answers
    v_1 ... v_K of any joint law with entropy `bits`, each one of V symbols, and a state S read by an independently
    drawn key, I(v; S) = H(v) - H(v | S) >= bits - sum_k H(v_k | S), and Fano's inequality bounds each term by
    h(e_k) + e_k log2(V - 1), which is concave in e_k, so that the mean error may stand for all of them. An answer that
    is none of the V symbols counts as an error, and replacing it by a guess only helps.

    Source: Cover and Thomas, Elements of Information Theory, 2nd edition, theorem 2.10.1 (Fano).
    """
    entropy = (torch.special.entr(errors) + torch.special.entr(1 - errors)) / math.log(2)
    lost = num_facts * (entropy + errors * math.log2(max(num_symbols - 1, 1)))
    return torch.where(errors < 1 - 1 / num_symbols, (bits - lost).clamp(min=0), torch.zeros_like(errors))
