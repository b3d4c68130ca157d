"""An outside package brings a mixer, the op it uses and a kernel for it in one file, and a kernel for an op of ours."""

import sys

import pytest
import torch

from hybrids import registry
from hybrids.doctor import examine
from hybrids.ops.kernels import Demand, backends_of, kernel, kernels_of, ops_with_kernels, resolve

PLUGIN = '''
"""A leaky sum."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybrids.mixer import Mixer
from hybrids.ops.kernels import Demand, Obstacle, find_kernel, register_kernel
from hybrids.registry import register

CALLS = []


def leaky_sum(x, total, *, backend="torch"):
    kernel = find_kernel("leaky_sum", backend)
    return _step_by_step(x, total) if kernel is None else kernel.call(x, total)


def _step_by_step(x, total):
    outputs = []
    for t in range(x.shape[1]):
        total = total / 2 + x[:, t]
        outputs.append(total)
    return torch.stack(outputs, dim=1), total


def _limits(demand, dtype):
    return [] if dtype == torch.float32 else [Obstacle(f"{dtype} was not tried")]


@register_kernel("leaky_sum", "matmul", device="cpu", limits=_limits, note="on a CPU, float32")
def _in_one_product(x, total):
    CALLS.append(x.shape)
    steps = torch.arange(x.shape[1])
    weights = (0.5 ** (steps[:, None] - steps)).tril()
    y = weights @ x + 0.5 ** (steps + 1)[:, None] * total[:, None]
    return y, y[:, -1]


@register_kernel("delta_rule", "theirs", device="cpu", note="a test", faster_than="fla")
def _their_delta_rule(q, k, v, beta, log_decay=None, state=None, *, scale=None, dtype=None):
    raise NotImplementedError


class LeakySumState(NamedTuple):
    total: Tensor


@register("mixer", "leaky_sum", source="a test")
class LeakySum(Mixer[LeakySumState]):
    def __init__(self, d_model: int, *, backend: str | None = None) -> None:
        super().__init__(d_model, backend)
        self.proj = nn.Linear(d_model, d_model)

    def forward(self, x, state=None):
        total = self.init_state(x.shape[0]).total if state is None else state.total
        y, total = leaky_sum(self.proj(x), total, backend=self.backend_of("leaky_sum"))
        return y, LeakySumState(total)

    def init_state(self, batch_size):
        return LeakySumState(self.proj.weight.new_zeros(batch_size, self.d_model))

    def demands(self):
        return [Demand(op="leaky_sum")]

    def state_elements(self, context):
        return self.d_model

    def step_flops(self, context):
        return 2 * self.d_model**2 + 3 * self.d_model
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The package of the outsiders, announced with an entry point; all that it registers is forgotten afterwards."""
    registry.load_plugins()
    for name in ("_entries", "_rejected", "_failures"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(registry, "_loaded", set(registry._loaded))
    monkeypatch.setattr(kernel, "_kernels", {op: kernels_of(op) for op in ops_with_kernels()})
    monkeypatch.syspath_prepend(tmp_path)
    info = tmp_path / "outsider_with_kernels-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider_with_kernels\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hybrids.plugins]\noutsider = outsider_with_kernels\n")
    (tmp_path / "outsider_with_kernels.py").write_text(PLUGIN)
    registry.load_plugins()
    yield sys.modules["outsider_with_kernels"]
    del sys.modules["outsider_with_kernels"]


def test_their_kernels_are_examined(outside):
    rows = {(row["op"], row["backend"]): row for row in examine()["backends"]}
    theirs = rows["leaky_sum", "matmul"]
    assert (theirs["usable"], theirs["why"], theirs["commands"]) == (True, "on a CPU, float32", [])
    assert rows["leaky_sum", "torch"]["usable"] and rows["delta_rule", "theirs"]["usable"]
    assert examine()["failed_plugins"] == []


def test_their_mixer_runs_on_its_kernel_by_name_and_by_auto(outside):
    torch.manual_seed(0)
    mixer = registry.get("mixer", "leaky_sum").cls(8, backend="matmul")
    x = torch.randn(2, 5, 8)
    on_torch, _ = mixer(x)
    assert outside.CALLS == []
    chosen = mixer.choose_backends(device="cpu", dtype=torch.float32)
    assert chosen["leaky_sum"].backend == "matmul"
    torch.testing.assert_close(mixer(x)[0], on_torch)
    assert len(outside.CALLS) == 1
    mixer.backend = None
    assert mixer.choose_backends(device="cpu", dtype=torch.float32)["leaky_sum"].backend == "matmul"
    assert mixer.choose_backends(device="cpu", dtype=torch.float64)["leaky_sum"].backend == "torch"


def test_their_limits_are_told(outside):
    mixer = registry.get("mixer", "leaky_sum").cls(8, backend="matmul")
    with pytest.raises(ValueError, match=r"backend=matmul cannot run leaky_sum: torch.float64 was not tried; allowed"):
        mixer.choose_backends(device="cpu", dtype=torch.float64)


def test_their_kernel_of_an_op_of_ours_takes_its_place(outside):
    assert backends_of("delta_rule") == ["theirs", "fla", "torch"]
    assert resolve(Demand(op="delta_rule", d_key=8, d_value=8), device="cpu").backend == "theirs"
