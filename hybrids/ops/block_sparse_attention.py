"""Block-sparse attention: past blocks as one compressed token each, the best-scoring ones also in full.

Time is cut into blocks of `block_size` tokens from position 0 on. A token reads, in two attentions,
    compressed: one token for every complete block before its own;
    selected:   its own block up to itself, and `num_selected` of the complete blocks before it, in full.
A block's score is the weight that the compressed attention gives it, summed over the heads that share its keys; of
equal scores the earlier block wins. Scores and the choice are made in float32 or wider; scores equal up to rounding
may be told apart differently in a step and in a sequence, the only exception to the law of the mixer.

Shapes as in `attention`: queries [B T H K] at the last T of the S positions of keys [B S G K] and values [B S G V];
H is a multiple of G. Compressed keys and values, [B M G K] and [B M G V], are of the M complete blocks.
Source: (B, k)-sparse attention, arXiv:2602.01763, definition 2.4; scores as in arXiv:2502.11089, eq. 8-10.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybrids.ops.attention import attend, band
from hybrids.ops.precision import compute_dtype, without_autocast


def compress(x: Float[Tensor, "B S G K"], weight: Float[Tensor, "C G K"]) -> Float[Tensor, "B M G K"]:
    """One token for each of the M complete blocks of C tokens: a sum weighted by position, head and feature."""
    size = weight.shape[0]
    blocks = x.shape[1] // size
    return (x[:, : blocks * size].unflatten(1, (blocks, size)) * weight).sum(2).to(x.dtype)


def block_sparse_attention(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    compressed_k: Float[Tensor, "B M G K"],
    compressed_v: Float[Tensor, "B M G V"],
    gate: Float[Tensor, "B T H"],
    *,
    block_size: int,
    num_selected: int,
) -> Float[Tensor, "B T H V"]:
    """gate * selected + (1 - gate) * compressed; for the tokens of the first block, which has none before, selected.

    Cost per query: a step reads M compressed and at most (num_selected + 1) block_size full tokens; a sequence is
    computed with masks, so that it takes time and memory H T S whatever is selected (as dense attention would).
    """
    length, span = q.shape[1], k.shape[1]
    past = torch.arange(span - length, span, device=q.device) // block_size  # complete blocks before each query
    compressed_k, compressed_v = compressed_k[:, : span // block_size], compressed_v[:, : span // block_size]
    if span <= block_size:
        return attend(q, k, v, band(length, span, None, q.device))
    compressed, chosen = _compressed(q, compressed_k, compressed_v, past, num_selected)
    if length == 1:
        selected = _read_chosen(q, k, v, chosen[:, 0], block_size, (span - 1) // block_size)
    else:
        selected = attend(q, k, v, _mask(chosen, past, span, block_size, q.shape[2] // k.shape[2]))
    gate = torch.where(past[:, None] > 0, gate, 1).unsqueeze(-1)
    return torch.lerp(compressed, selected, gate.to(selected.dtype))


def _compressed(
    q: Tensor, k: Tensor, v: Tensor, past: Int[Tensor, " T"], num_selected: int
) -> tuple[Float[Tensor, "B T H V"], Int[Tensor, "B T G J"]]:
    """Outputs of the compressed attention, and the blocks it chooses; where fewer exist, the number M instead."""
    blocks, groups = k.shape[1], k.shape[2]
    with without_autocast(q.device.type):
        wide = compute_dtype(q)
        heads = q.to(wide).unflatten(2, (groups, -1)) * q.shape[-1] ** -0.5  # [B T G H/G K]
        scores = torch.einsum("btghk,bmgk->btghm", heads, k.to(wide))
        is_past = (torch.arange(blocks, device=q.device) < past[:, None])[:, None, None]  # [T 1 1 M]
        weights = scores.masked_fill(~is_past, -torch.inf)
        # Rows without any block would be NaN, also in the gradient.
        weights = weights.masked_fill((past == 0)[:, None, None, None], 0).softmax(-1)
        output = torch.einsum("btghm,bmgv->btghv", weights, v.to(wide)).flatten(2, 3).to(q.dtype)
        importance = weights.detach().sum(3).masked_fill(~is_past[:, :, 0], -1)
    best = importance.sort(dim=-1, descending=True, stable=True)
    indices = best.indices.masked_fill(best.values < 0, blocks)
    return output, indices[..., :num_selected]


def _mask(
    chosen: Int[Tensor, "B T G J"], past: Int[Tensor, " T"], span: int, block_size: int, shared: int
) -> Bool[Tensor, "B H T S"]:
    """Which keys every query reads in full."""
    batch, length, groups, _ = chosen.shape
    of_block = torch.arange(span, device=chosen.device) // block_size
    blocks = span // block_size
    is_chosen = chosen.new_zeros(batch, length, groups, blocks + 1, dtype=torch.bool).scatter(-1, chosen, True)
    is_chosen[..., blocks] = False  # stands for no choice, and is the block that is not complete
    is_chosen = is_chosen[..., of_block].transpose(1, 2)
    own = band(length, span, None, chosen.device) & (of_block == past[:, None])
    return (is_chosen | own).repeat_interleave(shared, dim=1)


def _read_chosen(
    q: Tensor, k: Tensor, v: Tensor, chosen: Int[Tensor, "B G J"], block_size: int, past: int
) -> Float[Tensor, "B 1 H V"]:
    """The selected attention of one query, reading nothing but its own block and the chosen ones."""
    chosen = chosen[..., :past].mT  # all J of them exist: [B J G]
    steps = torch.arange(block_size, device=q.device)[:, None]
    at = (chosen.unsqueeze(2) * block_size + steps).flatten(1, 2).unsqueeze(-1)  # [B J*C G 1]
    own = past * block_size
    k, v = (torch.cat([x.gather(1, at.expand(-1, -1, -1, x.shape[-1])), x[:, own:]], dim=1) for x in (k, v))
    return attend(q, k, v, None)
