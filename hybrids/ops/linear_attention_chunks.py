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
from torch.nn import functional as F

from hybrids.ops.precision import without_autocast


class Chunks(NamedTuple):
    """How a sequence is cut: `num` chunks of `size` steps, of which the last may end in zeros.

    Chunked tensors are [R X C W]: R heads that share queries and keys, X = chunk, row and group, C steps. So one
    batched product serves all chunks, and a chunk comes out as a view.
    """

    batch: int
    time: int
    groups: int
    num: int
    size: int

    @classmethod
    def of(cls, q: Tensor, chunk_size: int) -> "Chunks":
        """Sizes are powers of two, the largest not above `chunk_size`."""
        batch, time, groups, _ = q.shape
        num = -(-time // (1 << chunk_size.bit_length() - 1))
        size = 1 << (-(-time // num) - 1).bit_length()
        return cls(batch, time, groups, -(-time // size), size)

    def split(self, x: Float[Tensor, "B T H W"]) -> Float[Tensor, "R X C W"]:
        end = self.num * self.size
        if self.time != end:
            x = F.pad(x, (0, 0, 0, 0, 0, end - self.time))
        x = x.reshape(self.batch, self.num, self.size, self.groups, -1, x.shape[-1])
        return x.permute(4, 1, 0, 3, 2, 5).flatten(1, 3).contiguous()

    def join(self, x: Float[Tensor, "R X C W"]) -> Float[Tensor, "B T H W"]:
        """The inverse of `split`."""
        x = x.unflatten(1, (self.num, self.batch, self.groups)).permute(2, 1, 4, 3, 0, 5)
        return x.reshape(self.batch, self.num * self.size, -1, x.shape[-1])[:, : self.time]

    def split_state(self, x: Float[Tensor, "B H K V"]) -> Float[Tensor, "R Y K V"]:
        """Y = row and group."""
        return x.unflatten(1, (self.groups, -1)).permute(2, 0, 1, 3, 4).flatten(1, 2)

    def join_state(self, x: Float[Tensor, "R Y K V"]) -> Float[Tensor, "B H K V"]:
        return x.unflatten(1, (self.batch, self.groups)).permute(1, 2, 0, 3, 4).flatten(1, 2).contiguous()


_SMALLEST = {torch.float32: 2e-19, torch.float64: 1e-150}
"""Products of decays below count as 0: two of them multiplied are still a normal number, and near the smallest
numbers a CPU is many times slower."""


def _decay(log_decay: Tensor) -> Tensor:
    decay = log_decay.exp()
    return torch.threshold_(decay, _SMALLEST[decay.dtype], 0)


class _Level(NamedTuple):
    """Blocks of two halves of equal size: which decays bring the keys of the first half to its end, and which lead
    from there to the queries of the second half."""

    key: Float[Tensor, "X L P W"]
    query: Float[Tensor, "X L P W"]


class _Gates(NamedTuple):
    """Decays inside chunks: from the start, to the end, over the whole chunk; the last by chunk."""

    since: Float[Tensor, "R X C W"]
    until: Float[Tensor, "R X C W"]
    total: Float[Tensor, "R N Y W 1"]


def _levels(since: Float[Tensor, "X C W"], until: Float[Tensor, "X C W"]) -> Iterator[_Level]:
    """Blocks of 2, 4, ... C steps. Turns single decays and ones into products from the start and to the end."""
    smallest, half = _SMALLEST[since.dtype], 1
    while half < since.shape[1]:
        (s1, s2), (u1, _) = (x.unflatten(1, (-1, 2, half)).unbind(2) for x in (since, until))
        yield _Level(u1, s2)
        torch.threshold_(u1.mul_(s2[:, :, -1:]), smallest, 0)
        torch.threshold_(s2.mul_(s1[:, :, -1:]), smallest, 0)
        half *= 2


def _gates(decay: Float[Tensor, "R X C W"], until: Float[Tensor, "R X C W"], chunks: Chunks) -> _Gates:
    total = decay[:, :, -1].unflatten(1, (chunks.num, -1)).unsqueeze(-1)
    return _Gates(decay, until, total)


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
        chunks = Chunks.of(q, chunk_size)
        q, k, v = chunks.split(q), chunks.split(k), chunks.split(v)
        scores = torch.bmm(q[0], k[0].mT)
        if log_decay is None:
            gates, pair = None, torch.ones_like(scores[0]).tril()
            attn = (scores * pair).expand(len(v), *scores.shape)
        else:
            gates, pair = _gates_of_heads(chunks.split(log_decay.unsqueeze(-1)), chunks)
            attn = scores * pair
        states = _scan(k, v if gates is None else v * gates.until, gates, state, chunks)
        o = torch.empty_like(v)
        for o_r, s_r in zip(o, states, strict=True):
            torch.bmm(q[0], s_r[:-1].flatten(0, 1), out=o_r)
        if gates is not None:
            o.mul_(gates.since)
        o.flatten(0, 1).baddbmm_(attn.flatten(0, 1), v.flatten(0, 1))
        ctx.save_for_backward(q, k, v, o, attn, pair, states, *(gates or ()))
        ctx.chunks, ctx.has_state = chunks, state is not None
        return chunks.join(o), chunks.join_state(states[:, -1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        d_o, d_state = grad_outputs
        q, k, v, o, attn, pair, states, *rest = ctx.saved_tensors
        gates, chunks = _Gates(*rest) if rest else None, ctx.chunks
        with without_autocast(q.device.type):
            d_o = chunks.split(d_o)
            d_read, v_out = (d_o, v) if gates is None else (d_o * gates.since, v * gates.until)
            d_states = _scan_back(q, d_read, gates, chunks.split_state(d_state), chunks)
            d_v = torch.empty_like(v)
            for d_v_r, d_s_r in zip(d_v, d_states, strict=True):
                torch.bmm(k[0], d_s_r[1:].flatten(0, 1), out=d_v_r)
            if gates is not None:
                d_v.mul_(gates.until)
            d_v.flatten(0, 1).baddbmm_(attn.flatten(0, 1).mT, d_o.flatten(0, 1))
            d_attn = torch.bmm(d_o.flatten(0, 1), v.flatten(0, 1).mT).view_as(attn)
            d_scores = d_attn.mul_(pair).sum(0) if len(v) > 1 else d_attn.mul_(pair)[0]
            d_q, d_k = torch.bmm(d_scores, k[0]), torch.bmm(d_scores.mT, q[0])
            for d_read_r, v_r, s_r, d_s_r in zip(d_read, v_out, states, d_states, strict=True):
                d_q.baddbmm_(d_read_r, s_r[:-1].flatten(0, 1).mT)
                d_k.baddbmm_(v_r, d_s_r[1:].flatten(0, 1).mT)
            d_decay = None
            if gates is not None:
                d_products = (o * d_o).sub_(v * d_v).sum(-1, keepdim=True)
                d_after = (states[:, 1:] * d_states[:, 1:]).sum((-1, -2)).flatten(1, 2).unsqueeze(-1)
                d_decay = chunks.join(_d_log_decay(d_products, d_after)).squeeze(-1)
            d_s = chunks.join_state(d_states[:, 0]) if ctx.has_state else None
            d_q, d_k, d_v = chunks.join(d_q.unsqueeze(0)), chunks.join(d_k.unsqueeze(0)), chunks.join(d_v)
        return d_q, d_k, d_v, d_decay, d_s, None


class PerKey(torch.autograd.Function):
    """One gate per key feature; every head of values has its own queries and keys."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor | None, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        chunks = Chunks.of(q, chunk_size)
        q, k, v = chunks.split(q), chunks.split(k), chunks.split(v)
        decay = _decay(chunks.split(log_decay))
        since, until = decay.clone(), torch.ones_like(decay)
        attn = torch.diag_embed((q[0] * k[0]).sum(-1))
        for half, late, early, level in _halves(q[0], k[0], since[0], until[0]):
            block = torch.bmm((late * level.query).flatten(0, 1), (early * level.key).flatten(0, 1).mT)
            _blocks(attn, half).copy_(block.unflatten(0, late.shape[:2]))
        gates = _gates(since, until, chunks)
        states = _scan(k * until, v, gates, state, chunks)
        o = torch.bmm((q * since)[0], states[0, :-1].flatten(0, 1)).baddbmm_(attn, v[0])
        ctx.save_for_backward(q, k, v, decay, attn, states)
        ctx.chunks, ctx.has_state = chunks, state is not None
        return chunks.join(o.unsqueeze(0)), chunks.join_state(states[:, -1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        d_o, d_state = grad_outputs
        q, k, v, decay, attn, states = ctx.saved_tensors
        chunks = ctx.chunks
        with without_autocast(q.device.type):
            d_o, since, until = chunks.split(d_o), decay.clone(), torch.ones_like(decay)
            d_attn = torch.bmm(d_o[0], v[0].mT)
            diagonal = d_attn.diagonal(dim1=1, dim2=2).unsqueeze(-1)
            d_q, d_k = diagonal * k[0], diagonal * q[0]
            for half, late, early, level in _halves(q[0], k[0], since[0], until[0]):
                block = _blocks(d_attn, half).flatten(0, 1)
                d_late = torch.bmm(block, (early * level.key).flatten(0, 1)).view_as(late)
                d_early = torch.bmm(block.mT, (late * level.query).flatten(0, 1)).view_as(early)
                d_q.unflatten(1, (-1, 2, half))[:, :, 1].addcmul_(d_late, level.query)
                d_k.unflatten(1, (-1, 2, half))[:, :, 0].addcmul_(d_early, level.key)
            d_states = _scan_back(q * since, d_o, _gates(since, until, chunks), chunks.split_state(d_state), chunks)
            after = d_states[0, 1:].flatten(0, 1)
            d_v = torch.bmm((k * until)[0], after).baddbmm_(attn.mT, d_o[0])
            d_q.addcmul_(torch.bmm(d_o[0], states[0, :-1].flatten(0, 1).mT), since[0])
            d_k.addcmul_(torch.bmm(v[0], after.mT), until[0])
            d_after = (states[:, 1:] * d_states[:, 1:]).sum(-1).flatten(1, 2)
            d_decay = _d_log_decay((q * d_q).sub_(k * d_k), d_after)
            d_s = chunks.join_state(d_states[:, 0]) if ctx.has_state else None
            d_q, d_k, d_v = (chunks.join(x.unsqueeze(0)) for x in (d_q, d_k, d_v))
        return d_q, d_k, d_v, chunks.join(d_decay), d_s, None


def _refuse_second_derivative() -> None:
    # `once_differentiable` lets create_graph=True pass, and the gradient then counts as a constant.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("linear_attention has no second derivative; take linear_attention_recurrent")


def _gates_of_heads(log_decay: Float[Tensor, "R X C 1"], chunks: Chunks) -> tuple[_Gates, Float[Tensor, "R X C C"]]:
    """Gates, and the decay of every pair of positions, 0 where the key comes after the query."""
    since = _decay(log_decay)
    until = torch.ones_like(since)
    pair = torch.diag_embed(until.squeeze(-1))
    for level in _levels(since.flatten(0, 1), until.flatten(0, 1)):
        _blocks(pair.flatten(0, 1), level.key.shape[2]).copy_(level.query * level.key.mT)
    return _gates(since, until, chunks), pair


def _halves(q: Tensor, k: Tensor, since: Tensor, until: Tensor) -> Iterator[tuple[int, Tensor, Tensor, _Level]]:
    """Per level: half the size of its blocks, queries of their second halves, keys of the first ones, decays."""
    for level in _levels(since, until):
        half = level.key.shape[2]
        yield half, q.unflatten(1, (-1, 2, half))[:, :, 1], k.unflatten(1, (-1, 2, half))[:, :, 0], level


def _scan(
    k: Tensor, v: Tensor, gates: _Gates | None, state: Tensor | None, chunks: Chunks
) -> Float[Tensor, "R N Y K V"]:
    """The states before every chunk and after the last."""
    num_shared, _, _, d_value = v.shape
    states = v.new_empty(num_shared, chunks.num + 1, chunks.batch * chunks.groups, k.shape[-1], d_value)
    states[:, 0] = 0 if state is None else chunks.split_state(state)
    for s_r, v_r in zip(states, v, strict=True):
        torch.bmm(k[0].mT, v_r, out=s_r[1:].flatten(0, 1))
    _accumulate(states.unbind(1), None if gates is None else gates.total.unbind(1))
    return states


def _scan_back(
    q: Tensor, d_read: Tensor, gates: _Gates | None, d_state: Tensor, chunks: Chunks
) -> Float[Tensor, "R N Y K V"]:
    """Gradients of the states that `_scan` gives."""
    d_states = d_read.new_empty(len(d_read), chunks.num + 1, *d_state.shape[1:])
    d_states[:, -1] = d_state
    for d_s_r, d_r in zip(d_states, d_read, strict=True):
        torch.bmm(q[0].mT, d_r, out=d_s_r[:-1].flatten(0, 1))
    _accumulate(d_states.unbind(1)[::-1], None if gates is None else gates.total.unbind(1)[::-1])
    return d_states


def _accumulate(states: tuple[Tensor, ...], decays: tuple[Tensor, ...] | None) -> None:
    """Adds to every state the one before it, decayed, in place."""
    for i in range(1, len(states)):
        if decays is None:
            states[i].add_(states[i - 1])
        else:
            states[i].addcmul_(states[i - 1], decays[i - 1])


def _d_log_decay(d_products: Float[Tensor, "R X C W"], d_after: Float[Tensor, "R X W"]) -> Float[Tensor, "R X C W"]:
    """From the gradients of the logarithms of products since the start of a chunk to those of their factors."""
    d_products[:, :, -1] += d_after
    return d_products.flip(2).cumsum(2).flip(2)
