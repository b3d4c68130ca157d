"""Layers without a bug, for one to be planted in."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybrids.channel import ChannelMixer
from hybrids.mixer import Mixer


class MeanState(NamedTuple):
    total: Tensor
    count: Tensor


class Mean(Mixer):
    """Mean of the projected tokens so far: a mixer without bugs."""

    def __init__(self, d_model: int, *, rate: float | None = None, names: list[str] | None = None) -> None:
        super().__init__(d_model)
        self.in_proj = nn.Linear(d_model, d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x, state=None):
        total, count = self.init_state(len(x)) if state is None else state
        v = self.in_proj(x)
        totals = v.cumsum(1) + total[:, None]
        counts = count + torch.arange(1, x.shape[1] + 1)
        return self.out_proj((totals / counts[..., None]).to(v.dtype)), MeanState(totals[:, -1], counts[:, -1:])

    def init_state(self, batch_size):
        zeros = self.in_proj.weight.new_zeros
        return MeanState(zeros(batch_size, self.d_model), zeros(batch_size, 1))

    def state_elements(self, context):
        return self.d_model + 1

    def step_flops(self, context):
        return 4 * self.d_model**2 + 4 * self.d_model + 1


class Gate(ChannelMixer):
    """A channel mixer without bugs."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x):
        return self.proj(x).sigmoid() * x

    def step_flops(self):
        return 2 * self.d_model**2 + 2 * self.d_model
