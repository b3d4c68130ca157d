"""The selective scan against the reference function of mamba_ssm, the authors' package.

That package needs compiled modules and triton to be imported. Its reference is plain PyTorch, so one file of it is
loaded, in a process of its own, with empty stand-ins for what that file imports besides.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybrids.ops import selective_scan_cpu
from hybrids.ops.selective_scan import selective_scan

STAND_INS = {
    "mamba_ssm": (),
    "mamba_ssm.utils": (),
    "mamba_ssm.utils.torch": ("custom_bwd", "custom_fwd"),
    "mamba_ssm.ops": (),
    "mamba_ssm.ops.triton": (),
    "mamba_ssm.ops.triton.layer_norm": ("_layer_norm_fwd",),
    "selective_scan_cuda": (),
}

PROGRAM = f"""
import importlib.util, sys, types, torch
path, inputs, outputs = sys.argv[1:]

def answer(given):
    y, state = interface.selective_scan_ref(**given, delta_softplus=True, return_last_state=True)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y), torch.linspace(-1, 1, state.numel()).view_as(state)
    gradients = torch.autograd.grad([y, state], list(given.values()), weights)
    return {{"y": y.detach(), "state": state.detach(), **dict(zip(given, gradients))}}

for name, functions in {STAND_INS!r}.items():
    module = sys.modules[name] = types.ModuleType(name)
    for function in functions:
        setattr(module, function, lambda f: f)
spec = importlib.util.spec_from_file_location("interface", path)
interface = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interface)
questions = torch.load(inputs)
leaves = [{{name: t.requires_grad_() for name, t in given.items()}} for given in questions.values()]
torch.save(dict(zip(questions, map(answer, leaves))), outputs)
"""

LENGTHS = (2, 70)


def draw(time: int) -> dict[str, torch.Tensor]:
    """Theirs has time last."""
    batch, width, states = 2, 6, 5
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    given = {"u": normal(batch, width, time), "delta": normal(batch, width, time), "A": -normal(width, states).exp()}
    given |= {"B": normal(batch, states, time), "C": normal(batch, states, time), "D": normal(width)}
    return given | {"z": normal(batch, width, time), "delta_bias": normal(width) - 2}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[int, dict[str, torch.Tensor]]:
    """Their outputs, states and gradients at each length, from one process."""
    package = importlib.util.find_spec("mamba_ssm")
    assert package is not None and package.origin is not None, "make setup installs mamba-ssm"
    interface = Path(package.origin).parent / "ops" / "selective_scan_interface.py"
    inputs, outputs = (tmp_path_factory.mktemp("reference") / name for name in ("in.pt", "out.pt"))
    torch.save({time: draw(time) for time in LENGTHS}, inputs)
    subprocess.run([sys.executable, "-c", PROGRAM, str(interface), str(inputs), str(outputs)], check=True)
    return torch.load(outputs)


@pytest.fixture(params=["torch", "cpp"])
def backend(request) -> str:
    if request.param == "cpp" and (reason := selective_scan_cpu.why_not()):
        pytest.skip(f"the kernel cannot run here: {reason}")
    return request.param


@pytest.mark.parametrize("time", LENGTHS)
def test_agrees_with_the_reference_of_mamba_ssm(reference, backend: str, time: int) -> None:
    """Theirs adds the bias of the step itself and gates with silu(z)."""
    given, expected = draw(time), reference[time]
    u, delta, A, B, C, D, z, bias = (t.requires_grad_() for t in given.values())
    dt = torch.nn.functional.softplus(delta + bias[:, None])
    y, state = selective_scan(u.mT, dt.mT, A, B.mT, C.mT, D, backend=backend)
    y = y.mT * torch.nn.functional.silu(z)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y), torch.linspace(-1, 1, state.numel()).view_as(state)
    gradients = torch.autograd.grad([y, state], list(given.values()), weights)
    got = {"y": y.detach(), "state": state.detach(), **dict(zip(given, gradients, strict=True))}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
