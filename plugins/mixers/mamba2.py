"""Mamba-2.

    z, x, B, C, dt = u W_in                        u: what the layer is given; then x, B, C = silu(conv([x, B, C]))
    delta = softplus(dt + dt_bias)                 step size, one per head
    S_t = exp(-delta_t A) S_{t-1} + B_t (delta_t x_t)^T        A > 0, one per head; B, C shared by all heads
    y_t = RMSNorm((S_t^T C_t + D x_t) * silu(z_t)) W_out

In the words of linear attention C is the query, B the key and delta x the value.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer, PublishedSize, undecayed
from hybrids.ops.heads import check_counts, expanded_width
from hybrids.ops.kernels import Demand
from hybrids.ops.mamba2_scan import mamba2_scan
from hybrids.ops.precision import at_least_float32, wide_zeros
from hybrids.ops.rms_norm import RMSNorm
from hybrids.ops.short_conv import initial_filters, short_conv
from hybrids.ops.steps import draw_dt_bias
from hybrids.registry import register


class Mamba2State(NamedTuple):
    """The inputs that the convolution still needs (of x, B and C side by side), and the matrices."""

    tail: Float[Tensor, "B W-1 H*V+2*N"]
    matrix: Float[Tensor, "B H N V"]


@register("mixer", "mamba2", source="arXiv:2405.21060, section 7.1 and fig. 6; SSD, eq. 16")
class Mamba2(Mixer[Mamba2State]):
    """Linear attention with a decay and an input step per head, behind a short convolution.

    State: `matrix` [B, H, N, V], float32 whatever the activations, and `tail` [B, conv_size - 1, H V + 2 N] in the
    dtype of the activations: D' N + (conv_size - 1) (D' + 2 N) elements at any context, D' = expand d_model.
    Cost: besides the projections O(T H (N V + chunk_size V)) a sequence, O(H N V) a step.
    Source: arXiv:2405.21060; initialisation as in the authors' code: A uniform in [1, 16], delta log-uniform in
    [0.001, 0.1], D = 1.
    Differs: d_state is 64 and head_dim 32, where the authors take 128 and 64, so that narrow models stay cheap and
    have several heads. B and C have one group, their default. silu of z is taken in float32, where `mamba` takes it in
    the dtype of the activations.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        expand: float = 2.0,
        head_dim: int = 32,
        conv_size: int = 4,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """`head_dim` is V and divides the inner width expand * d_model; `d_state` is N."""
        super().__init__(d_model, backend)
        check_counts(d_state=d_state, head_dim=head_dim, conv_size=conv_size, chunk_size=chunk_size)
        self.d_inner = expanded_width("expand", expand, "d_model", d_model)
        if self.d_inner % head_dim:
            raise UserError(f"expand={expand} times d_model={d_model} must be a multiple of head_dim={head_dim}")
        self.num_heads, self.head_dim = self.d_inner // head_dim, head_dim
        self.d_state, self.conv_size, self.chunk_size = d_state, conv_size, chunk_size
        self.d_conv = self.d_inner + 2 * d_state
        self.widths = (self.d_inner, self.d_conv, self.num_heads)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv_weight = nn.Parameter(initial_filters(self.d_conv, conv_size))
        self.conv_bias = nn.Parameter(torch.empty(self.d_conv).uniform_(-1, 1) * conv_size**-0.5)
        self.A_log = undecayed(nn.Parameter(torch.empty(self.num_heads).uniform_(1, 16).log()))
        self.dt_bias = undecayed(nn.Parameter(draw_dt_bias(self.num_heads)))
        self.D = undecayed(nn.Parameter(torch.ones(self.num_heads)))
        self.norm = RMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: Mamba2State | None = None
    ) -> tuple[Float[Tensor, "B T D"], Mamba2State]:
        tail, matrix = (None, None) if state is None else state
        z, xbc, dt = self.in_proj(x).split(self.widths, dim=-1)
        xbc, tail = short_conv(
            xbc, self.conv_weight, self.conv_bias, tail, activation="silu", backend=self.backend_of("short_conv")
        )
        values, b, c = self._heads(xbc)
        delta = F.softplus(dt.to(values.dtype) + self.dt_bias.to(values.dtype))
        rate = -self.A_log.to(values.dtype).exp()
        backend = self.backend_of("mamba2_scan")
        y, matrix = mamba2_scan(
            values, delta, rate, b, c, matrix, chunk_size=self.chunk_size, backend=backend, kernel_dtype=xbc.dtype
        )
        y = torch.addcmul(y, values, self.D.to(values.dtype).unsqueeze(-1)).flatten(2)
        y = self.norm(y * F.silu(z.to(y.dtype))).to(xbc.dtype)
        return self.out_proj(y), Mamba2State(tail, matrix)

    def init_state(self, batch_size: int) -> Mamba2State:
        weight = self.in_proj.weight
        tail = weight.new_zeros(batch_size, self.conv_size - 1, self.d_conv)
        matrix = wide_zeros(weight, batch_size, self.num_heads, self.d_state, self.head_dim)
        return Mamba2State(tail, matrix)

    def demands(self) -> list[Demand]:
        return [
            Demand(op="mamba2_scan", d_state=self.d_state, d_value=self.head_dim),
            Demand(op="short_conv", d_conv=self.d_conv, conv_size=self.conv_size),
        ]

    def state_elements(self, context: int) -> int:
        return (self.conv_size - 1) * self.d_conv + self.d_inner * self.d_state

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = (
            "leaves out the inputs that the short convolutions still need (of x, B and C), "
            "and takes an inner width of 2 D"
        )
        return [PublishedSize("zoology", "2 D N", 2 * self.d_model * self.d_state, difference)]

    def step_flops(self, context: int) -> int:
        projections = 2 * self.d_model * (sum(self.widths) + self.d_inner)
        conv = (2 * self.conv_size + 2) * self.d_conv
        gates = 6 * self.num_heads
        matrices = self.d_inner * (5 * self.d_state + 3)
        norm = 5 * self.d_inner
        return projections + conv + gates + matrices + norm

    def _heads(self, xbc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, B and C, at least in float32: states are sums over many steps."""
        xbc = at_least_float32(xbc)
        values, b, c = xbc.split((self.d_inner, self.d_state, self.d_state), dim=-1)
        return values.unflatten(-1, (self.num_heads, self.head_dim)), b.unsqueeze(2), c.unsqueeze(2)
