"""Kernels: faster backends of ops, one `Kernel` record each, and the choice between them and torch.

A plugin registers kernels of its own with `register_kernel`, for an op of its own or for one of ours: it is then
examined by `hybrids doctor`, taken by `backend=auto` where it can run, and by its name.
"""

# ruff: noqa: F401
# What is imported here is what others take from here; importing a module of an op registers its kernels.
from hybrids.ops.kernels import delta_rule, dplr, linear_attention, mamba2_scan, selective_scan, short_conv
from hybrids.ops.kernels.choose import ChosenBackend, obstacles, resolve, resolve_all
from hybrids.ops.kernels.kernel import (
    Demand,
    Obstacle,
    Package,
    backends_of,
    check_backend,
    find_kernel,
    kernels_of,
    ops_with_kernels,
    register_kernel,
)
