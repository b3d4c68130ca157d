"""The gated short convolution (BaseConv).

y = (x W + b) * conv(x) + x        conv: causal, one filter of W taps and a bias per feature
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.mixer import Mixer, PublishedSize
from hybrids.ops.heads import check_counts
from hybrids.ops.kernels import Demand
from hybrids.ops.short_conv import initial_filters, short_conv
from hybrids.registry import register


class ShortConvState(NamedTuple):
    """The inputs that the convolution still needs."""

    tail: Float[Tensor, "B W-1 D"]


@register("mixer", "short_conv", source="arXiv:2312.04927 (BaseConv), with a short filter")
class ShortConv(Mixer[ShortConvState]):
    """A short convolution gated by a projection: compares neighbouring tokens, and remembers nothing else.

    State: `tail` [B, conv_size - 1, D] in the dtype of the activations. It does not grow.
    Cost: per token, projection 2 D^2 and convolution 2 D conv_size.
    Source: arXiv:2312.04927; as the first layer of the MQAR models of arXiv:2402.18668, three taps. As in the
    authors' code (zoology, `BaseConv`), both factors have a bias and `x` is added, besides the residual of the block;
    `add_input=false` is the equation of the paper. Initialised as PyTorch initialises the two modules.
    Differs: the state is what a step needs, (conv_size - 1) D; zoology counts conv_size D.
    """

    def __init__(self, d_model: int, *, conv_size: int = 3, add_input: bool = True, backend: str | None = None) -> None:
        super().__init__(d_model, backend)
        check_counts(conv_size=conv_size)
        self.conv_size, self.add_input = conv_size, add_input
        self.proj = nn.Linear(d_model, d_model)
        self.conv_weight = nn.Parameter(initial_filters(d_model, conv_size))
        self.conv_bias = nn.Parameter(torch.empty(d_model).uniform_(-1, 1) * conv_size**-0.5)

    def forward(
        self, x: Float[Tensor, "B T D"], state: ShortConvState | None = None
    ) -> tuple[Float[Tensor, "B T D"], ShortConvState]:
        mixed, tail = short_conv(
            x,
            self.conv_weight,
            self.conv_bias,
            None if state is None else state.tail,
            backend=self.backend_of("short_conv"),
        )
        y = self.proj(x) * mixed
        return (y + x if self.add_input else y), ShortConvState(tail)

    def init_state(self, batch_size: int) -> ShortConvState:
        return ShortConvState(self.proj.weight.new_zeros(batch_size, self.conv_size - 1, self.d_model))

    def demands(self) -> list[Demand]:
        return [Demand(op="short_conv", d_conv=self.d_model, conv_size=self.conv_size)]

    def state_elements(self, context: int) -> int:
        return (self.conv_size - 1) * self.d_model

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "takes the token itself too, which is not carried"
        return [PublishedSize("zoology", "D W", self.d_model * self.conv_size, difference)]

    def step_flops(self, context: int) -> int:
        return self.d_model * (2 * self.d_model + 1 + 2 * self.conv_size + 1 + 1 + self.add_input)
