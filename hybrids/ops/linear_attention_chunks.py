"""Gated linear attention in chunks, forward and backward; called through `linear_attention`.

Inside a chunk of C steps with incoming state S, let a(j, i] be the product of the decays after position j up to
and including i, and 0 the step before the chunk:

    o_i = (q_i a(0, i])^T S + sum_{j <= i} (q_i a(j, i] . k_j) v_j        S' = a(0, C] S + sum_j a(j, C] k_j v_j^T

Decays are only ever multiplied, never divided: where j and i lie in the two halves of a block, a(j, i] is the
product of what follows j in its half and of what precedes i in its own. Blocks of 2, 4, ... C steps cover all pairs,
so a gate of any strength is exact, and one per key feature costs log2(C) batched products. (arXiv:2312.06635,
section 4.3, has two levels of blocks instead, and needs positive exponents within the lower one.)

The backward pass is written out: autograd would keep every intermediate. A product of decays scales what is read
with it and what was written before it, so the gradient of log a_t is the sum over i >= t of q_i . dq_i - k_i . dk_i
(by feature; with one gate per head o_i . do_i - v_i . dv_i) plus what the state after the chunk contributes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.chunks import Chunks, cleared, sums_to_end
from hybrids.ops.derivatives import refuse_second_derivative
from hybrids.ops.precision import without_autocast


class _Gates(NamedTuple):
    """Decays inside chunks: from the start, to the end, over the whole chunk; the last by chunk."""

    since: Float[Tensor, "R X C 1"]
    until: Float[Tensor, "R X C 1"]
    total: Float[Tensor, "R N Y 1 1"]


def _cut(q: Tensor, chunk_size: int) -> Chunks:
    """Chunks of a power of two steps, at most `chunk_size`."""
    num = -(-q.shape[1] // (1 << chunk_size.bit_length() - 1))
    return Chunks.of(q, 1 << (-(-q.shape[1] // num) - 1).bit_length())


def _levels(since: Float[Tensor, "X C W"], until: Float[Tensor, "X C W"]) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of 2, 4, ... C steps: which decays bring the keys of the first half to its end, and which lead from there
    to the queries of the second half, both [X L P W]. Turns single decays and ones into products from the start and to
    the end."""
    half = 1
    while half < since.shape[1]:
        (s1, s2), (u1, _) = (x.unflatten(1, (-1, 2, half)).unbind(2) for x in (since, until))
        yield u1, s2
        cleared(u1.mul_(s2[:, :, -1:]))
        cleared(s2.mul_(s1[:, :, -1:]))
        half *= 2


def _total(since: Float[Tensor, "*R X C W"], chunks: Chunks) -> Float[Tensor, "*R N Y W 1"]:
    return since[..., -1, :].unflatten(-2, (chunks.num, -1)).unsqueeze(-1)


def _blocks(pairs: Float[Tensor, "X C C"], half: int) -> Float[Tensor, "X L P P"]:
    """A view of the pairs whose query is in the second and whose key is in the first half of a block."""
    cut = pairs.unflatten(2, (-1, 2 * half)).unflatten(1, (-1, 2 * half))
    return cut.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)[:, :, half:, :half]


class PerHead(torch.autograd.Function):
    """No gate, or one per head; heads of values may share queries and keys."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        chunks = _cut(q, chunk_size)
        q, k, v = chunks.split(q), chunks.split(k), chunks.split_shared(v)
        scores = torch.bmm(q, k.mT)
        if log_decay is None:
            gates, pair = None, torch.ones_like(scores[0]).tril()
            attn = (scores * pair).expand(len(v), *scores.shape)
        else:
            gates, pair = _gates_of_heads(chunks.split_shared(log_decay.unsqueeze(-1)), chunks)
            attn = scores * pair
        v_out, total = (v, None) if gates is None else (v * gates.until, gates.total)
        states = _scan(k, v_out, total, state, chunks)
        o = torch.empty_like(v)
        for o_r, s_r in zip(o, states, strict=True):
            torch.bmm(q, s_r[:-1].flatten(0, 1), out=o_r)
        if gates is not None:
            o.mul_(gates.since)
        o.flatten(0, 1).baddbmm_(attn.flatten(0, 1), v.flatten(0, 1))
        ctx.save_for_backward(q, k, v, o, attn, pair, states, *(gates or ()))
        ctx.chunks, ctx.has_state = chunks, state is not None
        return chunks.join_shared(o), chunks.join_state(states[:, -1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("linear_attention", "linear_attention_recurrent")
        d_o, d_state = grad_outputs
        q, k, v, o, attn, pair, states, *rest = ctx.saved_tensors
        gates, chunks = _Gates(*rest) if rest else None, ctx.chunks
        with without_autocast(q.device.type):
            d_o = chunks.split_shared(d_o)
            d_read, v_out, total = d_o, v, None
            if gates is not None:
                d_read, v_out, total = d_o * gates.since, v * gates.until, gates.total
            d_states = _scan_back(q, d_read, total, chunks.split_state(d_state), chunks)
            d_v = torch.empty_like(v)
            for d_v_r, d_s_r in zip(d_v, d_states, strict=True):
                torch.bmm(k, d_s_r[1:].flatten(0, 1), out=d_v_r)
            if gates is not None:
                d_v.mul_(gates.until)
            d_v.flatten(0, 1).baddbmm_(attn.flatten(0, 1).mT, d_o.flatten(0, 1))
            d_attn = torch.bmm(d_o.flatten(0, 1), v.flatten(0, 1).mT).view_as(attn)
            d_scores = d_attn.mul_(pair).sum(0) if len(v) > 1 else d_attn.mul_(pair)[0]
            d_q, d_k = torch.bmm(d_scores, k), torch.bmm(d_scores.mT, q)
            for d_read_r, v_r, s_r, d_s_r in zip(d_read, v_out, states, d_states, strict=True):
                d_q.baddbmm_(d_read_r, s_r[:-1].flatten(0, 1).mT)
                d_k.baddbmm_(v_r, d_s_r[1:].flatten(0, 1).mT)
            d_decay = None
            if gates is not None:
                d_products = (o * d_o).sub_(v * d_v).sum(-1, keepdim=True)
                d_after = (states[:, 1:] * d_states[:, 1:]).sum((-1, -2)).flatten(1, 2).unsqueeze(-1)
                d_decay = chunks.join_shared(_d_log_decay(d_products, d_after)).squeeze(-1)
            d_s = chunks.join_state(d_states[:, 0]) if ctx.has_state else None
            d_q, d_k, d_v = chunks.join(d_q), chunks.join(d_k), chunks.join_shared(d_v)
        return d_q, d_k, d_v, d_decay, d_s, None


class PerKey(torch.autograd.Function):
    """One gate per key feature; every head of values has its own queries and keys."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor | None, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        chunks = _cut(q, chunk_size)
        q, k, v = chunks.split(q), chunks.split(k), chunks.split(v)
        decay = cleared(chunks.split(log_decay).exp())
        since, until = decay.clone(), torch.ones_like(decay)
        attn = torch.diag_embed((q * k).sum(-1))
        for late, early, query, key in _halves(q, k, since, until):
            block = torch.bmm((late * query).flatten(0, 1), (early * key).flatten(0, 1).mT)
            _blocks(attn, late.shape[2]).copy_(block.unflatten(0, late.shape[:2]))
        states = _scan(k * until, v.unsqueeze(0), _total(since, chunks).unsqueeze(0), state, chunks)
        o = torch.bmm(q * since, states[0, :-1].flatten(0, 1)).baddbmm_(attn, v)
        ctx.save_for_backward(q, k, v, decay, attn, states)
        ctx.chunks, ctx.has_state = chunks, state is not None
        return chunks.join(o), chunks.join_state(states[:, -1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("linear_attention", "linear_attention_recurrent")
        d_o, d_state = grad_outputs
        q, k, v, decay, attn, states = ctx.saved_tensors
        chunks = ctx.chunks
        with without_autocast(q.device.type):
            d_o, since, until = chunks.split(d_o), decay.clone(), torch.ones_like(decay)
            d_attn = torch.bmm(d_o, v.mT)
            diagonal = d_attn.diagonal(dim1=1, dim2=2).unsqueeze(-1)
            d_q, d_k = diagonal * k, diagonal * q
            for late, early, query, key in _halves(q, k, since, until):
                half = late.shape[2]
                block = _blocks(d_attn, half).flatten(0, 1)
                d_late = torch.bmm(block, (early * key).flatten(0, 1)).view_as(late)
                d_early = torch.bmm(block.mT, (late * query).flatten(0, 1)).view_as(early)
                d_q.unflatten(1, (-1, 2, half))[:, :, 1].addcmul_(d_late, query)
                d_k.unflatten(1, (-1, 2, half))[:, :, 0].addcmul_(d_early, key)
            total, d_state = _total(since, chunks).unsqueeze(0), chunks.split_state(d_state)
            d_states = _scan_back(q * since, d_o.unsqueeze(0), total, d_state, chunks)
            after = d_states[0, 1:].flatten(0, 1)
            d_v = torch.bmm(k * until, after).baddbmm_(attn.mT, d_o)
            d_q.addcmul_(torch.bmm(d_o, states[0, :-1].flatten(0, 1).mT), since)
            d_k.addcmul_(torch.bmm(v, after.mT), until)
            d_after = (states[0, 1:] * d_states[0, 1:]).sum(-1).flatten(0, 1)
            d_decay = _d_log_decay((q * d_q).sub_(k * d_k), d_after)
            d_s = chunks.join_state(d_states[:, 0]) if ctx.has_state else None
            d_q, d_k, d_v = (chunks.join(x) for x in (d_q, d_k, d_v))
        return d_q, d_k, d_v, chunks.join(d_decay), d_s, None


def _gates_of_heads(log_decay: Float[Tensor, "R X C 1"], chunks: Chunks) -> tuple[_Gates, Float[Tensor, "R X C C"]]:
    """Gates, and the decay of every pair of positions, 0 where the key comes after the query."""
    since = cleared(log_decay.exp())
    until = torch.ones_like(since)
    pair = torch.diag_embed(until.squeeze(-1))
    for key, query in _levels(since.flatten(0, 1), until.flatten(0, 1)):
        _blocks(pair.flatten(0, 1), key.shape[2]).copy_(query * key.mT)
    return _Gates(since, until, _total(since, chunks)), pair


def _halves(q: Tensor, k: Tensor, since: Tensor, until: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Per level: queries of the second halves of its blocks, keys of the first ones, and the decays of both."""
    for key, query in _levels(since, until):
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


def _d_log_decay(d_products: Float[Tensor, "*R X C W"], d_after: Float[Tensor, "*R X W"]) -> Float[Tensor, "*R X C W"]:
    """From the gradients of the logarithms of products since the start of a chunk to those of their factors."""
    d_products[..., -1, :] += d_after
    return sums_to_end(d_products)
