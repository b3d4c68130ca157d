"""What a mixer asks of an op, and what the kernels cannot do: widths and dtypes.

`OPS` lists the backends of each op, fastest first; `LIMITS` turns a `Demand` into `Obstacle`s.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hybrids.errors import UserError, suggest

OPS: dict[str, tuple[str, ...]] = {
    "linear_attention": ("fla", "torch"),
    "delta_rule": ("fla", "torch"),
    "dplr": ("fla", "torch"),
    "mamba2_scan": ("mamba_ssm", "torch"),
    "selective_scan": ("mamba_ssm", "cpp", "torch"),
    "short_conv": ("mamba_ssm", "torch"),
}

GATES = ("none", "scalar", "key")  # decays of a state: none, one for each head, one for each key dimension


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a mixer asks of one op; sizes that the op does not have stay None."""

    op: str
    d_key: int | None = None
    d_value: int | None = None
    gate: str = "none"
    d_state: int | None = None
    d_conv: int | None = None
    conv_size: int | None = None

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise UserError(f"unknown op {self.op!r}; {suggest(self.op, OPS)}")
        if self.gate not in GATES:
            raise UserError(f"unknown gate {self.gate!r}; {suggest(self.gate, GATES)}")


@dataclass(frozen=True)
class Obstacle:
    """Why a backend cannot run, and the command after which it can; empty where no command can help."""

    reason: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.command})" if self.command else self.reason


BF16_COMMAND = "trainer.precision=bf16-mixed"
TF32_COMMAND = f"trainer.tf32=true, or {BF16_COMMAND}"


def _dtype_limits(dtype: torch.dtype) -> list[Obstacle]:
    if dtype in (torch.bfloat16, torch.float16):
        return []
    if dtype != torch.float32:
        return [Obstacle(f"dtype {dtype} is not computed by the kernel", BF16_COMMAND)]
    if torch.get_float32_matmul_precision() == "highest":
        return [Obstacle("the kernel would multiply float32 as TF32, which is not allowed", TF32_COMMAND)]
    return []


def _tile_limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    """Tensor cores multiply tiles of at least 16 (fla issue 22); blocks hold at most 256."""
    widths = {"d_key": demand.d_key, "d_value": demand.d_value, "d_state": demand.d_state}
    outside = [f"{name}={x} is outside 16 to 256" for name, x in widths.items() if x is not None and not 16 <= x <= 256]
    return [*_dtype_limits(dtype), *(Obstacle(reason, "set head_dim, num_heads or d_state") for reason in outside)]


def _delta_rule_limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = _tile_limits(demand, dtype)
    if demand.gate == "none" and dtype == torch.float32:
        found.append(Obstacle("the kernel of the delta rule without a gate refuses float32", BF16_COMMAND))
    return found


def _dplr_limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = _tile_limits(demand, dtype)
    if dtype == torch.float32:
        found.append(Obstacle("the kernel of dplr warns that float32 is wrong on some platforms", BF16_COMMAND))
    return found


def _selective_scan_limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = [] if dtype != torch.float64 else _dtype_limits(dtype)
    if demand.d_state is not None and demand.d_state > 256:
        found.append(Obstacle(f"d_state={demand.d_state} is above 256", "d_state=256"))
    return found


def _short_conv_limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = [] if dtype != torch.float64 else _dtype_limits(dtype)
    if demand.conv_size is not None and not 2 <= demand.conv_size <= 4:
        found.append(Obstacle(f"conv_size={demand.conv_size} is outside 2 to 4", "conv_size=4"))
    if demand.d_conv is not None and demand.d_conv % 8:
        found.append(Obstacle(f"the {demand.d_conv} features of the convolution are no multiple of 8"))
    return found


LIMITS: dict[tuple[str, str], Callable[[Demand, torch.dtype], list[Obstacle]]] = {
    ("linear_attention", "fla"): _tile_limits,
    ("delta_rule", "fla"): _delta_rule_limits,
    ("dplr", "fla"): _dplr_limits,
    ("mamba2_scan", "mamba_ssm"): _tile_limits,
    ("selective_scan", "mamba_ssm"): _selective_scan_limits,
    ("selective_scan", "cpp"): lambda demand, dtype: [],
    ("short_conv", "mamba_ssm"): _short_conv_limits,
}
"""What a kernel cannot do, as read in fla 0.6.0, mamba_ssm 2.3.2 and causal_conv1d 1.6.1."""
