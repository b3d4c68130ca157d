"""Inputs of ops that have kernels, what the ops mean, one step at a time, and how both are compared."""

import torch
from kernel_stand_ins import step_by_step
from torch.nn import functional as F

BF16 = torch.bfloat16
GATES = ["none", "scalar", "key"]


def make_inputs(length, width, gate, *, has_beta, dtype=torch.float32, device="cpu", d_value=None, groups=3):
    generator = torch.Generator().manual_seed(0)

    def make(*shape):
        return torch.randn(2, length, *shape, generator=generator)

    inputs = {"q": make(groups, width), "k": F.normalize(make(groups, width), dim=-1), "v": make(3, d_value or width)}
    if has_beta:
        inputs["beta"] = make(3).sigmoid()
    inputs = {name: x.to(device, dtype) for name, x in inputs.items()}
    if gate != "none":
        inputs["log_decay"] = F.logsigmoid(make(3) if gate == "scalar" else make(3, width)).to(device)
    state = torch.randn(2, 3, width, d_value or width, generator=generator).to(device)
    return {**inputs, "state": state}


def assert_same(expected_side, actual_side, inputs, tolerance):
    """Outputs, states and gradients under the same random weights; the tolerance is a share of the largest entry."""
    sides = []
    for function in (expected_side, actual_side):
        leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
        outputs = function(**leaves)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(x.shape, generator=generator).to(x.device) for x in outputs]
        total = sum((x.double() * w).sum() for x, w in zip(outputs, weights, strict=True))
        sides.append([*outputs, *torch.autograd.grad(total, list(leaves.values()))])
    for expected, actual in zip(*sides, strict=True):
        scale = expected.double().abs().max().item()
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=tolerance * scale)


def dplr_step_by_step(q, k, v, a, b, log_decay, state=None, *, scale=1.0):
    """S <- diag(exp(log_decay)) S + k v^T + b (a^T S) with S of before the step on both sides, in float64."""
    q, k, v, a, b, log_decay = (x.double() for x in (q, k, v, a, b, log_decay))
    state = torch.zeros(*q.shape[::2], q.shape[3], v.shape[3]) if state is None else state
    state, outputs = state.double(), []
    for t in range(q.shape[1]):
        seen = torch.einsum("bhkv,bhk->bhv", state, a[:, t])
        state = state * log_decay[:, t].exp().unsqueeze(-1)
        for key, value in ((k[:, t], v[:, t]), (b[:, t], seen)):
            state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
        outputs.append(scale * torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, dim=1), state


def make_dplr_inputs(length, width, *, dtype=torch.float32, device="cpu"):
    inputs = make_inputs(length, width, "key", has_beta=False, dtype=dtype, device=device)
    rate = torch.rand(inputs["k"].shape, generator=torch.Generator().manual_seed(2)).to(device, dtype)
    return inputs | {"a": -inputs["k"], "b": inputs["k"] * rate}


def make_scan_inputs(length, d_state=4, *, width=8, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x, dt = (torch.randn(2, length, width, generator=generator) for _ in range(2))
    B, C = (torch.randn(2, length, d_state, generator=generator) for _ in range(2))
    A, D = -torch.rand(width, d_state, generator=generator) - 0.1, torch.randn(width, generator=generator)
    activations = {name: t.to(device, dtype) for name, t in (("x", x), ("dt", F.softplus(dt)), ("B", B), ("C", C))}
    return {**activations, "A": A.to(device), "D": D.to(device)}


def make_mamba2_inputs(length, d_state=4, d_value=6, *, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, length, 4, d_value, generator=generator)
    B, C = (torch.randn(2, length, 2, d_state, generator=generator) for _ in range(2))
    activations = {name: t.to(device, dtype) for name, t in (("x", x), ("B", B), ("C", C))}
    dt = F.softplus(torch.randn(2, length, 4, generator=generator)).to(device)
    A = -torch.rand(4, generator=generator).to(device)
    state = torch.randn(2, 4, d_state, d_value, generator=generator).to(device)
    return {**activations, "dt": dt, "A": A, "state": state}


def mamba2_reference(x, dt, A, B, C, state=None):
    return step_by_step(C, B, dt[..., None].double() * x, log_decay=dt.double() * A, state=state, scale=1.0)
