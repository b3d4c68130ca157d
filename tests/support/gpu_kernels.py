"""Which kernels a test on a GPU may leave out."""

import pytest

from hybrids.ops.kernels import Demand, find_kernel, machine
from hybrids.ops.kernels.limits import gated_chunk_limits


def require(op, backend, *, gate="none"):
    """Skip where a package is not installed or has no gradient here; fail where it is installed and cannot be used."""
    kernel = find_kernel(op, backend)
    if absent := machine.not_installed(kernel):
        pytest.skip(_join(absent))
    if missing := machine.missing(kernel):
        pytest.fail(_join(missing))
    if backend == "fla" and (refused := gated_chunk_limits(Demand(op=op, gate=gate))):
        pytest.skip(_join(refused))


def _join(obstacles):
    return "; ".join(map(str, obstacles))
