"""The contract of a mixer: an online sequence processor."""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import check_number
from hybrids.ops.kernels import ChosenBackend, Demand, backends_of, check_backend, resolve_all
from hybrids.types import State

S = TypeVar("S", bound=State)
"""The NamedTuple of tensors that one kind of mixer carries."""


class PublishedSize(NamedTuple):
    """Elements of a mixer's state by a formula that was published elsewhere."""

    source: str
    formula: str
    """n: tokens seen; D: model width; H: heads; K, V: widths of keys and values; N: state width; W: taps."""
    elements: int
    difference: str
    """Where and why the tensors hold another number: what the formula leaves out or takes."""


class Mixer(nn.Module, ABC, Generic[S]):
    """Mixes along time, causally, carrying a state.

    The law: cutting a sequence anywhere and carrying the state gives the same output as not cutting it.
    Training, prefill and one decode step are the same call.

    A concrete mixer is one final class, `class Name(Mixer[NameState])`. `d_model` comes from the backbone;
    keyword-only arguments, annotated and all with a default, are its configuration; UserError for what cannot be,
    also for a `d_model` that they do not fit. It initialises its own parameters (nothing re-initialises them later) and
    marks with `undecayed` those that decay would ruin.

    A mixer whose ops have kernels names them in `demands`, takes the keyword `backend: str | None = None` (None: what
    the run asks for), which it hands on to this constructor, and calls ops with `backend=self.backend_of(op)`. Where it
    widens activations before the call, it says with `kernel_dtype` what dtype they had: a kernel multiplies in that.
    Whoever knows device and precision calls `choose_backends`; without that, ops run on torch.
    """

    def __init__(self, d_model: int, backend: str | None = None) -> None:
        super().__init__()
        check_number("d_model", d_model, 1)
        if backend is not None:
            check_backend(backend)
        self.d_model = d_model
        self.backend = backend
        self.backends: dict[str, str] = {}
        """What was chosen, by op."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "B T D"], state: S | None = None) -> tuple[Float[Tensor, "B T D"], S]:
        """Outputs for `x`, T >= 1, and the state after it. `state=None` is the start of a sequence."""

    @abstractmethod
    def init_state(self, batch_size: int) -> S:
        """State at the start of a sequence, on the device of the parameters; the same as passing None."""

    def demands(self) -> list[Demand]:
        """What this mixer asks of the ops that have kernels; its main op first."""
        return []

    def choose_backends(
        self, requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype
    ) -> dict[str, ChosenBackend]:
        """Choose the backends of all ops for activations of `dtype` on `device`; by op, with the reasons.

        The setting of this mixer goes before `requested`, which also gives way to `auto` where no op has it. Raises
        UserError for a backend that cannot run.
        """
        demands = self.demands()
        if self.backend is not None:
            requested = self.backend
        elif not any(requested in backends_of(demand.op) for demand in demands):
            requested = "auto"
        choices = resolve_all(demands, requested, device=device, dtype=dtype)
        self.backends = {op: choice.backend for op, choice in choices.items()}
        return choices

    def backend_of(self, op: str) -> str:
        """The backend for a call of `op`."""
        return self.backends.get(op, "torch")

    def published_sizes(self, context: int) -> list[PublishedSize]:
        """Sizes that others give for the state of one sequence after `context` tokens, for `hybrids state`."""
        return []

    @property
    def period(self) -> int:
        """Tokens of a block, where state or cost go up and down within blocks: coordinates are taken at whole ones."""
        return 1

    @abstractmethod
    def state_elements(self, context: int) -> int:
        """Elements of all state tensors of one sequence after `context` tokens, exactly."""

    @abstractmethod
    def step_flops(self, context: int) -> int:
        """FLOPs of one decode step of one sequence whose state has seen `context` tokens.

        A multiply-add is 2; a pointwise operation is 1 per element of its output; a reduction is 1 per
        element of its input. Within 10 % of `hybrids.model.measure.count_flops` on `backend=torch`.
        """


def undecayed(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter that weight decay would ruin (dt, A, gates), whatever its shape; `optim.py` spares it."""
    parameter.no_weight_decay = True  # type: ignore[attr-defined]
    return parameter
