"""Limits that several GPU kernels have, of dtypes and widths."""

import torch
from packaging.version import Version

from hybrids.ops.kernels.imports import version_of
from hybrids.ops.kernels.kernel import Demand, Obstacle

BF16_COMMAND = "trainer.precision=bf16-mixed"
TF32_COMMAND = f"trainer.tf32=true, or {BF16_COMMAND}"


def not_in_float64(dtype: torch.dtype) -> list[Obstacle]:
    """Of kernels that multiply float32 as it is."""
    return [Obstacle(f"dtype {dtype} is not computed by the kernel", BF16_COMMAND)] if dtype == torch.float64 else []


def tile_limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    """Of kernels in Triton: tensor cores multiply tiles of at least 16 (fla issue 22); blocks hold at most 256."""
    widths = {"d_key": demand.d_key, "d_value": demand.d_value, "d_state": demand.d_state}
    outside = [f"{name}={x} is outside 16 to 256" for name, x in widths.items() if x is not None and not 16 <= x <= 256]
    return [*_tf32_limits(dtype), *(Obstacle(reason, "set head_dim, num_heads or d_state") for reason in outside)]


def gated_chunk_limits(demand: Demand) -> list[Obstacle]:
    """Of fla's chunks with one gate for each head: on a Hopper it refuses their backward pass with these Triton.

    The gradient of the keys was wrong (fla issue 640). Steps and evaluation would do, but a run needs the gradient.
    """
    installed = version_of("triton")
    if demand.gate != "scalar" or installed is None or not _is_hopper():
        return []
    if not Version("3.4.0") <= Version(installed) < Version("3.7.1"):
        return []
    reason = f"on a Hopper with Triton {installed} the kernel has no backward pass for one gate per head"
    return [Obstacle(f"{reason}; Triton 3.7.1 comes with torch 2.12.1", 'pip install "torch>=2.12.1"')]


def _is_hopper() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def _tf32_limits(dtype: torch.dtype) -> list[Obstacle]:
    if dtype in (torch.bfloat16, torch.float16):
        return []
    if dtype != torch.float32:
        return [Obstacle(f"dtype {dtype} is not computed by the kernel", BF16_COMMAND)]
    if torch.get_float32_matmul_precision() == "highest":
        return [Obstacle("the kernel would multiply float32 as TF32, which is not allowed", TF32_COMMAND)]
    return []
