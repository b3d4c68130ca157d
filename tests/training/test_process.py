"""Settings of the process: they take effect where the host has them, and are harmless elsewhere."""

import ctypes
import subprocess
import sys

import pytest
import torch

from hybrids.training import process as host

# Page faults of a process that allocates and frees 64 MB, all of it written, five times after a warm-up (in
# which glibc before 2.38 may move an aligned block a few times before it settles): by default, and with memory kept.
FAULTS = """
import resource, torch
from hybrids.training.process import keep_freed_memory
torch.set_num_threads(1)

def faults():
    for _ in range(30):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = faults()
assert keep_freed_memory()
print(by_default, faults())
"""


def is_glibc() -> bool:
    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


@pytest.mark.skipif(not is_glibc(), reason="the C library has no mallopt")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    by_default, kept = map(int, done.stdout.split())
    assert by_default > 10 * (kept + 1)


def test_a_platform_without_glibc_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert host.keep_freed_memory() is False


def test_a_c_library_without_mallopt_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert host.keep_freed_memory() is False


@pytest.mark.parametrize("limit", [0, -1, 2**31])
def test_a_limit_that_is_no_positive_c_int_is_an_error(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit={limit}"):
        host.keep_freed_memory(limit)


def test_threads_are_set_or_left() -> None:
    before = torch.get_num_threads()
    try:
        assert host.set_threads(None) == before
        assert host.set_threads(1) == torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="threads=0"):
            host.set_threads(0)
    finally:
        torch.set_num_threads(before)
