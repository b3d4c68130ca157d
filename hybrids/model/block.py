"""One layer of the stack: norm + mixers + norm + channel mixer, each with a residual."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn, zeros

from hybrids.channel import ChannelMixer
from hybrids.errors import UserError
from hybrids.mixer import Mixer
from hybrids.ops.rms_norm import RMSNorm
from hybrids.types import State

M = TypeVar("M")


@dataclass(frozen=True)
class Choice(Generic[M]):
    """A plugin class and the settings to build it with."""

    cls: type[M]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, *args: Any) -> M:
        """A new instance; positional arguments come from the place where it is used."""
        return self.cls(*args, **self.settings)


@dataclass(frozen=True)
class Letter:
    """What one letter of a pattern stands for: a mixer or none, and a channel mixer or none."""

    mixer: Choice[Mixer[Any]] | None
    channel: Choice[ChannelMixer] | None

    def without(self, setting: str) -> "Letter":
        """The same with a setting of the mixer at its default."""
        if self.mixer is None or setting not in self.mixer.settings:
            return self
        settings = {name: value for name, value in self.mixer.settings.items() if name != setting}
        return replace(self, mixer=replace(self.mixer, settings=settings))


class Block(nn.Module):
    """x <- x + mix(norm(x)), then x <- x + channel(norm(x)); a missing part leaves its line out.

    Several mixers read the same input. `join="+"` sums them (`L+A`). `join=":"` adds the second one through a
    gate, mix = first + tanh(gate) second, with a scalar gate that starts at 0 (two streams, arXiv:2603.02874).
    """

    def __init__(
        self, d_model: int, mixers: Sequence[Mixer[Any]], channel: ChannelMixer | None, *, join: str = ""
    ) -> None:
        super().__init__()
        if not mixers and channel is None:
            raise UserError("a layer with neither a mixer nor a channel mixer does nothing; give it one of them")
        self.d_model = d_model
        self.mixers = nn.ModuleList(mixers)
        self.mixer_norm = RMSNorm(d_model) if mixers else None
        self.channel_norm = RMSNorm(d_model) if channel is not None else None
        self.channel = channel
        self.stream_gate = nn.Parameter(zeros(())) if join == ":" else None

    def forward(
        self, x: Float[Tensor, "B T D"], states: Sequence[State | None] | None = None
    ) -> tuple[Float[Tensor, "B T D"], tuple[State, ...]]:
        """Outputs, and the new state of each mixer; `states=None` is the start of a sequence."""
        new_states: list[State] = []
        if self.mixer_norm is not None:
            normed = self.mixer_norm(x)
            for i, mixer in enumerate(self.mixers):
                y, new_state = mixer(normed, None if states is None else states[i])
                new_states.append(new_state)
                x = x + (y if i == 0 or self.stream_gate is None else self.stream_gate.tanh() * y)
        if self.channel is not None and self.channel_norm is not None:
            x = x + self.channel(self.channel_norm(x))
        return x, tuple(new_states)

    def init_states(self, batch_size: int) -> tuple[State, ...]:
        """State of each mixer at the start of a sequence."""
        return tuple(mixer.init_state(batch_size) for mixer in self._mixers())

    def state_elements(self, context: int) -> int:
        """Elements of all states of one sequence after `context` tokens."""
        return sum(mixer.state_elements(context) for mixer in self._mixers())

    def step_flops(self, context: int) -> int:
        """FLOPs of one decode step after `context` tokens: mixers, channel mixer, norms and residuals."""
        parts = [mixer.step_flops(context) + self.d_model for mixer in self._mixers()]
        if self.channel is not None:
            parts.append(self.channel.step_flops() + self.d_model)
        norms = (self.mixer_norm is not None) + (self.channel_norm is not None)
        gate = self.d_model + 1 if self.stream_gate is not None else 0
        return sum(parts) + norms * norm_flops(self.d_model) + gate

    @property
    def period(self) -> int:
        """Tokens after which the blocks of all mixers end together."""
        return math.lcm(*(mixer.period for mixer in self._mixers()))

    def _mixers(self) -> list[Mixer[Any]]:
        return [mixer for mixer in self.mixers if isinstance(mixer, Mixer)]


def norm_flops(width: int) -> int:
    """FLOPs of RMSNorm on one token: norm, scale, weight, and four operations on the norm itself."""
    return 3 * width + 4
