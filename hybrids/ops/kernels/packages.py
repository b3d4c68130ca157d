"""The packages that built-in kernels are imported from, and how to get them.

Read against fla 0.6.0, mamba_ssm 2.3.2.post1, causal_conv1d 1.6.1 and 1.7.0. Two of them are built here, with what a
build needs and pip does not bring along. None brings Triton, which comes with torch in the version that it requires.
"""

from hybrids.ops.kernels.kernel import Package

_BUILD_TOOLS = "pip install ninja packaging setuptools wheel"
_CONV_BUILD = "CAUSAL_CONV1D_FORCE_BUILD=TRUE pip install causal-conv1d==1.7.0 --no-build-isolation"

# Without its dependencies: a Triton of any version, and tilelang 0.1.8, which fla then takes instead of its own code.
# By force: where it is there without its CUDA part, and so cannot be imported, pip would do nothing.
_MAMBA_BUILD = "pip install mamba-ssm==2.3.2.post1 --no-build-isolation --no-deps --force-reinstall --no-cache-dir"

FLA = Package("fla", 'pip install "flash-linear-attention>=0.6"', needs_triton=True)
MAMBA = Package("mamba_ssm", f"{_BUILD_TOOLS} einops transformers && {_MAMBA_BUILD}", needs_triton=True)
SELECTIVE_SCAN = Package("selective_scan_cuda", MAMBA.command)
CONV = Package("causal_conv1d", f"{_BUILD_TOOLS} && {_CONV_BUILD}")
