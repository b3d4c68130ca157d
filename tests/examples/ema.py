"""An exponential moving average, the simplest online sequence processor."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer
from hybrids.registry import register


class MovingAverageState(NamedTuple):
    """The average so far."""

    mean: Float[Tensor, "B D"]


@register("mixer", "ema", source="the example of docs/extend.md")
class MovingAverage(Mixer[MovingAverageState]):
    """m_t = a m_{t-1} + (1 - a) W x_t with a = 1 - 1 / horizon; the output is m_t.

    State: mean [B D]. Cost: 2 D^2 + 3 D per token. Source: none, an example.
    """

    def __init__(self, d_model: int, *, horizon: float = 8.0) -> None:
        super().__init__(d_model)
        if horizon < 1:
            raise UserError(f"horizon={horizon} must be at least 1 token")
        self.keep = 1 - 1 / horizon
        self.proj = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: MovingAverageState | None = None
    ) -> tuple[Float[Tensor, "B T D"], MovingAverageState]:
        mean = self.init_state(len(x)).mean if state is None else state.mean
        means = []
        for token in self.proj(x).unbind(1):
            mean = self.keep * mean + (1 - self.keep) * token
            means.append(mean)
        return torch.stack(means, dim=1), MovingAverageState(mean)

    def init_state(self, batch_size: int) -> MovingAverageState:
        return MovingAverageState(self.proj.weight.new_zeros(batch_size, self.d_model))

    def state_elements(self, context: int) -> int:
        return self.d_model

    def step_flops(self, context: int) -> int:
        return 2 * self.d_model**2 + 3 * self.d_model
