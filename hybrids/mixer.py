"""The contract of a mixer: an online sequence processor."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from hybrids.types import State

S = TypeVar("S", bound=State)
"""The NamedTuple of tensors that one kind of mixer carries."""


class Mixer(nn.Module, ABC, Generic[S]):
    """Mixes along time, causally, carrying a state.

    The law: cutting a sequence anywhere and carrying the state gives the same output as not cutting it.
    Training, prefill and one decode step are the same call.

    A concrete mixer is one final class, `class Name(Mixer[NameState])`. `d_model` comes from the backbone;
    keyword-only arguments, annotated and all with a default, are its configuration. It initialises its own
    parameters (nothing re-initialises them later) and marks with `undecayed` those that decay would ruin.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model < 1:
            raise ValueError(f"d_model={d_model} must be at least 1")
        self.d_model = d_model

    @abstractmethod
    def forward(self, x: Float[Tensor, "B T D"], state: S | None = None) -> tuple[Float[Tensor, "B T D"], S]:
        """Outputs for `x`, T >= 1, and the state after it. `state=None` is the start of a sequence."""

    @abstractmethod
    def init_state(self, batch_size: int) -> S:
        """State at the start of a sequence, on the device of the parameters; the same as passing None."""

    def backend_on(self, device_type: str) -> str:
        """Backend that the ops of this mixer take on a device (`cpu`, `cuda`).

        Raises ValueError where the one that was asked for cannot run.
        """
        return "torch"

    @abstractmethod
    def state_elements(self, context: int) -> int:
        """Elements of all state tensors of one sequence after `context` tokens, exactly."""

    @abstractmethod
    def step_flops(self, context: int) -> int:
        """FLOPs of one decode step of one sequence whose state has seen `context` tokens.

        A multiply-add is 2; a pointwise operation is 1 per element of its output; a reduction is 1 per
        element of its input. Within 10 % of `hybrids.measure.count_flops` on `backend=torch`.
        """


def undecayed(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter that weight decay would ruin (dt, A, gates), whatever its shape; `optim.py` spares it."""
    parameter.no_weight_decay = True  # type: ignore[attr-defined]
    return parameter
