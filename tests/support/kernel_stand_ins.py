"""Stand-ins for the kernels of fla, mamba_ssm and causal_conv1d, with their signatures, dtypes and layouts.

They take exactly the arguments that the packages' sources declare, so that a changed name, order, layout or scale shows
without a GPU. Those of fla compute with its naive functions, the others one step at a time, written out here.
"""

import sys
import types
from typing import Any, NamedTuple

import torch
from declared_signatures import installed_signature, recorded_signature
from torch.nn import functional as F


class Call(NamedTuple):
    """A kernel that was called, and with what."""

    name: str
    given: dict[str, Any]
    is_compiled: bool


def step_by_step(q, k, v, beta=None, log_decay=None, state=None, *, scale=None):
    """S <- a S; with beta, S <- S + beta k (v - S^T k)^T, without S <- S + k v^T; o = scale S^T q. In float64."""
    q, k, v, beta, log_decay, state = (None if x is None else x.double() for x in (q, k, v, beta, log_decay, state))
    (B, T, H, V), K = v.shape, q.shape[-1]
    q, k = (x.repeat_interleave(H // x.shape[2], dim=2) for x in (q, k))
    state = v.new_zeros(B, H, K, V) if state is None else state
    outputs = []
    for t in range(T):
        if log_decay is not None:
            state = state * log_decay[:, t].exp().reshape(B, H, -1, 1)
        new = (
            v[:, t] if beta is None else beta[:, t, :, None] * (v[:, t] - torch.einsum("bhkv,bhk->bhv", state, k[:, t]))
        )
        state = state + k[:, t].unsqueeze(-1) * new.unsqueeze(-2)
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, dim=1) * (K**-0.5 if scale is None else scale), state


MAMBA_MODULES = {
    "mamba_chunk_scan_combined": "mamba_ssm.ops.triton.ssd_combined",
    "selective_scan_fn": "mamba_ssm.ops.selective_scan_interface",
}


def install(monkeypatch, fla_naive):
    """Put stand-ins where adapters look for kernels; the calls that will have been made."""
    calls = []
    install_fla(monkeypatch, fla_naive, calls)
    for function in (mamba_chunk_scan_combined, selective_scan_fn):
        module = MAMBA_MODULES[function.__name__]
        signature = installed_signature(f"{module.replace('.', '/')}.py", function.__name__)
        noted = note(function, signature, calls)
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{function.__name__: noted}))
    convolution = note(causal_conv1d_fn, recorded_signature("causal_conv1d_fn"), calls)
    monkeypatch.setitem(sys.modules, "causal_conv1d", types.SimpleNamespace(causal_conv1d_fn=convolution))
    return calls


def note(function, signature, calls):
    """The function, with its calls appended to a list."""

    def kernel(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        calls.append(Call(function.__name__, given, torch.compiler.is_compiling()))
        return function(**given)

    return kernel


def install_fla(monkeypatch, fla_naive, calls):
    naive_gla = fla_naive("ops/gla/naive.py").naive_recurrent_gla
    naive_kda = fla_naive("ops/kda/naive.py").naive_recurrent_kda
    naive_dplr = fla_naive("ops/generalized_delta_rule/dplr/naive.py").dplr_recurrence

    def by_key(x, like):
        decay = x.get("gk", x.get("g"))
        decay = torch.zeros(like.shape[:3]) if decay is None else decay
        return decay if decay.dim() == 4 else decay[..., None].expand_as(like)

    def scaled(x):
        """q for functions that always scale it by K^-0.5."""
        return x["q"] if x["scale"] is None else x["q"] * (x["scale"] * x["q"].shape[-1] ** 0.5)

    def gla(x):
        q = scaled(x)
        return naive_gla(q, x["k"], x["v"], by_key(x, q), x["initial_state"], output_final_state=True)

    def delta(x):
        decay = by_key(x, x["q"])
        return naive_kda(
            x["q"], x["k"], x["v"], decay, x["beta"], x["scale"], x["initial_state"], output_final_state=True
        )

    def dplr(x):
        assert x["a"].dtype == x["b"].dtype == x["q"].dtype
        heads_first = (t.transpose(1, 2).float() for t in (scaled(x), x["k"], x["v"], x["a"], x["b"], x["gk"]))
        o, state = naive_dplr(*heads_first, initial_state=x["initial_state"])
        return o.transpose(1, 2), state

    def stand_in(op, place, name, compute):
        def kernel(**given):
            assert given["output_final_state"] is True
            assert given["q"].dtype == given["k"].dtype == given["v"].dtype
            if name == "chunk_simple_gla" and given["q"].dtype != torch.float32:
                # fla/ops/common/chunk_o.py, chunk_bwd_dv
                assert given["q"].shape[-1] % 2 == given["v"].shape[-1] % 2 == 0, "requires even K and V"
            for wide in ("initial_state", "gk", "g", "beta"):
                assert given.get(wide) is None or given[wide].dtype == torch.float32
                assert given.get(wide) is None or given[wide].isfinite().all()  # running sums of -inf are NaN
            o, state = compute({"scale": None, **given})
            return o.to(given["v"].dtype), state.float()

        kernel.__name__ = name
        module = sys.modules.get(f"fla.ops.{op}")
        if not isinstance(module, types.SimpleNamespace):
            module = types.SimpleNamespace()
            monkeypatch.setitem(sys.modules, f"fla.ops.{op}", module)
        setattr(module, name, note(kernel, installed_signature(f"fla/ops/{place}.py", name), calls))

    for op, stem, compute in [
        ("simple_gla", "simple_gla", gla),
        ("gla", "gla", gla),
        ("delta_rule", "delta_rule", delta),
        ("gated_delta_rule", "gated_delta_rule", delta),
        ("kda", "kda", delta),
    ]:
        stand_in(op, f"{op}/chunk", f"chunk_{stem}", compute)
        stand_in(op, f"{op}/fused_recurrent", f"fused_recurrent_{stem}", compute)
    place = "generalized_delta_rule/dplr"
    stand_in("generalized_delta_rule", f"{place}/chunk", "chunk_dplr_delta_rule", dplr)
    stand_in("generalized_delta_rule", f"{place}/fused_recurrent", "fused_recurrent_dplr_delta_rule", dplr)


def selective_reference(x, dt, A, B, C, D=None, state=None):
    state = torch.zeros(x.shape[0], *A.shape, dtype=torch.float64, device=x.device) if state is None else state
    outputs = []
    for t in range(x.shape[1]):
        written = (dt[:, t] * x[:, t])[..., None].double() * B[:, t, None]
        state = (dt[:, t, :, None].double() * A).exp() * state + written
        outputs.append((state * C[:, t, None]).sum(-1) + (0 if D is None else D * x[:, t]))
    return torch.stack(outputs, dim=1), state


def selective_scan_fn(u, delta, A, B, C, D, *, return_last_state):
    """In the layout of mamba_ssm's: [B D T] and [B N T]."""
    assert A.dtype == D.dtype == torch.float32 and return_last_state
    x, dt, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    y, state = selective_reference(x, dt, A, B, C, D)
    return y.transpose(1, 2).to(u.dtype), state.float()


def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, *, initial_states=None, return_final_states):
    """In the layout of mamba_ssm's, whose states are [B H V N]."""
    assert return_final_states
    state = None if initial_states is None else initial_states.mT
    o, state = step_by_step(C, B, dt[..., None] * x, log_decay=dt * A, state=state, scale=1.0)
    return o.to(x.dtype), state.float().mT


def causal_conv1d_fn(x, weight, bias=None, *, initial_states=None, activation=None):
    """With the layout that causal_conv1d's CUDA code checks, and the alignment that it needs."""
    check_channels_last(x)
    assert weight.dtype == x.dtype
    if initial_states is None:
        initial_states = x.new_zeros(x.shape[0], weight.shape[1] - 1, x.shape[1]).mT
    assert initial_states.stride(1) == 1 and initial_states.dtype == x.dtype
    assert initial_states.data_ptr() % 16 == 0
    y = F.conv1d(torch.cat([initial_states, x], dim=-1), weight[:, None], bias, groups=x.shape[1])
    return ChecksGradient.apply(F.silu(y) if activation == "silu" else y)


def check_channels_last(x):
    """causal_conv1d.cpp refuses other strides; what it does not check, its loads of 16 bytes need."""
    assert x.stride(1) == 1 and x.stride(2) % 8 == 0 and x.stride(0) % 8 == 0
    assert x.data_ptr() % 16 == 0, "misaligned address"


class ChecksGradient(torch.autograd.Function):
    """The output of a convolution, whose gradient has to be laid out as its input."""

    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, gradient):
        check_channels_last(gradient)
        return gradient
