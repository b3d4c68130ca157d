"""Gated linear attention in chunks, forward and backward; called through `linear_attention`.

Inside a chunk of C steps with incoming state S, let a(j, i] be the product of the decays after position j up to
and including i, and 0 the step before the chunk:

    o_i = (q_i a(0, i])^T S + sum_{j <= i} (q_i a(j, i] . k_j) v_j        S' = a(0, C] S + sum_j a(j, C] k_j v_j^T

How decays are multiplied, and what the gradient of a gate is made of, is in `decay_products`: with one gate per key
feature it costs log2(C) batched products. (arXiv:2312.06635, section 4.3, has two levels of blocks instead, and needs
positive exponents within the lower one.)

The backward pass is written out: autograd would keep every intermediate.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.chunks import Chunks
from hybrids.ops.decay_products import (
    HeadGates,
    blocks,
    cleared,
    d_log_decay_of_heads,
    d_log_decay_of_keys,
    levels,
)
from hybrids.ops.derivatives import recurrence


def _cut(q: Tensor, chunk_size: int) -> Chunks:
    """Chunks of a power of two steps, at most `chunk_size`."""
    num = -(-q.shape[1] // (1 << chunk_size.bit_length() - 1))
    return Chunks.of(q, 1 << (-(-q.shape[1] // num) - 1).bit_length())


def _total(since: Float[Tensor, "*R X C W"], chunks: Chunks) -> Float[Tensor, "*R N Y W 1"]:
    return since[..., -1, :].unflatten(-2, (chunks.num, -1)).unsqueeze(-1)


def _per_head(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, chunk_size: int
) -> tuple[Tensor, ...]:
    """No gate, or one per head; heads of values may share queries and keys."""
    chunks = _cut(q, chunk_size)
    q, k, v = chunks.split(q), chunks.split(k), chunks.split_shared(v)
    scores, v_out, total, gates = torch.bmm(q, k.mT), v, None, ()
    if log_decay is None:
        pair = torch.ones_like(scores[0]).tril()
        attn = (scores * pair).expand(len(v), *scores.shape)
    else:
        gates = HeadGates.of(chunks.split_shared(log_decay.unsqueeze(-1)))
        attn, v_out, total = scores * gates.pair, v * gates.until, _total(gates.since, chunks)
    states = _scan(k, v_out, total, state, chunks)
    o = torch.empty_like(v)
    for o_r, s_r in zip(o, states, strict=True):
        torch.bmm(q, s_r[:-1].flatten(0, 1), out=o_r)
    if gates:
        gates = *gates, o.mul_(gates.since).clone()
    o.flatten(0, 1).baddbmm_(attn.flatten(0, 1), v.flatten(0, 1))
    saved = [chunks.rows(q), chunks.rows(k), *(chunks.rows(x, 1) for x in (v, attn, *gates))]
    return chunks.join_shared(o), chunks.join_state(states[:, -1]), states.movedim(2, 0), *saved


def _per_head_gradients(
    d_o: Tensor, d_state: Tensor, needs: tuple[bool, ...], chunk_size: int, *saved: Tensor
) -> tuple[Tensor | None, ...]:
    """Of q, k, v, log_decay and state."""
    states, q, k = saved[0].movedim(0, 2), *map(Chunks.from_rows, saved[1:3])
    v, attn, *rest = (Chunks.from_rows(x, 1) for x in saved[3:])
    chunks, d_decay = _cut(d_o[:, :, :: len(v)], chunk_size), None
    d_o = chunks.split_shared(d_o)
    gates = HeadGates(*rest[:3]) if rest else None
    d_read, v_out, total, pair = d_o, v, None, torch.ones_like(attn[0, 0]).tril() if gates is None else gates.pair
    if gates is not None:
        d_read, v_out, total = d_o * gates.since, v * gates.until, _total(gates.since, chunks)
    d_states = _scan_back(q, d_read, total, chunks.split_state(d_state), chunks)
    d_v = torch.empty_like(v)
    for d_v_r, d_s_r in zip(d_v, d_states, strict=True):
        torch.bmm(k, d_s_r[1:].flatten(0, 1), out=d_v_r)
    d_attn = torch.bmm(d_o.flatten(0, 1), v.flatten(0, 1).mT).view_as(attn)
    if gates is not None:
        d_v.mul_(gates.until)
    if gates is not None and needs[3]:
        parts = (d_attn * attn, (d_o * rest[3]).sum(-1), (d_v * v).sum(-1))
        kept = _d_total(states, d_states, _total(gates.since, chunks)).sum(-2).flatten(1, 2)
        d_decay = d_log_decay_of_heads(*parts, kept)
        d_decay = chunks.join_shared(d_decay.unsqueeze(-1)).squeeze(-1)
    d_v.flatten(0, 1).baddbmm_(attn.flatten(0, 1).mT, d_o.flatten(0, 1))
    d_scores = d_attn.mul_(pair).sum(0) if len(v) > 1 else d_attn.mul_(pair)[0]
    d_q, d_k = torch.bmm(d_scores, k), torch.bmm(d_scores.mT, q)
    for d_read_r, v_r, s_r, d_s_r in zip(d_read, v_out, states, d_states, strict=True):
        d_q.baddbmm_(d_read_r, s_r[:-1].flatten(0, 1).mT)
        d_k.baddbmm_(v_r, d_s_r[1:].flatten(0, 1).mT)
    d_s = chunks.join_state(d_states[:, 0]) if needs[-1] else None
    d_q, d_k, d_v = chunks.join(d_q), chunks.join(d_k), chunks.join_shared(d_v)
    return d_q, d_k, d_v, d_decay, d_s


def _per_key(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor | None, chunk_size: int
) -> tuple[Tensor, ...]:
    """One gate per key feature; every head of values has its own queries and keys."""
    chunks = _cut(q, chunk_size)
    q, k, v = chunks.split(q), chunks.split(k), chunks.split(v)
    decay = cleared(chunks.split(log_decay).exp())
    since, until = decay.clone(), torch.ones_like(decay)
    attn = torch.diag_embed((q * k).sum(-1))
    for late, early, query, key in _halves(q, k, since, until):
        block = torch.bmm((late * query).flatten(0, 1), (early * key).flatten(0, 1).mT)
        blocks(attn, late.shape[2]).copy_(block.unflatten(0, late.shape[:2]))
    states = _scan(k * until, v.unsqueeze(0), _total(since, chunks).unsqueeze(0), state, chunks)
    o = torch.bmm(q * since, states[0, :-1].flatten(0, 1)).baddbmm_(attn, v)
    saved = [chunks.rows(x) for x in (q, k, v, decay, attn)]
    return chunks.join(o), chunks.join_state(states[:, -1]), states.movedim(2, 0), *saved


def _per_key_gradients(
    d_o: Tensor, d_state: Tensor, needs: tuple[bool, ...], chunk_size: int, *saved: Tensor
) -> tuple[Tensor | None, ...]:
    """Of q, k, v, log_decay and state."""
    chunks, states = _cut(d_o, chunk_size), saved[0].movedim(0, 2)
    q, k, v, decay, attn = map(chunks.from_rows, saved[1:])
    d_o, since, until = chunks.split(d_o), decay.clone(), torch.ones_like(decay)
    d_attn = torch.bmm(d_o, v.mT)
    diagonal = d_attn.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    d_q, d_k, terms = diagonal * k, diagonal * q, []
    for late, early, query, key in _halves(q, k, since, until):
        half, q_in, k_out = late.shape[2], late * query, early * key
        block = blocks(d_attn, half).flatten(0, 1)
        d_late = torch.bmm(block, k_out.flatten(0, 1)).view_as(late)
        d_early = torch.bmm(block.mT, q_in.flatten(0, 1)).view_as(early)
        d_q.unflatten(1, (-1, 2, half))[:, :, 1].addcmul_(d_late, query)
        d_k.unflatten(1, (-1, 2, half))[:, :, 0].addcmul_(d_early, key)
        terms.append((q_in.mul_(d_late), k_out.mul_(d_early)))
    total, q_in, k_out = _total(since, chunks).unsqueeze(0), q * since, k * until
    d_states = _scan_back(q_in, d_o.unsqueeze(0), total, chunks.split_state(d_state), chunks)
    before, after = states[0, :-1].flatten(0, 1), d_states[0, 1:].flatten(0, 1)
    d_v = torch.bmm(k_out, after).baddbmm_(attn.mT, d_o)
    d_read, d_written = torch.bmm(d_o, before.mT), torch.bmm(v, after.mT)
    d_q.addcmul_(d_read, since)
    d_k.addcmul_(d_written, until)
    d_total = _d_total(states, d_states, total)[0].flatten(0, 1).mT
    d_since = q_in.mul_(d_read)
    d_decay = d_log_decay_of_keys(d_since, k_out.mul_(d_written), d_total, terms).add_(d_since)
    d_s = chunks.join_state(d_states[:, 0]) if needs[-1] else None
    d_q, d_k, d_v = (chunks.join(x) for x in (d_q, d_k, d_v))
    return d_q, d_k, d_v, chunks.join(d_decay), d_s


per_head, per_key = (
    recurrence(*functions, num_tensors=5, op="linear_attention", instead="linear_attention_recurrent")
    for functions in ((_per_head, _per_head_gradients), (_per_key, _per_key_gradients))
)


def _halves(q: Tensor, k: Tensor, since: Tensor, until: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Per level: queries of the second halves of its blocks, keys of the first ones, and the decays of both."""
    for key, query in levels(since, until):
        cut = (-1, 2, key.shape[2])
        yield q.unflatten(1, cut)[:, :, 1], k.unflatten(1, cut)[:, :, 0], query, key


def _scan(
    k: Tensor, v: Tensor, total: Tensor | None, state: Tensor | None, chunks: Chunks
) -> Float[Tensor, "R N Y K V"]:
    """The states before every chunk and after the last."""
    num_shared, _, _, d_value = v.shape
    states = v.new_empty(num_shared, chunks.num + 1, chunks.batch * chunks.heads, k.shape[-1], d_value)
    states[:, 0] = 0 if state is None else chunks.split_state(state)
    for s_r, v_r in zip(states, v, strict=True):
        torch.bmm(k.mT, v_r, out=s_r[1:].flatten(0, 1))
    _accumulate(states.unbind(1), None if total is None else total.unbind(1))
    return states


def _scan_back(
    q: Tensor, d_read: Tensor, total: Tensor | None, d_state: Tensor, chunks: Chunks
) -> Float[Tensor, "R N Y K V"]:
    """Gradients of the states that `_scan` gives."""
    d_states = d_read.new_empty(len(d_read), chunks.num + 1, *d_state.shape[1:])
    d_states[:, -1] = d_state
    for d_s_r, d_r in zip(d_states, d_read, strict=True):
        torch.bmm(q.mT, d_r, out=d_s_r[:-1].flatten(0, 1))
    _accumulate(d_states.unbind(1)[::-1], None if total is None else total.unbind(1)[::-1])
    return d_states


def _accumulate(states: tuple[Tensor, ...], decays: tuple[Tensor, ...] | None) -> None:
    """Adds to every state the one before it, decayed, in place."""
    for i in range(1, len(states)):
        if decays is None:
            states[i].add_(states[i - 1])
        else:
            states[i].addcmul_(states[i - 1], decays[i - 1])


def _d_total(
    states: Float[Tensor, "R M Y K V"], d_states: Float[Tensor, "R M Y K V"], total: Float[Tensor, "R N Y W 1"]
) -> Float[Tensor, "R N Y K 1"]:
    """Gradients of the logarithms of the decays over whole chunks."""
    return (states[:, :-1] * d_states[:, 1:]).sum(-1, keepdim=True).mul_(total)
