"""Settings of the process on its host: how freed memory is kept, how many threads compute, how exactly."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hybrids.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**30
OLD_GLIBC_BYTES = 2**25
"""The largest mmap threshold that older versions of glibc accept."""


def keep_freed_memory(limit: int = KEPT_BYTES) -> bool:
    """Let glibc reuse freed blocks of up to `limit` bytes; whether that was possible.

    By default glibc returns a large block to the kernel when it is freed, and the next tensor of that size
    pays a page fault per 4 KiB: filling 64 MB took 24 ms instead of 5 (glibc 2.36). The price of keeping the
    blocks is that the process holds on to its peak memory. For the whole process; call it before the large
    allocations. A host without glibc's `mallopt` (macOS, Windows, musl) is left as it is.
    """
    if not 0 < limit < 2**31:
        raise UserError(f"limit={limit} bytes; allowed: 1 to {2**31 - 1}")
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    accepted = mallopt(M_MMAP_THRESHOLD, limit) or mallopt(M_MMAP_THRESHOLD, min(limit, OLD_GLIBC_BYTES))
    return bool(accepted and mallopt(M_TRIM_THRESHOLD, limit))


def set_threads(count: int | None) -> int:
    """Number of threads of one operation on the CPU, after setting it to `count`; None leaves it as it is."""
    if count is not None:
        if count < 1:
            raise UserError(f"threads={count}; allowed: 1 or more")
        torch.set_num_threads(count)
    return torch.get_num_threads()


@contextmanager
def matmul_precision(*, tf32: bool) -> Iterator[None]:
    """Inside, products of float32 matrices on a GPU have 10 bits of mantissa (TF32), or all 23."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


FOREIGN_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # lightning 2.6 on torch 2.13, seen 2026-11
    r"Pydantic V1 style `@validator` validators are deprecated",  # wandb-workspaces 0.4.13 on pydantic 2.14, 2026-11
    r"Checkpoint directory .* exists and is not empty",  # lightning 2.6, seen 2026-11: a resumed run, as meant
)
"""Messages of other packages that say nothing to our users, as regular expressions, each with when it was seen."""


def silence_foreign_messages() -> None:
    """Hide what Lightning says about itself, and the warnings listed above."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in FOREIGN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
