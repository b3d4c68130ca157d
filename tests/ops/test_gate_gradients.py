"""Gradients of gates keep their digits however strong the decays are: chunks in float32 against plain recurrences in
float64, whose gradients autograd makes."""

import inspect
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrids.ops import selective_scan_cpu
from hybrids.ops.delta_rule import delta_rule
from hybrids.ops.dplr import dplr, per_key_delta_rule
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.mamba2_scan import mamba2_scan
from hybrids.ops.selective_scan import selective_scan

B, T, H, K, V, CHUNK = 2, 41, 2, 8, 6, 16
STRENGTHS = {name: [float(name)] for name in ("0", "-5", "-15", "-40")}
STRENGTHS["open, and shut at times"] = [0.0, -1e-6, -1e-3, -0.05, -40.0]
Inputs = dict[str, Tensor]


def recurrence(q, k, v, log_decay, state, removed=None, written=None) -> tuple[Tensor, Tensor]:
    """S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T + written_t (removed_t^T S_{t-1}), read by q_t."""
    decay, outputs = log_decay.exp(), []
    for t in range(q.shape[1]):
        new = torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
        if removed is not None and written is not None:
            new = new + torch.einsum("bhk,bhj,bhjv->bhkv", written[:, t], removed[:, t], state)
        state = decay[:, t].unsqueeze(-1) * state + new
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outputs, 1), state


def removing(q, k, v, beta, log_decay, state) -> tuple[Tensor, Tensor]:
    """The delta rule as a case of the recurrence: what a decayed state gives for k is replaced."""
    written = beta.unsqueeze(-1) * k
    return recurrence(q, written, v, log_decay, state, -k * log_decay.exp(), written)


def scan(x, dt, A, B, C, state) -> tuple[Tensor, Tensor]:
    outputs = []
    for t in range(x.shape[1]):
        state = (dt[:, t, :, None] * A).exp() * state + (dt[:, t] * x[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, t]))
    return torch.stack(outputs, 1), state


def draw(strengths: list[float], *, per_key: bool, groups: int = H) -> Inputs:
    """Inputs of the ops, by their names."""
    g = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    keys = F.normalize(normal(B, T, groups, K), dim=-1)
    shape = (B, T, H, K) if per_key else (B, T, H)
    gates = torch.tensor(strengths, dtype=torch.float64)[torch.randint(len(strengths), shape, generator=g)]
    return {
        "q": normal(B, T, groups, K),
        "k": keys,
        "v": normal(B, T, H, V),
        "log_decay": gates,
        "state": normal(B, H, K, V),
        "beta": normal(B, T, H).sigmoid(),
        "removed": -F.normalize(normal(B, T, H, K), dim=-1),
        "written": normal(B, T, H, K).sigmoid(),
    }


def by_key(log_decay: Tensor) -> Tensor:
    return log_decay if log_decay.ndim == 4 else log_decay.unsqueeze(-1).expand(-1, -1, -1, K)


def shared(x: Tensor) -> Tensor:
    return x.repeat_interleave(H // x.shape[2], dim=2)


def attend(q, k, v, log_decay, state):
    return linear_attention(q, k, v, state, log_decay=log_decay, chunk_size=CHUNK, scale=1.0)


def attend_stepwise(q, k, v, log_decay, state):
    return recurrence(shared(q), shared(k), v, by_key(log_decay), state)


def scan_of_mamba2(q, k, v, log_decay, state):
    """dt is the strength, A is -1."""
    return mamba2_scan(v, -log_decay, -torch.ones(H, dtype=v.dtype), k, q, state, chunk_size=CHUNK)


def replace(q, k, v, beta, log_decay, state):
    op = delta_rule if log_decay.ndim == 3 else per_key_delta_rule
    return op(q, k, v, beta, log_decay, state, chunk_size=CHUNK, scale=1.0)


def remove(q, k, v, removed, written, log_decay, state):
    return dplr(q, k, v, removed, written, log_decay, state, chunk_size=CHUNK, scale=1.0)


def remove_what_is_written(q, k, v, removed, log_decay, state):
    return dplr(q, k, v, removed, None, log_decay, state, chunk_size=CHUNK, scale=1.0)


OPS: dict[str, tuple[Callable, Callable, dict]] = {
    "linear attention": (attend, attend_stepwise, {"per_key": False}),
    "linear attention, shared keys": (attend, attend_stepwise, {"per_key": False, "groups": 1}),
    "linear attention by key": (attend, attend_stepwise, {"per_key": True}),
    "mamba-2": (
        scan_of_mamba2,
        lambda q, k, v, log_decay, state: attend_stepwise(q, k, v * -log_decay.unsqueeze(-1), log_decay, state),
        {"per_key": False, "groups": 1},
    ),
    "delta rule": (
        replace,
        lambda q, k, v, beta, log_decay, state: removing(q, k, v, beta, by_key(log_decay), state),
        {"per_key": False},
    ),
    "delta rule by key": (replace, removing, {"per_key": True}),
    "dplr": (
        remove,
        lambda q, k, v, removed, written, log_decay, state: recurrence(q, k, v, log_decay, state, removed, written),
        {"per_key": True},
    ),
    "dplr, one vector": (
        remove_what_is_written,
        lambda q, k, v, removed, log_decay, state: recurrence(q, k, v, log_decay, state, removed, k),
        {"per_key": True},
    ),
}


def gradients(fn: Callable, inputs: Inputs, dtype: torch.dtype) -> Inputs:
    leaves = {name: x.to(dtype).requires_grad_() for name, x in inputs.items()}
    g = torch.Generator().manual_seed(1)
    outputs = fn(**leaves)
    seeds = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(dtype) for o in outputs]
    return dict(zip(leaves, torch.autograd.grad(outputs, list(leaves.values()), seeds), strict=True))


def largest_errors(got: Inputs, expected: Inputs, gate: str, gates: Tensor) -> dict[str, float]:
    """Of each input, relative to its largest gradient; of the gates, among those of the same strength."""
    errors = {}
    for name, true in expected.items():
        groups = gates == gates.unique().view(-1, *[1] * gates.ndim) if name == gate else [torch.ones_like(true) > 0]
        error = (got[name].double() - true).abs()
        errors[name] = max(float(error[group].max() / true[group].abs().max().clamp(min=1e-300)) for group in groups)
    return errors


@pytest.mark.parametrize("strengths", STRENGTHS.values(), ids=STRENGTHS)
@pytest.mark.parametrize("name", OPS)
def test_gradients_in_float32_are_those_of_the_recurrence_in_float64(name: str, strengths: list[float]) -> None:
    op, reference, options = OPS[name]
    inputs = draw(strengths, **options)
    inputs = {parameter: inputs[parameter] for parameter in inspect.signature(op).parameters}
    got, expected = gradients(op, inputs, torch.float32), gradients(reference, inputs, torch.float64)
    errors = largest_errors(got, expected, "log_decay", inputs["log_decay"])
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize("strengths", STRENGTHS.values(), ids=STRENGTHS)
@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_gradients_of_the_selective_scan_are_those_of_the_recurrence(backend: str, strengths: list[float]) -> None:
    if backend == "cpp" and (reason := selective_scan_cpu.why_not()):
        pytest.skip(reason)
    inputs = draw(strengths, per_key=False)
    x, dt = inputs["v"].flatten(2), -inputs["log_decay"].repeat_interleave(V, dim=2)
    ones = torch.ones(H * V, K, dtype=torch.float64)
    inputs = {"x": x, "dt": dt, "A": -ones, "B": inputs["k"][:, :, 0], "C": inputs["q"][:, :, 0]}
    inputs["state"] = x[:, 0].unsqueeze(-1) * ones
    got = gradients(
        lambda x, dt, A, B, C, state: selective_scan(x, dt, A, B, C, None, state, chunk_size=CHUNK, backend=backend),
        inputs,
        torch.float32,
    )
    errors = largest_errors(got, gradients(scan, inputs, torch.float64), "dt", dt)
    assert max(errors.values()) < 1e-4, errors
