"""Mamba (the first): a selective state space behind a short convolution, gated.

u, z = x W                                   E = expand D features each
u = silu(conv(u))                            causal, one filter per feature
dt, B, C = u W;  dt = softplus(dt W + b)     what one step is, writes and reads; dt through rank R
h_t = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t^T           A = -exp(A_log), per feature and state entry
y_t = ((h_t C_t + D u_t) * silu(z_t)) Wo
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.mixer import Mixer, PublishedSize, undecayed
from hybrids.ops.heads import check_counts
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32, wide_zeros
from hybrids.ops.selective_scan import selective_scan
from hybrids.ops.short_conv import initial_filters, short_conv
from hybrids.ops.steps import draw_dt_bias
from hybrids.registry import register


class MambaState(NamedTuple):
    """The inputs that the convolution still needs, and the states of all features."""

    tail: Float[Tensor, "B W-1 E"]
    ssm: Float[Tensor, "B E N"]


@register("mixer", "mamba", source="arXiv:2312.00752, algorithm 2 and fig. 3")
class Mamba(Mixer[MambaState]):
    """The selective state space model S6 in its block.

    State: `ssm` [B, E, d_state], float32 whatever the activations (float64 in a float64 model); `tail`
    [B, conv_size - 1, E] in the dtype of the activations; E = expand d_model. It does not grow.
    Cost: per token, projections 6 D E + 2 E (2 R + 2 d_state) and scan 7 E d_state; linear in T.
    Source: arXiv:2312.00752; structure, defaults and initialisation as in the authors' `mamba_simple.py`
    (A = -1 ... -d_state, D = 1, steps log-uniform in [1e-3, 0.1], R = d_model / 16), in_proj and out_proj as PyTorch's.
    Differs: out_proj is not scaled down with depth, which is the model's business in the authors' code too. silu of
    z is taken in the dtype of the activations, where `mamba2` takes it in float32.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        expand: int = 2,
        conv_size: int = 4,
        dt_rank: int | None = None,
        backend: str | None = None,
    ) -> None:
        """`dt_rank` is R, by default d_model / 16 rounded up."""
        super().__init__(d_model, backend)
        rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        check_counts(d_state=d_state, expand=expand, conv_size=conv_size, dt_rank=rank)
        self.d_inner, self.d_state, self.conv_size, self.dt_rank = expand * d_model, d_state, conv_size, rank
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv_weight = nn.Parameter(initial_filters(self.d_inner, conv_size))
        self.conv_bias = nn.Parameter(torch.empty(self.d_inner).uniform_(-1, 1) * conv_size**-0.5)
        self.x_proj = nn.Linear(self.d_inner, rank + 2 * d_state, bias=False)
        self.dt_weight = nn.Parameter(torch.empty(self.d_inner, rank).uniform_(-1, 1) * rank**-0.5)
        self.dt_bias = undecayed(nn.Parameter(draw_dt_bias(self.d_inner)))
        self.A_log = undecayed(nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(self.d_inner, 1)))
        self.D = undecayed(nn.Parameter(torch.ones(self.d_inner)))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "B T D"], MambaState]:
        tail, ssm = (None, None) if state is None else state
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u, tail = short_conv(
            u, self.conv_weight, self.conv_bias, tail, activation="silu", backend=self.backend_of("short_conv")
        )
        dt, B, C = self.x_proj(u).split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        dt = F.softplus(at_least_float32(F.linear(dt, self.dt_weight)) + at_least_float32(self.dt_bias))
        A = -at_least_float32(self.A_log).exp()
        y, ssm = selective_scan(u, dt, A, B, C, self.D, ssm, backend=self.backend_of("selective_scan"))
        return self.out_proj(y * F.silu(z)), MambaState(tail, ssm)

    def init_state(self, batch_size: int) -> MambaState:
        weight = self.in_proj.weight
        tail = weight.new_zeros(batch_size, self.conv_size - 1, self.d_inner)
        return MambaState(tail, wide_zeros(weight, batch_size, self.d_inner, self.d_state))

    def demands(self) -> list[Demand]:
        return [
            Demand(op="selective_scan", d_state=self.d_state),
            Demand(op="short_conv", d_conv=self.d_inner, conv_size=self.conv_size),
        ]

    def state_elements(self, context: int) -> int:
        return self.d_inner * (self.conv_size - 1 + self.d_state)

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "leaves out the inputs that the short convolutions still need, and takes an inner width of 2 D"
        return [PublishedSize("zoology", "2 D N", 2 * self.d_model * self.d_state, difference)]

    def step_flops(self, context: int) -> int:
        inputs = 2 * (2 * self.d_model + self.dt_rank + 2 * self.d_state + self.dt_rank)
        conv, steps = 2 * self.conv_size + 2, 3
        scan = 9 * self.d_state + 3  # two of the nine make A
        return self.d_inner * (inputs + conv + steps + scan + 2 + 2 * self.d_model)
