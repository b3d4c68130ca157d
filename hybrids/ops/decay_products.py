"""Products of decays inside chunks, and the gradients of their logarithms.

Let a(j, i] be the product of the decays after position j up to and including i. Decays are only ever multiplied, never
divided: where j and i lie in the two halves of a block, a(j, i] is the product of what follows j in its half and of
what precedes i in its own. Blocks of 2, 4, ... C steps cover all pairs, so a gate of any strength is exact.

The gradient of log a_t is the sum of all that passes position t, and every summand holds a_t itself as a factor. It
is never taken as the difference of what was read after t and what was written there: where decays are strong the two
are equal in all their digits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SMALLEST = {torch.float32: 2e-19, torch.float64: 1e-150}
"""Products of decays below count as 0: two of them multiplied are still a normal number, and near the smallest
numbers a CPU is many times slower."""
SMALLEST_OF_PAIRS = {torch.float32: 1e-28, torch.float64: 1e-250}
"""The same where the products of pairs are made before anything is multiplied with them."""


def cleared(products: Tensor, smallest: dict[torch.dtype, float] = SMALLEST) -> Tensor:
    """Products of decays, those below `smallest` set to 0; in place."""
    return torch.threshold_(products, smallest[products.dtype], 0)


def levels(
    since: Float[Tensor, "X C W"], until: Float[Tensor, "X C W"], smallest: dict[torch.dtype, float] = SMALLEST
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of 2, 4, ... C steps: which decays bring the keys of the first half to its end, and which lead from there
    to the queries of the second half, both [X L P W]. Turns single decays and ones into products from the start and to
    the end."""
    half = 1
    while half < since.shape[1]:
        (s1, s2), (u1, _) = (x.unflatten(1, (-1, 2, half)).unbind(2) for x in (since, until))
        yield u1, s2
        cleared(u1.mul_(s2[:, :, -1:]), smallest)
        cleared(s2.mul_(s1[:, :, -1:]), smallest)
        half *= 2


def blocks(pairs: Float[Tensor, "X C C"], half: int) -> Float[Tensor, "X L P P"]:
    """A view of the pairs whose query is in the second and whose key is in the first half of a block."""
    cut = pairs.unflatten(2, (-1, 2 * half)).unflatten(1, (-1, 2 * half))
    return cut.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)[:, :, half:, :half]


class HeadGates(NamedTuple):
    """Products of the decays of a head: from the start of the chunk, to its end, and a(j, i] of all pairs, 0 for
    j > i."""

    since: Float[Tensor, "*X C 1"]
    until: Float[Tensor, "*X C 1"]
    pair: Float[Tensor, "*X C C"]

    @classmethod
    def of(cls, log_decay: Float[Tensor, "*X C 1"]) -> "HeadGates":
        """Of chunks of any number of steps."""
        size = log_decay.shape[-2]
        whole = 1 << (size - 1).bit_length()
        since = cleared(F.pad(log_decay, (0, 0, 0, whole - size)).exp(), SMALLEST_OF_PAIRS)
        until = torch.ones_like(since)
        pair = torch.diag_embed(until.squeeze(-1))
        for key, query in levels(since.flatten(0, -3), until.flatten(0, -3), SMALLEST_OF_PAIRS):
            blocks(pair.flatten(0, -3), key.shape[2]).copy_(query * key.mT)
        pair = cleared(pair, SMALLEST_OF_PAIRS)
        return cls(*(x[..., :size, :].contiguous() for x in (since, until, pair[..., :size])))

    @property
    def total(self) -> Float[Tensor, "*X 1 1"]:
        """Over the whole chunk."""
        return self.since[..., -1:, :]


def d_log_decay_of_heads(
    pairs: Float[Tensor, "*X C C"],
    reads: Float[Tensor, "*X C"],
    writes: Float[Tensor, "*X C"],
    kept: Float[Tensor, "*X 1"],
) -> Float[Tensor, "*X C"]:
    """From the gradients of the logarithms of products to those of their factors, one gate per head.

    Position t is passed by `pairs` with j < t <= i, by what is read of the state before the chunk from t on, by what is
    written before t to the state after it, and by what is kept of the one in the other.
    """
    ones = pairs.new_ones(pairs.shape[-2:])
    since, after = ones.tril(), ones.triu(1)
    passing = torch.matmul(pairs, after).tril_().sum(-2)
    return passing.add_(reads @ since).add_(writes @ after).add_(kept)


def d_log_decay_of_keys(
    since: Float[Tensor, "X C K"],
    until: Float[Tensor, "X C K"],
    total: Float[Tensor, "X 1 K"],
    terms: Sequence[tuple[Tensor, Tensor]],
) -> Float[Tensor, "X C K"]:
    """The same with one gate per key feature: what passes a position and is neither read nor written there.

    Given are gradients of the logarithms of the products from the start of the chunk, to its end and over all of it,
    and, in `terms`, of those that meet in the blocks of 2, 4, ... C steps, [X L P K] by `levels`. Goes back from the
    whole chunk to single steps, as a product over two halves is one of the two products. Adds to `since` and `until`,
    in place, what is read and what was written in the blocks.
    """
    for late, early in reversed(terms):
        cut = (-1, 2, late.shape[2])
        second, first = since.unflatten(1, cut)[:, :, 1], until.unflatten(1, cut)[:, :, 0]
        total = torch.stack([total + second.sum(2), total + first.sum(2)], 2).flatten(1, 2)
        second.add_(late)
        first.add_(early)
    return total
