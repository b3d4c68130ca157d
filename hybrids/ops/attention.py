"""Softmax attention over past keys, full or in a sliding window, and rotary positions.

Shapes: queries [B T H K], keys [B S G K], values [B S G V] with S >= T; the T queries stand at the last T of the
S positions, and H is a multiple of G (grouped heads). Backend: PyTorch's fused `scaled_dot_product_attention`.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from hybrids.ops.heads import repeat_heads
from hybrids.ops.precision import compute_dtype


def attention(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    *,
    window: int | None = None,
) -> Float[Tensor, "B T H V"]:
    """Causal softmax attention with scale K^-0.5; with `window`, over the last `window` positions, self included.

    Cost per query: 2 H (K + V) S multiply-adds, or `window` in place of S (computed in blocks, so that long
    sequences cost T x window and not T x T).
    """
    length, span = q.shape[1], k.shape[1]
    if window is not None and length > 2 * max(window, _BLOCK):
        return _banded_attention(q, k, v, window)
    if window is None or window >= span:
        mask = None if length in (1, span) else band(length, span, None, q.device)
        return attend(q, k, v, mask, is_causal=length == span and length > 1)
    if length == 1:
        return attend(q, k[:, -window:], v[:, -window:], None)
    return attend(q, k, v, band(length, span, window, q.device))


_BLOCK = 32


def _banded_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Blocks of queries, each against its own stretch of window - 1 earlier keys."""
    batch, length = q.shape[:2]
    block = max(window, _BLOCK)
    blocks = -(-length // block)
    past = min(k.shape[1] - length, window - 1)
    reach = block + window - 1
    before, after = window - 1 - past, blocks * block - length
    k, v = (F.pad(t[:, t.shape[1] - length - past :], (0, 0, 0, 0, before, after)) for t in (k, v))
    k, v = (t.unfold(1, reach, block).movedim(-1, 2).flatten(0, 1) for t in (k, v))
    q = F.pad(q, (0, 0, 0, 0, 0, after)).unflatten(1, (blocks, block)).flatten(0, 1)
    mask = band(block, reach, window, q.device).expand(blocks, block, reach).clone()
    first = torch.arange(blocks, device=q.device)[:, None] * block + torch.arange(reach, device=q.device)
    mask &= (first >= before)[:, None]
    out = attend(q, k, v, mask.repeat(batch, 1, 1)[:, None])
    return out.unflatten(0, (batch, blocks)).flatten(1, 2)[:, :length]


def attend(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    mask: Bool[Tensor, "... T S"] | None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "B T H V"]:
    """Softmax attention of grouped heads to the keys that `mask` allows."""
    q, k, v = (repeat_heads(x, q.shape[2]).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal).transpose(1, 2)


def band(length: int, span: int, window: int | None, device: torch.device) -> Bool[Tensor, "T S"]:
    """Which of `span` keys each of the last `length` positions may read."""
    behind = torch.arange(span - length, span, device=device)[:, None] - torch.arange(span, device=device)
    return behind >= 0 if window is None else (behind >= 0) & (behind < window)


def rotate(
    q: Float[Tensor, "B T H K"], k: Float[Tensor, "B S G K"], *, start: int = 0, theta: float = 10000.0
) -> tuple[Float[Tensor, "B T H K"], Float[Tensor, "B S G K"]]:
    """Queries and keys with rotary position embeddings (arXiv:2104.09864, eq. 34); the first key is at `start`.

    The two halves of K form the pairs, as in Llama and GPT-NeoX. K must be even. Angles are computed in float32
    (float64 for float64 inputs); the results have the dtype of the inputs.
    """
    half = k.shape[-1] // 2
    dtype = compute_dtype(k)
    steps = torch.arange(start, start + k.shape[1], device=k.device, dtype=dtype)
    freqs = theta ** (-torch.arange(half, device=k.device, dtype=dtype) / half)
    angles = (steps[:, None] * freqs)[:, None, :]
    cos, sin = angles.cos(), angles.sin()
    past = k.shape[1] - q.shape[1]
    return _turn(q, cos[past:], sin[past:]), _turn(k, cos, sin)


def _turn(x: Float[Tensor, "B T H K"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B T H K"]:
    a, b = x.unflatten(-1, (2, -1)).unbind(-2)  # not slices: their backward fills whole tensors with zeros
    halves = torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)
    return torch.stack(halves, dim=-2).flatten(-2).to(x.dtype)


class DefinedAttention(TorchFunctionMode):
    """Softmax attention by its definition in the place of PyTorch's function, whose work cannot be counted."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        is_attention = func is F.scaled_dot_product_attention
        return (_defined_attention if is_attention else func)(*args, **(kwargs or {}))


def _defined_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale q k^T + mask) v."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        is_choice = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if is_choice else scores + attn_mask
    return F.dropout(scores.softmax(-1), dropout_p) @ value
