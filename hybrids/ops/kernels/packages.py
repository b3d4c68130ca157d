"""The packages that built-in kernels are imported from, and how to get them.

Read against fla 0.6.0, mamba_ssm 2.3.2.post1 and causal_conv1d 1.6.1.
"""

from hybrids.ops.kernels.kernel import Package

_MAMBA_BUILD = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation"
_CONV_BUILD = "CAUSAL_CONV1D_FORCE_BUILD=TRUE pip install causal-conv1d --no-build-isolation"

FLA = Package("fla", 'pip install "flash-linear-attention[cuda]>=0.6"', needs_triton=True)
MAMBA = Package("mamba_ssm", "pip install mamba-ssm --no-build-isolation", needs_triton=True)
MAMBA_BUILT = Package("mamba_ssm", _MAMBA_BUILD, needs_triton=True)
SELECTIVE_SCAN = Package("selective_scan_cuda", _MAMBA_BUILD)
CONV = Package("causal_conv1d", _CONV_BUILD)
