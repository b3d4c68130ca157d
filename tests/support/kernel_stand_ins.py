"""Stand-ins for the kernels of fla, mamba_ssm and causal_conv1d, with their signatures, dtypes and layouts.

Those of fla compute with its naive functions and take exactly the arguments that its source declares, so that a changed
name, order, layout or scale shows without a GPU; the others are compared with one step at a time, written out here.
"""

import ast
import functools
import importlib.util
import inspect
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F


class Call(NamedTuple):
    """A kernel that was called, and with what."""

    name: str
    given: dict[str, Any]


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


@functools.cache
def declared_signature(place, name):
    """Signature of a function in fla's source, without importing it."""
    package = importlib.util.find_spec("fla")
    assert package is not None and package.origin is not None
    tree = ast.parse((Path(package.origin).parent / "ops" / place).read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert not function.args.posonlyargs and not function.args.kwonlyargs
    num_required = len(function.args.args) - len(function.args.defaults)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    empty = inspect.Parameter.empty
    return inspect.Signature(
        inspect.Parameter(arg.arg, kind, default=empty if i < num_required else None)
        for i, arg in enumerate(function.args.args)
    )


def install(monkeypatch, fla_naive):
    """Put stand-ins where adapters look for kernels; the calls that will have been made."""
    calls = []
    install_fla(monkeypatch, fla_naive, calls)
    for module, function in (
        ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
        ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
        ("causal_conv1d", causal_conv1d_fn),
    ):
        noted = note(function, inspect.signature(function), calls)
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{function.__name__: noted}))
    return calls


def note(function, signature, calls):
    """The function, with its calls appended to a list."""

    def kernel(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        calls.append(Call(function.__name__, given))
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
        setattr(module, name, note(kernel, declared_signature(f"{place}.py", name), calls))

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


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    """The signature and layout of mamba_ssm's `selective_scan_fn`: [B D T] and [B N T]."""
    assert A.dtype == D.dtype == torch.float32 and return_last_state and not delta_softplus
    x, dt, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    y, state = selective_reference(x, dt, A, B, C, D)
    return y.transpose(1, 2).to(u.dtype), state.float()


def mamba_chunk_scan_combined(
    x,
    dt,
    A,
    B,
    C,
    chunk_size,
    D=None,
    z=None,
    dt_bias=None,
    initial_states=None,
    seq_idx=None,
    cu_seqlens=None,
    dt_softplus=False,
    dt_limit=(0.0, float("inf")),
    return_final_states=False,
    return_varlen_states=False,
    state_dtype=None,
):
    """The signature of mamba_ssm's `mamba_chunk_scan_combined`, whose states are [B H V N]."""
    assert return_final_states and not dt_softplus and state_dtype == torch.float32
    state = None if initial_states is None else initial_states.mT
    o, state = step_by_step(C, B, dt[..., None] * x, log_decay=dt * A, state=state, scale=1.0)
    return o.to(x.dtype), state.float().mT


def causal_conv1d_fn(
    x,
    weight,
    bias=None,
    seq_idx=None,
    initial_states=None,
    return_final_states=False,
    final_states_out=None,
    activation=None,
):
    """The signature of causal_conv1d's `causal_conv1d_fn`, and the layout that its CUDA code checks."""
    assert x.stride(1) == 1 and x.stride(2) % 8 == 0 and x.stride(0) % 8 == 0
    assert weight.dtype == x.dtype and not return_final_states
    if initial_states is None:
        initial_states = x.new_zeros(x.shape[0], x.shape[1], weight.shape[1] - 1).transpose(1, 2).contiguous().mT
    assert initial_states.stride(1) == 1 and initial_states.dtype == x.dtype
    y = F.conv1d(torch.cat([initial_states, x], dim=-1), weight[:, None], bias, groups=x.shape[1])
    return F.silu(y) if activation == "silu" else y
