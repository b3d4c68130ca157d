"""The chunked form of the gated delta rule and its gradient.

Inside a chunk with incoming state S, let a(j, i] be the product of the decays after position j up to and including i,
0 the step before the chunk, w = beta * k what is written, and e_i what position i writes next to w_i (the prediction
error):

    e = (I + A)^-1 (v - a(0, .] k S)       A_ij = a(j, i] k_i . w_j   for j < i, else 0
    o = a(0, .] q S + P e                  P_ij = a(j, i] q_i . w_j   for j <= i, else 0
    S' = a(0, C] S + (a(., C] w)^T e

so a sequence costs a short loop over chunks and a few batched matrix products. The backward pass is written out:
autograd would keep every intermediate of the loop and fill whole tensors with zeros for every slice. What the gradient
of a gate is made of is in `decay_products`.
"""

import torch
from torch import Tensor

from hybrids.ops.chunks import Chunks, inverse_of_one_plus
from hybrids.ops.decay_products import HeadGates, d_log_decay_of_heads
from hybrids.ops.derivatives import recurrence


def _cut(q: Tensor, chunk_size: int) -> Chunks:
    """Chunks as equal as can be, of at most `chunk_size` steps."""
    num = -(-q.shape[1] // chunk_size)
    return Chunks.of(q, -(-q.shape[1] // num))


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    state: Tensor | None,
    scale: float,
    chunk_size: int,
) -> tuple[Tensor, ...]:
    chunks = _cut(q, chunk_size)
    q, k, v, beta = chunks.split(q), chunks.split(k), chunks.split(v), chunks.split(beta.unsqueeze(-1))
    gates = _gates(log_decay, q, chunks)
    w = k * beta
    attn = torch.baddbmm(q.new_empty(()), q, w.mT, beta=0, alpha=scale).mul_(gates.pair)
    a = torch.bmm(k, w.mT).mul_(gates.pair)
    inverse = inverse_of_one_plus(a)
    k_in, w_out = k * gates.since, w * gates.until
    errors, states = _scan(v, k_in, w_out, inverse, _total(gates, chunks), state, chunks)
    o = torch.bmm(q * (gates.since * scale), states[:-1].flatten(0, 1)).baddbmm_(attn, errors)
    saved = (q, k, k_in, w, w_out, beta, attn, inverse, errors, *((a, *gates) if log_decay is not None else ()))
    new_state = states[-1].unflatten(0, (chunks.batch, chunks.heads)).clone()
    return chunks.join(o), new_state, states.transpose(0, 1), *map(chunks.rows, saved)


def _gradients(
    d_o: Tensor, d_state: Tensor, needs: tuple[bool, ...], scale: float, chunk_size: int, *saved: Tensor
) -> tuple[Tensor | None, ...]:
    """Of q, k, v, beta, log_decay and state."""
    chunks, states, d_decay = _cut(d_o, chunk_size), saved[0].transpose(0, 1), None
    q, k, k_in, w, w_out, beta, attn, inverse, errors, *rest = map(chunks.from_rows, saved[1:])
    gates = HeadGates(*rest[1:]) if rest else _gates(None, q, chunks)
    d_o = chunks.split(d_o)
    d_o_in = d_o * (gates.since * scale)
    d_errors, d_v = torch.bmm(attn.mT, d_o), torch.empty_like(errors)
    d_states = torch.empty_like(states)
    torch.bmm(q.mT, d_o_in, out=d_states[:-1].flatten(0, 1))
    d_states[-1] = d_state.flatten(0, 1)
    _scan_back(d_errors, d_v, d_states, k_in, w_out, inverse, _total(gates, chunks), chunks)
    before, d_after = states[:-1].flatten(0, 1), d_states[1:].flatten(0, 1)
    d_attn, d_a = torch.bmm(d_o, errors.mT), torch.bmm(d_v, errors.mT).neg_()
    d_q, d_k = torch.bmm(d_o_in, before.mT), torch.bmm(d_v, before.mT).mul_(-gates.since)
    d_w = torch.bmm(errors, d_after.mT).mul_(gates.until)
    if rest:
        pairs = (d_attn * attn).addcmul_(d_a, rest[0])
        reads, writes = (q * d_q).addcmul_(k, d_k).sum(-1), (w * d_w).sum(-1)
        kept = (before * d_after).sum((-1, -2)).unsqueeze(-1) * gates.total.squeeze(-1)
        d_decay = chunks.join(d_log_decay_of_heads(pairs, reads, writes, kept).unsqueeze(-1)).squeeze(-1)
    d_attn.mul_(gates.pair)
    d_a.mul_(gates.pair).diagonal(dim1=-2, dim2=-1).zero_()
    d_q.baddbmm_(d_attn, w, alpha=scale)
    d_k.baddbmm_(d_a, w)
    d_w.baddbmm_(d_attn.mT, q, alpha=scale).baddbmm_(d_a.mT, k)
    d_beta = (d_w * k).sum(-1, keepdim=True)
    d_k.addcmul_(d_w, beta)
    d_s = d_states[0].unflatten(0, (chunks.batch, chunks.heads)) if needs[-1] else None
    d_q, d_k, d_v, d_beta = (chunks.join(x) for x in (d_q, d_k, d_v, d_beta))
    return d_q, d_k, d_v, d_beta.squeeze(-1), d_decay, d_s


chunked_delta_rule = recurrence(_forward, _gradients, num_tensors=6, op="delta_rule", instead="delta_rule_recurrent")


def _gates(log_decay: Tensor | None, like: Tensor, chunks: Chunks) -> HeadGates:
    if log_decay is not None:
        return HeadGates.of(chunks.split(log_decay.unsqueeze(-1)))
    one = like.new_ones(1, 1, 1)
    return HeadGates(one, one, like.new_ones(chunks.size, chunks.size).tril())


def _total(gates: HeadGates, chunks: Chunks) -> Tensor:
    return gates.total.expand(chunks.num * chunks.batch * chunks.heads, 1, 1)


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
