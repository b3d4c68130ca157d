"""The selective scan in chunks, and its gradient.

Every feature and state entry decays by its own factor, so no matrix product computes a chunk; what can be saved is
memory and calls. One chunk of the sequence at a time has its decays and states laid out as [B C N D] and in cache,
and only the state before every chunk is kept: the backward pass, written out, makes the others again.

    g_t = dL/dh_t = dy_t C_t^T + exp(dt_{t+1} A) g_{t+1}      q_t = dL/d(dt_t A) = g_t exp(dt_t A) h_{t-1}
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hybrids.ops.derivatives import recurrence
from hybrids.ops.precision import at_compute_dtype, without_autocast
from hybrids.ops.shapes import check_shapes


def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state: Tensor | None,
    chunk_size: int | None,
    kernel: Any,
) -> tuple[Tensor, Tensor]:
    """Outputs and final state of `selective_scan`; `kernel` is `TorchKernel` or the like of it in C++."""
    with without_autocast(x.device.type):
        out_dtype = x.dtype
        x, dt, A, B, C, D, state = prepare(x, dt, A, B, C, D, state)
        x, dt, B, C = (t.contiguous() for t in (x, dt, B, C))
        y, new_state = _scan(x, dt, B, C, A.t().contiguous().unsqueeze(0), state, chunk_size, kernel)
        if D is not None:
            y = torch.addcmul(y, x, D)
    return y.to(out_dtype), new_state


def prepare(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Any, ...]:
    """Inputs of the scan, checked, at the dtype of the computation."""
    check_inputs(x, dt, A, B, C, D, state)
    x, dt, A, B, C, D, state = at_compute_dtype(x, dt, A, B, C, D, state)
    return x, dt, A, B, C, D, x.new_zeros(x.shape[0], *A.shape) if state is None else state


def check_inputs(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> None:
    """Raise ValueError for inputs of the scan whose shapes do not belong together."""
    batch, time, width = x.shape
    if A.shape[0] != width:
        raise ValueError(f"A has shape {tuple(A.shape)}; its first axis must be the width of x, {width}")
    inputs = (batch, time, A.shape[1])
    needed = {"dt": (dt, (batch, time, width)), "B": (B, inputs), "C": (C, inputs)}
    check_shapes({**needed, "D": (D, (width,)), "state": (state, (batch, *A.shape))})


def _forward(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, a: Tensor, state: Tensor, chunk_size: int | None, kernel: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """On either backend. Inside, A is [1 N D], or [B N D] where each row has its own, and states are [B N D]: D is the
    long axis. Kept are the inputs and the state before every chunk."""
    inputs = (t.contiguous() for t in (x, dt, B, C, a))  # as they are, but under vmap
    y, starts = kernel.forward(*inputs, state.transpose(1, 2), chunk_size)
    return y, starts[-1].transpose(1, 2).contiguous(), starts[:-1].transpose(0, 1)


def _gradients(
    d_y: Tensor, d_state: Tensor, needs: tuple[bool, ...], chunk_size: int | None, kernel: Any, *saved: Tensor
) -> tuple[Tensor, ...]:
    *inputs, starts = saved
    parts = (t.contiguous() for t in (d_y, d_state.transpose(1, 2), *inputs, starts.transpose(0, 1)))
    *d_inputs, d_start = kernel.backward(*parts, chunk_size)
    return *d_inputs, d_start.transpose(1, 2)


_scan = recurrence(
    _forward, _gradients, num_tensors=6, num_kept=5, op="selective_scan", instead="selective_scan_recurrent"
)

CHUNK_ELEMENTS = 2**19
"""Of decays or states laid out at once by default: a few megabytes, which stay in a core's cache."""
STEP_ELEMENTS = 2**14
"""From this size on, the work of an operation outweighs its call; smaller steps are taken several at a time."""
LOWEST = -64.0
"""Logarithms of decays from here on count as -inf: near the smallest floating point numbers a CPU is slow."""


class TorchKernel:
    """The scan in PyTorch operations. Kept between the passes: the inputs and the state before every chunk."""

    @staticmethod
    def forward(
        x: Tensor, dt: Tensor, B: Tensor, C: Tensor, a: Tensor, state: Tensor, chunk_size: int | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs, and the states before every chunk and after the last."""
        a, starts, outputs = a.unsqueeze(1), [state], []
        for dt_c, u_c, B_c, C_c in _cut(chunk_size, state, dt, dt * x, B, C):
            h = _states(_decays(dt_c, a), dt_c, u_c, B_c, a, starts[-1])
            starts.append(h[:, -1].clone())  # a view would keep the whole chunk alive
            outputs.append((C_c.unsqueeze(2) @ h).squeeze(2))
        return torch.cat(outputs, 1), torch.stack(starts)

    @staticmethod
    def backward(
        d_y: Tensor,
        d_state: Tensor,
        x: Tensor,
        dt: Tensor,
        B: Tensor,
        C: Tensor,
        a: Tensor,
        starts: Tensor,
        chunk_size: int | None,
    ) -> tuple[Tensor, ...]:
        """Gradients of x, dt, B, C, A, at its shape, and the state [B N D]."""
        d_a, parts, a = torch.zeros_like(a), [], a.unsqueeze(1)
        for i, chunk in reversed(list(enumerate(_cut(chunk_size, d_state, d_y, x, dt, B, C)))):
            part, d_a_c, d_state = _chunk_gradients(a, starts[i], d_state, *chunk)
            parts.append(part)
            d_a += d_a_c
        return *(torch.cat(p[::-1], 1) for p in zip(*parts, strict=True)), d_a, d_state


_EVEN = 16


def _cut(chunk_size: int | None, state: Tensor, *sequences: Tensor) -> Iterator[tuple[Tensor, ...]]:
    if chunk_size is None:
        chunk_size = max(1, CHUNK_ELEMENTS // state.numel())
        chunk_size -= chunk_size % _EVEN if chunk_size > _EVEN else 0
    whole, rest = divmod(sequences[0].shape[1], chunk_size)
    odd = rest % _EVEN  # apart: the others divide into groups whatever the length
    sizes = [size for size in (*[chunk_size] * whole, rest - odd, odd) if size]
    return zip(*(t.split(sizes, 1) for t in sequences), strict=True)


def _decays(dt: Tensor, a: Tensor) -> Tensor:
    """exp(dt A), [B C N D]; A is [1 1 N D] or [B 1 N D] from here on."""
    return torch.threshold_(dt.unsqueeze(2) * a, LOWEST, -torch.inf).exp_()


def _num_groups(state: Tensor, time: int) -> int:
    """Into how many stretches a chunk is cut to be scanned side by side: small states would be all call overhead."""
    most = min(STEP_ELEMENTS // state.numel(), math.isqrt(time))
    return max(
        [n for n in range(1, most + 1) if time % n == 0] or [1]
    )  # of a generator torch.compile traces no maximum


def _states(decays: Tensor, dt: Tensor, u: Tensor, B: Tensor, a: Tensor, start: Tensor) -> Tensor:
    """All states of a chunk, [B C N D], from the state before it."""
    h = u.unsqueeze(2) * B.unsqueeze(-1)
    groups = _num_groups(start, h.shape[1])
    steps, factors, befores = _steps(h, groups), _steps(decays, groups), [start]
    if groups > 1:
        ends, totals = _chain_end(steps, factors[1:]), _total_decays(dt, a, groups)
        for g in range(groups - 1):
            befores.append(torch.addcmul(ends[:, g], totals[:, g], befores[-1]))
    steps[0].addcmul_(factors[0], torch.stack(befores, 1))
    _chain(steps, factors[1:])
    return h


def _adjoints(decays: Tensor, dt: Tensor, d_y: Tensor, C: Tensor, a: Tensor, end: Tensor) -> Tensor:
    """dL/dh of all states of a chunk, [B C N D], from the part of the last one that comes from later chunks."""
    g = d_y.unsqueeze(2) * C.unsqueeze(-1)
    groups = _num_groups(end, g.shape[1])
    steps, factors, afters = _steps(g, groups)[::-1], _steps(decays, groups), [end]
    if groups > 1:
        starts, totals = factors[0] * _chain_end(steps, factors[:0:-1]), _total_decays(dt, a, groups)
        for i in range(groups - 1, 0, -1):
            afters.append(torch.addcmul(starts[:, i], totals[:, i], afters[-1]))
    steps[0].add_(torch.stack(afters[::-1], 1))
    _chain(steps, factors[:0:-1])
    return g


def _steps(x: Tensor, groups: int) -> tuple[Tensor, ...]:
    """The steps of [B C N D], of all groups at once: [B G N D] each."""
    return x.unflatten(1, (groups, -1)).unbind(2)


def _total_decays(dt: Tensor, a: Tensor, groups: int) -> Tensor:
    """Decays over whole groups, [B G N D]."""
    return _decays(dt.unflatten(1, (groups, -1)).sum(2), a)


def _chain(steps: tuple[Tensor, ...], factors: tuple[Tensor, ...]) -> None:
    """Adds to every step but the first its factor times the step before."""
    for i, factor in enumerate(factors):
        steps[i + 1].addcmul_(factor, steps[i])


def _chain_end(steps: tuple[Tensor, ...], factors: tuple[Tensor, ...]) -> Tensor:
    """What `_chain` makes of the last step, without changing any."""
    end = steps[0]
    for step, factor in zip(steps[1:], factors, strict=True):
        end = torch.addcmul(step, factor, end)
    return end


def _chunk_gradients(
    a: Tensor, start: Tensor, end: Tensor, d_y: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Gradients of x, dt, B and C, of A, and of the state before the chunk."""
    u, decays = dt * x, _decays(dt, a)
    h = _states(decays, dt, u, B, a, start)
    g = _adjoints(decays, dt, d_y, C, a, end)
    d_C, d_B = (h @ d_y.unsqueeze(-1)).squeeze(-1), (g @ u.unsqueeze(-1)).squeeze(-1)
    d_u = (B.unsqueeze(2) @ g).squeeze(2)
    q = g.mul_(decays)
    d_start = q[:, 0].clone()
    q[:, 0] *= start
    q[:, 1:] *= h[:, :-1]
    d_rate = q * dt.unsqueeze(2)
    d_a = d_rate.sum(1) if len(a) > 1 else d_rate.flatten(0, 1).sum(0, keepdim=True)
    d_dt = q.mul_(a).sum(2).addcmul_(x, d_u)
    return (dt * d_u, d_dt, d_B, d_C), d_a, d_start
