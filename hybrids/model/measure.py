"""What a module does and carries: operations counted on a real step, bits of real state tensors.

How operations are counted (the same rules for what a plugin declares and for what is published):
    multiply-add in a product, convolution or triangular solve    2, and 2 per element of addcmul
    pointwise operation (also exp, sigmoid, silu, a division)     1 per element of the output
    reduction (sum, mean, max, norm)                              1 per element of the input
    softmax 5, layer norm 5, rms norm 4 per element, weight and bias 1 each: the parts they are made of
    views, copies, casts, gathers, masks, selections, constants, random numbers, integers    0
Any other operation of PyTorch that yields floating point numbers counts as pointwise. What PyTorch does not
report as its own operations (custom kernels, fused recurrent layers) cannot be counted and is a UserError:
zero would be a lie.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from hybrids.errors import UserError, check_number
from hybrids.mixer import Mixer
from hybrids.ops.attention import DefinedAttention
from hybrids.types import Cache, State

Carried: TypeAlias = State | Cache | Tensor | None
"""A state, a cache, or any nesting of them."""

PREFILL_PIECE = 1024
"""Tokens of one prefill call: bounds the memory of a long context; the law makes it the same state."""


@runtime_checkable
class OnlineProcessor(Protocol):
    """A mixer, or a stack of them: anything that is called as `(x, state) -> (y, state)`."""

    def __call__(self, x: Tensor, state: Any = None, /) -> tuple[Tensor, Any]: ...

    def init_state(self, batch_size: int, /) -> Any: ...


class StepCost(NamedTuple):
    """What was measured on one decode step of one sequence, after `context` tokens."""

    context: int
    flops: int
    state_elements: int
    state_bits: int
    """Bits carried into the step, at the dtype stored."""
    bytes_read: int
    """Every parameter and every state element once."""


def state_elements(state: Carried) -> int:
    """Elements of all tensors in a state or cache; over the whole batch."""
    return sum(tensor.numel() for tensor in tensors(state))


def state_bits(state: Carried) -> int:
    """Bits of all tensors in a state or cache, at the dtype stored; over the whole batch."""
    return sum(tensor.numel() * tensor.element_size() * 8 for tensor in tensors(state))


def tensors(state: Carried) -> Iterator[Tensor]:
    """All tensors of a state or cache, in order."""
    return (leaf for leaf in tree_iter(state) if isinstance(leaf, Tensor))


def count_flops(fn: Callable[[], object]) -> int:
    """Floating point operations that `fn` executes, by the rules of this module.

    Attention runs as it is defined meanwhile: fused forms hide what they do, and PyTorch's own plain form scales
    every key beside the queries, a fifth of the attention of narrow heads. Raises UserError when `fn` runs something
    that cannot be counted.
    """
    with DefinedAttention(), _OperationCounter() as counter:
        fn()
    return counter.flops


def prefill(module: OnlineProcessor, d_model: int, context: int, *, batch_size: int = 1) -> Any:
    """State of `module` after `context` random tokens (always the same ones), made by running it."""
    check_number("context", context, 0)
    if context == 0:
        return module.init_state(batch_size)
    generator = torch.Generator().manual_seed(0)
    state = None
    with _inference(module):
        for start in range(0, context, PREFILL_PIECE):
            length = min(PREFILL_PIECE, context - start)
            x = torch.randn(batch_size, length, d_model, generator=generator)
            _, state = module(_like_parameters(x, module), state)
    return state


def measure_step(module: OnlineProcessor, d_model: int, context: int) -> StepCost:
    """Cost of one decode step of `module` for one sequence whose state has seen `context` tokens.

    Serves a mixer and a backbone alike. Context 0 needs the module's `init_state`.
    """
    state = prefill(module, d_model, context)
    x = _like_parameters(torch.randn(1, 1, d_model, generator=torch.Generator().manual_seed(1)), module)
    # Read before the step: a module that writes into its state must not change what is reported.
    elements, bits = state_elements(state), state_bits(state)
    with _inference(module):
        flops = count_flops(lambda: module(x, state))
    return StepCost(context, flops, elements, bits, parameter_bytes(module) + bits // 8)


def held_bytes(forward: Callable[[], object], given: Iterable[Tensor] = ()) -> int:
    """Bytes that `forward` keeps for its backward pass: every storage that autograd saves, once.

    The storages of `given` (inputs, parameters) are alive without it and do not count. Tensors that a custom function
    keeps without `save_for_backward` are not seen.
    """
    ours = {x.untyped_storage().data_ptr() for x in given}
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        output = forward()
    del output  # alive until here, so that no address stands for two tensors
    return sum(kept.values())


def parameter_bytes(module: object) -> int:
    """Bytes of all parameters at the dtype stored, shared ones once; 0 for what is not a torch module."""
    parameters = module.parameters() if isinstance(module, nn.Module) else ()
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _like_parameters(x: Tensor, module: object) -> Tensor:
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    return x if parameter is None else x.to(parameter.device, parameter.dtype)


@contextmanager
def _inference(module: object) -> Iterator[None]:
    """No gradients, evaluation mode, and mixers on torch; afterwards every submodule as it was.

    Kernels would hide their operations, and the module may still be on the CPU.
    """
    parts = list(module.modules()) if isinstance(module, nn.Module) else []
    modes = {part: part.training for part in parts}
    backends = {part: part.backends for part in parts if isinstance(part, Mixer)}
    try:
        for m in modes:
            m.training = False
        for m in backends:
            m.backends = {}
        with torch.no_grad():
            yield
    finally:
        for m, mode in modes.items():
            m.training = mode
        for m, chosen in backends.items():
            m.backends = chosen


class _OperationCounter(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: or PyTorch imports its compiler, which takes as long as PyTorch itself, to keep it out of this class."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "aten" and func._overloadpacket not in flop_registry:
            with self:  # in inference mode, operations arrive before they are taken apart
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.flops += _flops(func, args, kwargs, out)
        return out


_FREE_NAMES = """
    clone contiguous copy _to_copy to lift_fresh lift_fresh_copy cat stack where masked_fill
    masked_scatter masked_select fill zero index index_select index_put _unsafe_index _unsafe_index_put
    index_copy index_fill gather scatter slice_scatter select_scatter diagonal_scatter take embedding
    constant_pad_nd flip roll tril triu repeat repeat_interleave _unsafe_view _reshape_copy resize set
    sort topk dropout native_dropout bernoulli normal uniform exponential random ones_like zeros_like
    full_like empty_like rand_like randn_like new_empty new_empty_strided new_full new_ones new_zeros
    scalar_tensor _local_scalar_dense nan_to_num
"""

_REDUCTION_NAMES = """
    sum nansum mean prod max min amax amin aminmax var var_mean std std_mean norm linalg_vector_norm
    logsumexp cumsum cumprod cummax cummin logcumsumexp dist
"""
_FREE = frozenset(_FREE_NAMES.split())
"""Names of operations that move, select or make numbers; `name_` counts as `name`."""
_REDUCTIONS = frozenset(_REDUCTION_NAMES.split())

_PER_ELEMENT = {
    "_softmax": 5,
    "_safe_softmax": 5,
    "_log_softmax": 5,
    "native_layer_norm": 5,
    "native_group_norm": 5,
    "_fused_rms_norm": 4,
}

_COUNTABLE = ("aten", "prim", "prims")
_OPAQUE_NAMES = "mkldnn cudnn miopen thnn_fused _for_cpu _trilinear _fft_ _foreach_ linalg_ _native_multi"
_OPAQUE = tuple(_OPAQUE_NAMES.split())
"""Parts of the names of operations whose cost no rule here gives."""


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    packet, outputs = func._overloadpacket, _floating_elements(out)
    name = packet.__name__.rstrip("_")
    if packet in flop_registry:
        # addmm and baddbmm add a tensor to the product, unless it is scaled by 0.
        adds = name in ("addmm", "baddbmm") and kwargs.get("beta", 1) != 0
        return flop_registry[packet](*args, **kwargs, out_val=out) + (outputs if adds else 0)
    if func.namespace not in _COUNTABLE and _floating_elements((args, kwargs, out)):
        raise _uncountable(func)
    if name in _PRODUCTS:
        return _PRODUCTS[name](args, outputs)
    if name in _REDUCTIONS:
        return _floating_elements(args[0])
    if name in _PER_ELEMENT:
        num_weights = sum(isinstance(arg, Tensor) for arg in args[1:]) if name.endswith("_norm") else 0
        return (_PER_ELEMENT[name] + num_weights) * _floating_elements(args[0])
    if any(part in name for part in _OPAQUE):
        raise _uncountable(func)
    if name in ("addcmul", "addcdiv"):
        return 2 * outputs
    is_free = func.is_view or name in _FREE or _floating_elements(args) == 0
    return 0 if is_free else outputs


def _uncountable(func: Any) -> UserError:
    return UserError(f"{func} cannot be counted: it is a custom or fused kernel; count on backend=torch")


def _floating_elements(values: Any) -> int:
    leaves = (leaf for leaf in tree_iter(values) if isinstance(leaf, Tensor))
    return sum(leaf.numel() for leaf in leaves if leaf.is_floating_point() or leaf.is_complex())


_PRODUCTS: dict[str, Callable[[tuple[Any, ...], int], int]] = {
    "dot": lambda args, outputs: 2 * args[0].numel(),
    "vdot": lambda args, outputs: 2 * args[0].numel(),
    "mv": lambda args, outputs: 2 * args[0].numel(),
    "addmv": lambda args, outputs: 2 * args[1].numel() + outputs,
    "addbmm": lambda args, outputs: 2 * args[1].numel() * args[2].shape[-1] + outputs,
    # Substitution: n(n-1)/2 multiply-adds and n divisions for each column of length n.
    "linalg_solve_triangular": lambda args, outputs: outputs * args[0].shape[-1],
}
