"""Which backend an op runs on, and why.

A backend is `torch` (always there), `cpp` (our own kernel for a CPU), `fla` (flash-linear-attention's in Triton) or
`mamba_ssm` (its kernels and causal_conv1d's). `OPS` lists what each op has, fastest first. What keeps one from running
is what the machine lacks (`missing`) or what the kernel cannot do with this call (`Demand`: widths, dtype); either is
an `Obstacle`: a reason, and the command that removes it.

How a mixer uses this. A mixer whose ops have kernels takes the keyword `backend: str = "auto"` and says in `demands()`
which ops it calls with which sizes. Once device and precision are known, whoever builds the model calls `resolve_all`
and stores the names by op in `mixer.backends`; the mixer hands `self.backends[op]` to the op, which calls
hybrids.ops.kernels for anything but torch. `Mixer.backend`, the name for its main op, is what a run logs, stores in
result.json and takes into its identity (a mixer on the meta device has demands too, so a run knows it before it
builds). A mixer that was never resolved runs on torch, so the counts of hybrids.measure hold.

Precision. A kernel multiplies in the dtype of the activations and keeps decays, sums and states in float32, as in the
authors' layers; torch does all of it in float32. Triton multiplies float32 as TF32: that is a change of precision, so
float32 gets such a kernel only where `torch.set_float32_matmul_precision` allows TF32.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

from hybrids.ops import selective_scan_cpu
from hybrids.registry import suggest

OPS: dict[str, tuple[str, ...]] = {
    "linear_attention": ("fla", "torch"),
    "delta_rule": ("fla", "torch"),
    "mamba2_scan": ("mamba_ssm", "torch"),
    "selective_scan": ("mamba_ssm", "cpp", "torch"),
    "short_conv": ("mamba_ssm", "torch"),
}

BACKENDS = ("auto", "torch", "cpp", "fla", "mamba_ssm")

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
            raise ValueError(f"unknown op {self.op!r}; {suggest(self.op, OPS)}")
        if self.gate not in GATES:
            raise ValueError(f"unknown gate {self.gate!r}; {suggest(self.gate, GATES)}")


@dataclass(frozen=True)
class Obstacle:
    """Why a backend cannot run, and the command after which it can; empty where no command can help."""

    reason: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.command})" if self.command else self.reason


class Choice(NamedTuple):
    """The backend of one op, and why it is that one."""

    backend: str
    reason: str


def resolve(
    demand: Demand, requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Choice:
    """The backend for one op of a mixer whose tensors are on `device` with activations of `dtype`.

    `auto` takes the fastest that can run; where that is torch on a GPU, it warns once with the cause. Raises ValueError
    for a backend that does not exist, that the op does not have, or that cannot run, with the reason and the command.
    """
    if requested not in BACKENDS:
        raise ValueError(f"backend={requested!r} is unknown; {suggest(requested, BACKENDS)}")
    device, offered = torch.device(device), OPS[demand.op]
    if requested == "auto":
        return _take_fastest(demand, device, dtype)
    if requested not in offered:
        raise ValueError(f"backend={requested}: {demand.op} has no such backend; {suggest(requested, offered)}")
    found = obstacles(demand, requested, device, dtype)
    if found:
        raise ValueError(f"backend={requested} cannot run {demand.op}: {_join(found)}; allowed: auto, torch")
    return Choice(requested, "as requested")


def resolve_all(
    demands: Sequence[Demand], requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype
) -> dict[str, Choice]:
    """The backend of every op of one mixer.

    A kernel is requested of the ops that have one; the others are resolved as `auto`. ValueError where none has it.
    """
    able = [demand for demand in demands if requested in OPS[demand.op]]
    if requested not in ("auto", "torch") and requested in BACKENDS and not able:
        ops = ", ".join(demand.op for demand in demands) or "nothing with kernels"
        offered = sorted({backend for demand in demands for backend in OPS[demand.op]} | {"torch"})
        raise ValueError(f"backend={requested}: this mixer uses {ops}; {suggest(requested, ['auto', *offered])}")
    wanted = {demand.op: requested if demand in able or requested not in BACKENDS else "auto" for demand in demands}
    return {demand.op: resolve(demand, wanted[demand.op], device=device, dtype=dtype) for demand in demands}


def obstacles(demand: Demand, backend: str, device: torch.device, dtype: torch.dtype) -> list[Obstacle]:
    """Everything that keeps `backend` from running this call; empty if it can."""
    if backend == "torch":
        return []
    found = [*missing(demand.op, backend), *_LIMITS[demand.op, backend](demand, dtype)]
    home = "cpu" if backend == "cpp" else "cuda"
    if device.type != home and (home == "cpu" or torch.cuda.is_available()):
        command = "trainer=cpu" if home == "cpu" else "trainer=gpu"
        found.append(Obstacle(f"the tensors are on {device.type}, the kernel runs on {home}", command))
    return found


def _take_fastest(demand: Demand, device: torch.device, dtype: torch.dtype) -> Choice:
    refused: list[str] = []
    for backend in OPS[demand.op]:
        found = obstacles(demand, backend, device, dtype)
        if not found and backend != "torch":
            return Choice(backend, "the fastest that can run")
        refused += [f"{backend}: {_join(found)}"] if found else []
    if device.type == "cuda":
        _warn_once(f"{demand.op} runs on torch, without a kernel: {'; '.join(refused)}")
    return Choice("torch", "; ".join(refused))


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)


def _join(found: Sequence[Obstacle]) -> str:
    return "; ".join(map(str, found))


TORCH_COMMAND = "pip install torch --index-url https://download.pytorch.org/whl/cu130"
MAMBA_COMMAND = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation"
BF16_COMMAND = "trainer.precision=bf16-mixed"
TF32_COMMAND = f'torch.set_float32_matmul_precision("high"), or {BF16_COMMAND}'


@dataclass(frozen=True)
class Package:
    """Module that a kernel is imported from, the command that installs it, and whether it is written in Triton."""

    module: str
    command: str
    needs_triton: bool = True


_FLA = Package("fla", 'pip install "flash-linear-attention[cuda]>=0.6"')
_MAMBA = Package("mamba_ssm", "pip install mamba-ssm --no-build-isolation")
_MAMBA_BUILT = Package("mamba_ssm", MAMBA_COMMAND)
_SCAN = Package("selective_scan_cuda", MAMBA_COMMAND, needs_triton=False)
_CONV = Package("causal_conv1d", "CAUSAL_CONV1D_FORCE_BUILD=TRUE pip install causal-conv1d --no-build-isolation", False)

PACKAGES: dict[tuple[str, str], tuple[Package, ...]] = {
    ("linear_attention", "fla"): (_FLA,),
    ("delta_rule", "fla"): (_FLA,),
    ("mamba2_scan", "mamba_ssm"): (_MAMBA,),
    ("selective_scan", "mamba_ssm"): (_MAMBA_BUILT, _SCAN),
    ("selective_scan", "cpp"): (),
    ("short_conv", "mamba_ssm"): (_CONV,),
}
"""What the kernels of an op are imported from."""


@cache
def missing(op: str, backend: str) -> tuple[Obstacle, ...]:
    """What this machine lacks for a backend of an op, GPU first; found out once per process.

    A package is imported only where a GPU works: without one, importing or calling Triton code raises
    `0 active drivers`.
    """
    if backend in ("torch", "cpp"):
        return () if backend == "torch" else _without_compiler()
    packages = PACKAGES[op, backend]
    needs_triton = any(package.needs_triton for package in packages)
    found = _without_gpu()
    if needs_triton and not is_installed("triton"):
        found.append(Obstacle("triton is not installed", "pip install triton"))
    found += [Obstacle(f"{p.module} is not installed", p.command) for p in packages if not is_installed(p.module)]
    if not found:
        found += [*(_inactive_driver() if needs_triton else []), *_broken(packages)]
    return tuple(found)


def is_installed(module: str) -> bool:
    """Whether a module is there, without importing it."""
    return importlib.util.find_spec(module) is not None


def _without_compiler() -> tuple[Obstacle, ...]:
    reason = selective_scan_cpu.why_not()
    return () if reason is None else (Obstacle(f"the kernel cannot be built: {reason}", "apt-get install g++"),)


def _without_gpu() -> list[Obstacle]:
    if torch.cuda.is_available():
        return []
    if torch.version.cuda is None and torch.version.hip is None:
        return [Obstacle(f"no working GPU: torch {torch.__version__} is built without CUDA", TORCH_COMMAND)]
    return [Obstacle("no working GPU: torch finds none, and Triton would report `0 active drivers`", "nvidia-smi")]


def _inactive_driver() -> list[Obstacle]:
    try:
        triton = importlib.import_module("triton")
        triton.runtime.driver.active.get_current_target()
    except Exception as error:  # Triton raises RuntimeError, its drivers whatever their libraries raise
        return [Obstacle(f"Triton has no working GPU: {_say(error)}", "pip install --force-reinstall triton")]
    return []


def _broken(packages: Sequence[Package]) -> list[Obstacle]:
    """Packages that are there and cannot be imported: built for another torch or CUDA, as a rule."""
    found = []
    for package in packages:
        try:
            importlib.import_module(package.module)
        except Exception as error:  # a stranger's module can raise anything
            command = f"pip uninstall -y {package.module.replace('_', '-')} && {package.command} --no-cache-dir"
            found.append(Obstacle(f"{package.module} cannot be imported: {_say(error)}", command))
    return found


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


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


_LIMITS: dict[tuple[str, str], Callable[[Demand, torch.dtype], list[Obstacle]]] = {
    ("linear_attention", "fla"): _tile_limits,
    ("delta_rule", "fla"): _delta_rule_limits,
    ("mamba2_scan", "mamba_ssm"): _tile_limits,
    ("selective_scan", "mamba_ssm"): _selective_scan_limits,
    ("selective_scan", "cpp"): lambda demand, dtype: [],
    ("short_conv", "mamba_ssm"): _short_conv_limits,
}
"""What a kernel cannot do, as read in fla 0.6.0, mamba_ssm 2.3.2 and causal_conv1d 1.6.1."""
