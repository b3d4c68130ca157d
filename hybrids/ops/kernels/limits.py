"""Limits that several GPU kernels have, of dtypes and widths."""

import torch

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


def _tf32_limits(dtype: torch.dtype) -> list[Obstacle]:
    if dtype in (torch.bfloat16, torch.float16):
        return []
    if dtype != torch.float32:
        return [Obstacle(f"dtype {dtype} is not computed by the kernel", BF16_COMMAND)]
    if torch.get_float32_matmul_precision() == "highest":
        return [Obstacle("the kernel would multiply float32 as TF32, which is not allowed", TF32_COMMAND)]
    return []
