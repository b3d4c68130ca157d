"""The generalised delta rule in chunks, forward and backward; called through `dplr`.

Positions read the state before their own step, r_i = a_i and r_i = scale * exp(log_decay_i) * q_i, and write
w_j = k_j and w_j = b_j after it. In a chunk with incoming state S let d(j, i) be the product of the decays after
position j and before position i, 0 and C + 1 standing for the ends of the chunk. With

    R[r, w]_ij = (d(j, i) r_i) . w_j   for j < i, else 0

what b_j multiplies (u), the outputs and the state after the chunk are

    u = (I - R[a, b])^-1 (d(0, .) a S + R[a, k] v)
    o = d(0, .) q S + (R[q, k] + diag(scale q . k)) v + (R[q, b] + diag(scale q . b)) u
    S' = d(0, C + 1) S + (d(., C + 1) k)^T v + (d(., C + 1) b)^T u

and where b is k, e = v + u is one unknown: e = (I - R[a, k])^-1 (v + d(0, .) a S), and v drops out of the rest.

How decays are multiplied, and what the gradient of a gate is made of, is in `decay_products`; here the products do not
hold the decay of the position that reads. The backward pass is written out: autograd would keep every intermediate of
every block.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.chunks import Chunks, inverse_of_one_plus
from hybrids.ops.decay_products import cleared, d_log_decay_of_keys
from hybrids.ops.derivatives import recurrence


def _cut(q: Tensor, chunk_size: int) -> Chunks:
    """Chunks of a power of two steps, at most `chunk_size`, and no more than the sequence needs."""
    return Chunks.of(q, 1 << min(chunk_size.bit_length() - 1, (q.shape[1] - 1).bit_length()))


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor | None,
    log_decay: Tensor,
    state: Tensor | None,
    scale: float,
    chunk_size: int,
) -> tuple[Tensor, ...]:
    """b=None: what position i writes is k_i (v_i + S^T a_i)^T."""
    chunks = _cut(q, chunk_size)
    q, v, decay = chunks.split(q * scale), chunks.split(v), cleared(chunks.split(log_decay).exp())
    reads = torch.stack([q * decay, chunks.split(a)], dim=2)
    writes = torch.stack([chunks.split(x) for x in (k, b) if x is not None], dim=2)
    spans = _Spans.of(decay)
    pairs = _pairs(reads, writes, spans, decay)
    _diagonal(pairs).copy_((q.unsqueeze(2) * writes).sum(-1))
    read, inverse = _scores(pairs, 0, -1), inverse_of_one_plus(-_scores(pairs, 1, -1))
    q_in, a_in = (reads * spans.before.unsqueeze(2)).unbind(2)
    w_out = (writes * spans.until.unsqueeze(2)).unbind(2)
    is_shared = b is None
    given = None if is_shared else torch.bmm(w_out[0].mT, v)
    own = torch.bmm(inverse, v if is_shared else torch.bmm(_scores(pairs, 1, 0), v))
    removed = torch.bmm(inverse, a_in)
    written, states = _scan(own, removed, w_out[-1], given, spans.total, state, chunks)
    o = torch.bmm(q_in, states[:-1].flatten(0, 1)).baddbmm_(read, written)
    if not is_shared:
        o.baddbmm_(_scores(pairs, 0, 0), v)
    saved = (q, v, reads, writes, decay, *spans, pairs, inverse, removed, written)
    new_state = states[-1].unflatten(0, (chunks.batch, chunks.heads)).clone()
    return chunks.join(o), new_state, states.transpose(0, 1), *map(chunks.rows, saved)


def _gradients(
    d_o: Tensor, d_state: Tensor, needs: tuple[bool, ...], scale: float, chunk_size: int, *saved: Tensor
) -> tuple[Tensor | None, ...]:
    """Of q, k, v, a, b, log_decay and state."""
    chunks, states = _cut(d_o, chunk_size), saved[0].transpose(0, 1)
    q, v, reads, writes, decay, *spans, pairs, inverse, removed, written = map(chunks.from_rows, saved[1:])
    spans, is_shared = _Spans(*spans), writes.shape[2] == 1
    d_o = chunks.split(d_o)
    w_out = (writes * spans.until.unsqueeze(2)).unbind(2)
    d_written, d_states = torch.bmm(_scores(pairs, 0, -1).mT, d_o), torch.empty_like(states)
    torch.bmm((reads[:, :, 0] * spans.before).mT, d_o, out=d_states[:-1].flatten(0, 1))
    d_states[-1] = d_state.flatten(0, 1)
    _scan_back(d_written, d_states, removed, w_out[-1], spans.total, chunks)
    d_unknown = torch.bmm(inverse.mT, d_written)
    before, d_after = states[:-1].flatten(0, 1), d_states[1:].flatten(0, 1)
    values, d_values = [written] if is_shared else [v, written], [d_o, d_unknown]
    d_reads = torch.stack([torch.bmm(d, before.mT) for d in d_values], 2).mul_(spans.before.unsqueeze(2))
    d_writes = torch.stack([torch.bmm(x, d_after.mT) for x in values], 2).mul_(spans.until.unsqueeze(2))
    d_spans = _Spans(
        (reads * d_reads).sum(2), (writes * d_writes).sum(2), (before * d_after).sum(-1, keepdim=True) * spans.total
    )
    d_pairs = torch.stack([torch.stack([torch.bmm(d, x.mT) for x in values], -1) for d in d_values], 2)
    terms = _add_gradients_of_pairs(d_reads, d_writes, d_pairs, reads, writes, decay)
    d_log_decay = d_log_decay_of_keys(d_spans.before, d_spans.until, d_spans.total.mT, terms)
    d_log_decay.addcmul_(reads[:, :, 0], d_reads[:, :, 0])  # a query reads after its own step decays
    d_log_decay = chunks.join(d_log_decay)
    d_diagonal = _diagonal(d_pairs).unsqueeze(-1)
    d_q = (d_reads[:, :, 0] * decay).add_((d_diagonal * writes).sum(2)).mul_(scale)
    d_k, *d_b = d_writes.addcmul_(d_diagonal, q.unsqueeze(2)).unbind(2)
    d_v = d_unknown
    if not is_shared:
        d_v = torch.bmm(_scores(pairs, 1, 0).mT, d_unknown)
        d_v.baddbmm_(_scores(pairs, 0, 0).mT, d_o).baddbmm_(w_out[0], d_after)
    d_s = d_states[0].unflatten(0, (chunks.batch, chunks.heads)) if needs[-1] else None
    d_q, d_k, d_v, d_a = (chunks.join(x) for x in (d_q, d_k, d_v, d_reads[:, :, 1]))
    return d_q, d_k, d_v, d_a, None if is_shared else chunks.join(d_b[0]), d_log_decay, d_s


chunked_dplr = recurrence(_forward, _gradients, num_tensors=7, op="dplr", instead="dplr_recurrent")


class _Spans(NamedTuple):
    """Products of decays inside a chunk: before a position, after it, and over all (by block until all are one)."""

    before: Float[Tensor, "X C K"]
    until: Float[Tensor, "X C K"]
    total: Float[Tensor, "X K 1"]

    @classmethod
    def of(cls, decay: Float[Tensor, "X C K"]) -> "_Spans":
        """Of blocks of one step; `_grow` turns them into those of the chunk."""
        return cls(torch.ones_like(decay), torch.ones_like(decay), decay.new_ones(len(decay), decay.shape[2], 1))


def _grow(spans: _Spans, decay: Float[Tensor, "X C K"]) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of 2, 4, ... C steps: what leads from the first half into each position of the second, and from each
    position of the first half to its end, both [X L P K]. Joins the halves in `spans` as it goes."""
    half, totals = 1, decay
    while half < decay.shape[1]:
        before, until = (x.unflatten(1, (-1, 2, half)) for x in spans[:2])
        late, early = before[:, :, 1], until[:, :, 0]
        yield late, early
        first, second = totals.unflatten(1, (-1, 2)).unbind(2)
        cleared(late.mul_(first.unsqueeze(2)))
        cleared(early.mul_(second.unsqueeze(2)))
        totals, half = cleared(first * second), 2 * half
    spans.total.copy_(totals.mT)


def _pairs(
    reads: Float[Tensor, "X C 2 K"], writes: Float[Tensor, "X C M K"], spans: _Spans, decay: Float[Tensor, "X C K"]
) -> Float[Tensor, "X C 2 C M"]:
    """Every read of what was written before it; 0 on and above the diagonal."""
    num, size, _, _ = reads.shape
    pairs = reads.new_zeros(num, size, 2, size, writes.shape[2])
    for r, w, _, _ in _halves(reads, writes, _grow(spans, decay)):
        block = torch.bmm(r.flatten(2, 3).flatten(0, 1), w.flatten(2, 3).flatten(0, 1).mT)
        view = _block(pairs, r.shape[2])
        view.copy_(block.view(view.shape))
    return pairs


def _halves(
    reads: Tensor, writes: Tensor, levels: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """By level: what the second halves read, what the first halves wrote, both decayed [X L P ...], and the decays."""
    for late, early in levels:
        late, early, cut = late.unsqueeze(3), early.unsqueeze(3), (-1, 2, late.shape[2])
        yield reads.unflatten(1, cut)[:, :, 1] * late, writes.unflatten(1, cut)[:, :, 0] * early, late, early


def _block(pairs: Float[Tensor, "X C 2 C M"], half: int) -> Float[Tensor, "X L P 2 P M"]:
    """A view of the pairs that read in the second half of a block and were written in its first half."""
    cut = pairs.unflatten(3, (-1, 2, half)).unflatten(1, (-1, 2, half)).diagonal(dim1=1, dim2=5)
    return cut[:, 1, :, :, 0].permute(0, 5, 1, 2, 3, 4)


def _add_gradients_of_pairs(
    d_reads: Tensor, d_writes: Tensor, d_pairs: Tensor, reads: Tensor, writes: Tensor, decay: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Returns, by level, the gradients of the logarithms of the decays that meet there, [X L P K]."""
    terms = []
    for r, w, late, early in _halves(reads, writes, _grow(_Spans.of(decay), decay)):
        cut = (-1, 2, r.shape[2])
        block = _block(d_pairs, r.shape[2]).flatten(4, 5).flatten(2, 3).flatten(0, 1)
        d_r = torch.bmm(block, w.flatten(2, 3).flatten(0, 1)).view_as(r)
        d_w = torch.bmm(block.mT, r.flatten(2, 3).flatten(0, 1)).view_as(w)
        d_reads.unflatten(1, cut)[:, :, 1].addcmul_(d_r, late)
        d_writes.unflatten(1, cut)[:, :, 0].addcmul_(d_w, early)
        terms.append((r.mul_(d_r).sum(3), w.mul_(d_w).sum(3)))
    return terms


def _scores(pairs: Float[Tensor, "X C 2 C M"], read: int, write: int) -> Float[Tensor, "X C C"]:
    return pairs[:, :, read, :, write].contiguous()


def _diagonal(pairs: Float[Tensor, "X C 2 C M"]) -> Float[Tensor, "X C M"]:
    """A view of what each position's query reads of that position's own writes."""
    return pairs[:, :, 0].diagonal(dim1=1, dim2=2).mT


def _scan(
    own: Tensor,
    removed: Tensor,
    w_out: Tensor,
    given: Tensor | None,
    total: Tensor,
    state: Tensor | None,
    chunks: Chunks,
) -> tuple[Tensor, Tensor]:
    """What every position writes, and the states before every chunk and after the last."""
    written = torch.empty_like(own)
    states = own.new_zeros(chunks.num + 1, chunks.batch * chunks.heads, removed.shape[-1], own.shape[-1])
    if given is not None:
        states[1:] = given.view_as(states[1:])
    if state is not None:
        states[0] = state.flatten(0, 1)
    s = states.unbind()
    parts = zip(*map(chunks.unbind, (own, removed, w_out, total, written)), strict=True)
    for i, (own_i, r_i, w_i, t_i, written_i) in enumerate(parts):
        torch.baddbmm(own_i, r_i, s[i], out=written_i)
        s[i + 1].addcmul_(s[i], t_i).baddbmm_(w_i.mT, written_i)
    return written, states


def _scan_back(
    d_written: Tensor, d_states: Tensor, removed: Tensor, w_out: Tensor, total: Tensor, chunks: Chunks
) -> None:
    """Completes both gradients, which hold what outputs and final state contribute."""
    d_s = d_states.unbind()
    parts = zip(*map(chunks.unbind, (d_written, removed, w_out, total)), strict=True)
    for i, (d_i, r_i, w_i, t_i) in reversed(list(enumerate(parts))):
        d_i.baddbmm_(w_i, d_s[i + 1])
        d_s[i].addcmul_(d_s[i + 1], t_i).baddbmm_(r_i.mT, d_i)
