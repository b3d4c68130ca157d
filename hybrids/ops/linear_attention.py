"""Linear attention, chunked for speed and one step at a time for reference.

    S_t = S_{t-1} + k_t v_t^T
    o_t = scale * S_t^T q_t

Within a chunk with incoming state S, Q K V the rows of the chunk: o = Q S + tril(Q K^T) V, S' = S + K^T V.
The incoming states of all chunks are one running sum, so there is no loop at all.
Source: arXiv:2006.16236, eq. 8-12, without the normaliser; chunked form arXiv:2312.06635, section 2.2.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def linear_attention(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    chunk_size: int = 64,
    scale: float | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and final state, computed in chunks of at most `chunk_size` steps; any T >= 1.

    `state=None` is a zero state; `scale` defaults to K^-0.5. Computes in float32 (float64 when an input is
    float64), also under autocast; outputs have the dtype of `v`, the state that of the computation.
    Cost per step and head: 2 K V for the state, 2 K V + chunk_size (K + V) for the output.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} must be at least 1")
    length = q.shape[1]
    if length == 1:
        return linear_attention_recurrent(q, k, v, state, scale=scale)
    with torch.autocast(q.device.type, enabled=False):
        dtype = v.dtype
        q, k, v, state = _prepare(q, k, v, state, scale)
        q, k, v = (_chunked(t, min(chunk_size, length)) for t in (q, k, v))
        sums = torch.cat([state.unsqueeze(2), k.mT @ v], dim=2).cumsum(dim=2)
        o = q @ sums[:, :, :-1] + (q @ k.mT).tril() @ v
    # The copy frees the state from the states of all the other chunks.
    return o.flatten(2, 3)[:, :, :length].transpose(1, 2).to(dtype), sums[:, :, -1].clone()


def linear_attention_recurrent(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same one step at a time: the reference, and the decode step. Per step and head 4 K V operations."""
    with torch.autocast(q.device.type, enabled=False):
        dtype = v.dtype
        q, k, v, state = _prepare(q, k, v, state, scale)
        outputs = []
        for q_t, k_t, v_t in zip(q.unbind(2), k.unbind(2), v.unbind(2), strict=True):
            state = state + k_t.unsqueeze(-1) * v_t.unsqueeze(-2)
            outputs.append((q_t.unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outputs, dim=1).to(dtype), state


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heads before time, in the dtype of the computation; q scaled; a state."""
    dtype = torch.promote_types(torch.promote_types(q.dtype, v.dtype), torch.float32)
    q, k, v = (t.transpose(1, 2).to(dtype) for t in (q, k, v))
    if state is None:
        state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    return q * (q.shape[-1] ** -0.5 if scale is None else scale), k, v, state.to(dtype)


def _chunked(x: Float[Tensor, "B H T K"], chunk: int) -> Float[Tensor, "B H N C K"]:
    """Padded with zeros, which add nothing to the state."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % chunk)).unflatten(2, (-1, chunk))
