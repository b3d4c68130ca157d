"""The chunked form of the gated delta rule and its gradient.

Inside a chunk with incoming state S, let c_i be the sum of log_decay up to and including position i, c_C its
last value, w = beta * k what is written, and e_i what position i writes next to w_i (the prediction error):

    e = (I + A)^-1 (v - exp(c) k S)      A_ij = exp(c_i - c_j) k_i . w_j   for j < i, else 0
    o = exp(c) q S + P e                 P_ij = exp(c_i - c_j) q_i . w_j   for j <= i, else 0
    S' = exp(c_C) S + (exp(c_C - c) w)^T e

so a sequence costs a short loop over chunks and a few batched matrix products. The backward pass is written out:
autograd would keep every intermediate of the loop and fill whole tensors with zeros for every slice.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybrids.ops.chunks import Chunks, inverse_of_one_plus, sums_to_end
from hybrids.ops.derivatives import refuse_second_derivative
from hybrids.ops.precision import without_autocast

LOWEST = {torch.float32: -64.0, torch.float64: -600.0}
"""Decays from this one on count as 0: near the smallest floating point numbers a CPU is five times as slow.

Single steps are clamped to it as well: in a sum with -1e4 the steps that follow would lose their digits.
"""


def decays(logarithm: Tensor) -> Tensor:
    """exp(logarithm) in place, 0 where that would be next to nothing."""
    return torch.threshold_(logarithm, LOWEST[logarithm.dtype], -torch.inf).exp_()


class ChunkedDeltaRule(torch.autograd.Function):
    """The chunked form and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        beta: Tensor,
        log_decay: Tensor | None,
        state: Tensor | None,
        scale: float,
        chunk_size: int,
    ) -> tuple[Tensor, Tensor]:
        num = -(-q.shape[1] // chunk_size)
        chunks = Chunks.of(q, -(-q.shape[1] // num))
        q, k, v, beta = chunks.split(q), chunks.split(k), chunks.split(v), chunks.split(beta.unsqueeze(-1))
        gates = _gates(log_decay, q, chunks)
        w = k * beta
        attn = torch.baddbmm(q.new_empty(()), q, w.mT, beta=0, alpha=scale).mul_(gates.pair)
        inverse = inverse_of_one_plus(torch.bmm(k, w.mT).mul_(gates.pair))
        k_in, w_out = k * gates.since, w * gates.until
        errors, states = _scan(v, k_in, w_out, inverse, gates.total, state, chunks)
        o = torch.bmm(q * (gates.since * scale), states[:-1].flatten(0, 1)).baddbmm_(attn, errors)
        ctx.save_for_backward(q, k, k_in, w, w_out, beta, attn, inverse, errors, states, *gates)
        ctx.chunks, ctx.scale = chunks, scale
        ctx.needs = log_decay is not None, state is not None
        return chunks.join(o), states[-1].unflatten(0, (chunks.batch, chunks.heads)).clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("delta_rule", "delta_rule_recurrent")
        d_o, d_state = grad_outputs
        q, k, k_in, w, w_out, beta, attn, inverse, errors, states, *rest = ctx.saved_tensors
        gates, chunks, (has_decay, has_state) = _Gates(*rest), ctx.chunks, ctx.needs
        with without_autocast(q.device.type):
            d_o = chunks.split(d_o)
            d_o_in = d_o * (gates.since * ctx.scale)
            d_errors, d_v = torch.bmm(attn.mT, d_o), torch.empty_like(errors)
            d_states = torch.empty_like(states)
            torch.bmm(q.mT, d_o_in, out=d_states[:-1].flatten(0, 1))
            d_states[-1] = d_state.flatten(0, 1)
            _scan_back(d_errors, d_v, d_states, k_in, w_out, inverse, gates.total, chunks)
            before, d_after = states[:-1].flatten(0, 1), d_states[1:].flatten(0, 1)
            d_attn = torch.bmm(d_o, errors.mT).mul_(gates.pair)
            d_a = torch.bmm(d_v, errors.mT).mul_(gates.pair)
            d_a.diagonal(dim1=-2, dim2=-1).zero_()
            d_q = torch.bmm(d_o_in, before.mT).baddbmm_(d_attn, w, alpha=ctx.scale)
            d_k = torch.bmm(d_v, before.mT).mul_(-gates.since).baddbmm_(d_a, w, alpha=-1)
            d_w = torch.bmm(errors, d_after.mT).mul_(gates.until)
            d_w.baddbmm_(d_attn.mT, q, alpha=ctx.scale).baddbmm_(d_a.mT, k, alpha=-1)
            d_beta = (d_w * k).sum(-1, keepdim=True)
            d_decay = None
            if has_decay:
                d_sums = (q * d_q).addcmul_(k, d_k).sum(-1, keepdim=True).addcmul_(beta, d_beta, value=-1)
                d_decay = chunks.join(_d_log_decay(d_sums, states, d_states)).squeeze(-1)
            d_k.addcmul_(d_w, beta)
            d_s = d_states[0].unflatten(0, (chunks.batch, chunks.heads)) if has_state else None
            d_q, d_k, d_v, d_beta = (chunks.join(x) for x in (d_q, d_k, d_v, d_beta))
        return d_q, d_k, d_v, d_beta.squeeze(-1), d_decay, d_s, None, None


class _Gates(NamedTuple):
    """Decays inside chunks: from j to i (0 for j > i), from the start, to the end, over the whole chunk."""

    pair: Tensor
    since: Tensor
    until: Tensor
    total: Tensor


def _gates(log_decay: Tensor | None, like: Tensor, chunks: Chunks) -> _Gates:
    if log_decay is None:
        one = like.new_ones(1, 1, 1)
        pair = like.new_ones(chunks.size, chunks.size).tril()
        return _Gates(pair, one, one, one.expand(like.shape[0], 1, 1))
    sums = chunks.split(log_decay.unsqueeze(-1)).cumsum(1)
    future = like.new_full((chunks.size, chunks.size), -torch.inf).triu(1)
    last = sums[:, -1:]
    pair = (sums - sums.mT).add_(future)
    return _Gates(*(decays(x) for x in (pair, sums, last - sums, last.clone())))


def _scan(
    v: Tensor,
    k_in: Tensor,
    w_out: Tensor,
    inverse: Tensor,
    total: Tensor,
    state: Tensor | None,
    chunks: Chunks,
) -> tuple[Tensor, Tensor]:
    """Errors of every position, and the states before every chunk and after the last."""
    errors = torch.empty_like(v)
    states = v.new_empty(chunks.num + 1, chunks.batch * chunks.heads, k_in.shape[-1], v.shape[-1])
    states[0] = 0 if state is None else state.flatten(0, 1)
    s = states.unbind()
    parts = zip(*map(chunks.unbind, (v, k_in, w_out, inverse, total, errors)), strict=True)
    for i, (v_i, k_i, w_i, x_i, t_i, e_i) in enumerate(parts):
        torch.bmm(x_i, torch.baddbmm(v_i, k_i, s[i], alpha=-1), out=e_i)
        torch.mul(s[i], t_i, out=s[i + 1]).baddbmm_(w_i.mT, e_i)
    return errors, states


def _scan_back(
    d_errors: Tensor,
    d_v: Tensor,
    d_states: Tensor,
    k_in: Tensor,
    w_out: Tensor,
    inverse: Tensor,
    total: Tensor,
    chunks: Chunks,
) -> None:
    """Completes `d_errors` and `d_states`, which hold what outputs and final state contribute; fills `d_v`."""
    d_s = d_states.unbind()
    parts = zip(*map(chunks.unbind, (d_errors, d_v, k_in, w_out, inverse, total)), strict=True)
    for i, (d_e_i, d_v_i, k_i, w_i, x_i, t_i) in reversed(list(enumerate(parts))):
        torch.bmm(x_i.mT, d_e_i.baddbmm_(w_i, d_s[i + 1]), out=d_v_i)
        d_s[i].addcmul_(d_s[i + 1], t_i).baddbmm_(k_i.mT, d_v_i, alpha=-1)


def _d_log_decay(d_sums: Tensor, states: Tensor, d_states: Tensor) -> Tensor:
    """From the gradients of the sums c inside chunks to those of their terms.

    exp(c_i) multiplies all that q_i and k_i read and divides all that w_i wrote, so the gradient of c_i is
    q_i . dq_i + k_i . dk_i - w_i . dw_i; the last c also multiplies the whole state after the chunk.
    """
    d_sums[:, -1, 0] += (states[1:] * d_states[1:]).sum((-1, -2)).flatten()
    return sums_to_end(d_sums)
