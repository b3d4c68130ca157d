"""Every mixer at settings beside its defaults: all conformance checks, tighter costs, dtypes of states, refusals."""

import re
from typing import Any

import pytest
import torch

from hybrids import registry
from hybrids.checks import run_checks
from hybrids.errors import UserError
from hybrids.model.measure import measure_step

WIDTH = 32
Settings = dict[str, Any]

SETTINGS: dict[str, list[Settings]] = {
    "attention": [{"num_heads": 4, "num_kv_heads": 1}, {"rope": False, "head_dim": 5}],
    "based": [{"num_heads": 2, "head_dim": 5, "feature_dim": 3}],
    "block_sparse_attention": [
        {"block_size": 7, "num_selected": 1},
        {"num_heads": 4, "num_kv_heads": 1, "rope": False},
    ],
    "delta_net": [
        {"expand_v": 2.0},
        {"head_dim": 24},
        {"use_output_gate": True},
        {"conv_size": 1, "num_heads": 1},
        {"allow_negative_eigenvalues": True},
    ],
    "gated_delta_net": [
        {"expand_v": 2.0},
        {"head_dim": 24},
        {"use_output_gate": False},
        {"conv_size": 1, "num_heads": 1},
        {"allow_negative_eigenvalues": True},
    ],
    "gla": [{"use_output_gate": False}, {"expand_k": 1.0, "expand_v": 2.0, "gate_rank": 3}],
    "hgrn2": [{"lower_bound": 0.5}, {"num_heads": 2, "head_dim": 24}],
    "kimi_delta_attention": [{"expand_v": 2.0}, {"head_dim": 24}, {"conv_size": 1, "num_heads": 1}],
    "linear_attention": [{"num_heads": 2, "head_dim": 5}],
    "mamba": [{"d_state": 4}, {"expand": 1, "dt_rank": 7}, {"conv_size": 1}],
    "mamba2": [{"d_state": 128, "head_dim": 64}, {"expand": 1.0, "head_dim": 8, "conv_size": 1}],
    "mlstm": [{"num_heads": 2, "expand_k": 1.0}],
    "retention": [{"num_heads": 2, "expand_v": 1.0}],
    "rwkv7": [{"head_dim": 24}, {"num_heads": 1, "decay_rank": 4, "gate_rank": 8}],
    "short_conv": [{"conv_size": 1}, {"conv_size": 4, "add_input": False}],
    "sliding_attention": [{"window": 5, "num_heads": 4, "num_kv_heads": 2}, {"window": 1, "rope": False}],
}
BESIDE_DEFAULTS = [
    pytest.param(name, settings, marks=[pytest.mark.slow] if i else [])  # one of each mixer is seen by default
    for name, several in SETTINGS.items()
    for i, settings in enumerate(several)
]
ALL = [(name, settings) for name, several in SETTINGS.items() for settings in ({}, *several)]

WIDE = {
    "based": {"memory"},
    "delta_net": {"matrix"},
    "gated_delta_net": {"matrix"},
    "gla": {"matrix"},
    "hgrn2": {"matrix"},
    "kimi_delta_attention": {"matrix"},
    "linear_attention": {"memory"},
    "mamba": {"ssm"},
    "mamba2": {"matrix"},
    "mlstm": {"memory", "stabiliser"},
    "retention": {"matrix"},
    "rwkv7": {"matrix"},
}
"""State tensors in float32 whatever the activations; the others have the dtype of these."""

FLOPS_TOLERANCE = {"block_sparse_attention": 0.03, "linear_attention": 0.0}
"""Of the others 0.01."""

REFUSED: dict[str, list[tuple[Settings, str]]] = {
    "attention": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=2"),
        ({"rope_theta": 0.0}, "rope_theta=0.0 must be positive"),
        ({"head_dim": 3}, "head_dim=3 is odd"),
    ],
    "based": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"feature_dim": 0}, "feature_dim=0 must be at least 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "block_sparse_attention": [
        ({"block_size": 0}, "block_size=0 must be at least 1"),
        ({"num_selected": 0}, "num_selected=0 must be at least 1"),
        ({"num_heads": 3}, "num_heads=3 does not divide d_model=32"),
        ({"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=2"),
        ({"rope_theta": 0.0}, "rope_theta=0.0 must be positive"),
        ({"head_dim": 3}, "head_dim=3 is odd"),
    ],
    "delta_net": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"expand_v": 0.0}, "expand_v=0.0 times head_dim=16"),
        ({"conv_size": 0}, "conv_size=0 must be at least 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "gated_delta_net": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"num_heads": 0}, "num_heads=0 must be at least 1"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"expand_v": 1.3}, "expand_v=1.3 times head_dim=16"),
        ({"expand_v": 0.0}, "expand_v=0.0 times head_dim=16"),
        ({"expand_v": float("inf")}, "expand_v=inf times head_dim=16"),
        ({"conv_size": 0}, "conv_size=0 must be at least 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "gla": [
        ({"num_heads": 5}, "num_heads=5 does not divide"),
        ({"expand_k": 0.01}, "expand_k=0.01 times d_model=32"),
        ({"expand_v": 0.0}, "expand_v=0.0 times d_model=32"),
        ({"gate_rank": 0}, "gate_rank=0 must be at least 1"),
        ({"gate_normalizer": 0.0}, "gate_normalizer=0.0 must be positive"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "hgrn2": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"lower_bound": 1.0}, "lower_bound=1.0 must be at least 0 and below 1"),
        ({"lower_bound": -0.1}, "lower_bound=-0.1 must be at least 0 and below 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "kimi_delta_attention": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"expand_v": 1.3}, "expand_v=1.3 times head_dim=16"),
        ({"conv_size": 0}, "conv_size=0 must be at least 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "linear_attention": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "mamba": [
        ({"d_state": 0}, "d_state=0 must be at least 1"),
        ({"expand": 0}, "expand=0 must be at least 1"),
        ({"conv_size": 0}, "conv_size=0 must be at least 1"),
        ({"dt_rank": 0}, "dt_rank=0 must be at least 1"),
    ],
    "mamba2": [
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"head_dim": 24}, "expand=2.0 times d_model=32 must be a multiple of head_dim=24"),
        ({"expand": 0.0}, "expand=0.0 times d_model=32"),
        ({"expand": 1.01}, "expand=1.01 times d_model=32"),
        ({"d_state": 0}, "d_state=0 must be at least 1"),
        ({"conv_size": 0}, "conv_size=0 must be at least 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "mlstm": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"expand_k": 0.3}, "expand_k=0.3 times the width of a head=8"),
        ({"gate_cap": 0.0}, "gate_cap=0.0 must be positive"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "retention": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"num_heads": 32}, "num_heads=32 makes heads of odd width 1"),
        ({"expand_v": 0.3}, "expand_v=0.3 times the width of a head=8"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "rwkv7": [
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"decay_rank": 0}, "decay_rank=0 must be at least 1"),
        ({"rate_rank": -1}, "rate_rank=-1 must be at least 1"),
        ({"gate_rank": 0}, "gate_rank=0 must be at least 1"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
    ],
    "short_conv": [({"conv_size": 0}, "conv_size=0 must be at least 1")],
    "sliding_attention": [({"window": 0}, "window=0 must be at least 1")],
}


def named(case: object) -> str:
    return case if isinstance(case, str) else ",".join(f"{k}={v}" for k, v in case.items()) or "defaults"


def make(name: str, settings: Settings) -> Any:
    torch.manual_seed(0)
    return registry.get("mixer", name).cls(WIDTH, **settings)


def test_every_mixer_is_in_the_table() -> None:
    assert set(SETTINGS) == set(registry.names("mixer"))


@pytest.mark.parametrize(("name", "settings"), BESIDE_DEFAULTS, ids=named)
def test_conforms_beside_its_defaults(name: str, settings: Settings) -> None:
    """The defaults are in tests/checks."""
    results = run_checks("mixer", name, d_model=WIDTH, **settings)
    assert [f"{result.check}: {result.message}" for result in results if not result.passed] == []


@pytest.mark.parametrize(("name", "settings"), ALL, ids=named)
def test_declared_size_and_cost_are_the_measured_ones(name: str, settings: Settings) -> None:
    """Of the cost, ten times as close as the checks ask."""
    mixer = make(name, settings)
    for context in (0, 1, 6, 7, 8, 40, 333) if name == "block_sparse_attention" else (0, 1, 40):
        cost = measure_step(mixer, WIDTH, context)
        assert cost.flops == pytest.approx(mixer.step_flops(context), rel=FLOPS_TOLERANCE.get(name, 0.01), abs=0)
        assert cost.state_elements == mixer.state_elements(context)


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_cutting_a_sequence_keeps_outputs_and_state(name: str) -> None:
    """Closer than the checks look, at cuts around the chunks of 16 and 32, and the state too."""
    mixer = make(name, {}).double()
    x = torch.randn(2, 70, WIDTH, dtype=torch.float64)
    whole, end = mixer(x, mixer.init_state(2))
    for cut in (1, 2, 3, 15, 16, 17, 31, 32, 33, 39, 69):
        first, middle = mixer(x[:, :cut])
        last, end_of_parts = mixer(x[:, cut:], middle)
        torch.testing.assert_close(torch.cat([first, last], 1), whole, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(tuple(end_of_parts), tuple(end), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_states_that_sum_over_time_stay_float32_when_activations_do_not(name: str) -> None:
    mixer = make(name, {})
    x = torch.randn(2, 40, WIDTH)
    expected, _ = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = mixer(x)
        y.float().square().mean().backward()
        _, state = mixer(x[:, :1].bfloat16(), state)
    for start in (state, mixer.bfloat16().init_state(1)):
        dtypes = {field: x.dtype for field, x in start._asdict().items() if x.is_floating_point()}
        wide = WIDE.get(name, set())
        assert dtypes == {field: torch.float32 if field in wide else torch.bfloat16 for field in dtypes}
    assert y.dtype == torch.bfloat16 or name == "short_conv"  # whose output adds its input
    assert (y - expected).norm() / expected.norm() < 0.02  # bf16 has 8 bits; sums, gates and lengths keep theirs
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [(name, settings, message) for name, several in REFUSED.items() for settings, message in several],
    ids=named,
)
def test_settings_that_cannot_work_are_errors(name: str, settings: Settings, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        registry.get("mixer", name).cls(WIDTH, **settings)
