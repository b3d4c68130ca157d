"""Gated DeltaNet.

    q, k, v = silu(conv(x W))                      causal, one filter per feature; then q and k get unit length
    beta = sigmoid(x W)                            how much of the old value is replaced
    log_decay = -A softplus(x W + dt)              how much of the state is kept
    S_t = exp(log_decay_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T
    y_t = (RMSNorm(K^-0.5 S_t^T q_t) * silu(x_t W)) Wo

Each W is its own columns of one matrix, `in_proj`, in the order q, k, v, output gate, beta, decay.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer, PublishedSize, undecayed
from hybrids.ops.delta_heads import (
    convolved_heads,
    convolved_heads_flops,
    initial_conv,
    value_width,
)
from hybrids.ops.delta_rule import delta_rule
from hybrids.ops.heads import split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32
from hybrids.ops.steps import draw_dt_bias
from hybrids.registry import register


class GatedDeltaNetState(NamedTuple):
    """The inputs that the convolutions still need (of q, k and v side by side), and the matrices."""

    tail: Float[Tensor, "B W-1 2*H*K+H*V"]
    matrix: Float[Tensor, "B H K V"]


@register("mixer", "gated_delta_net", source="arXiv:2412.06464, eq. 10 and fig. 1")
class GatedDeltaNet(Mixer[GatedDeltaNetState]):
    """The delta rule with one forget gate per head.

    State: `matrix` [B, H, K, V], float32 whatever the activations; `tail` [B, conv_size - 1, 2 H K + H V] in the
    dtype of the activations. It does not grow.
    Cost: besides the projections O(T H (K V + chunk_size (K + V))) a sequence, O(H K V) a step.
    Source: arXiv:2412.06464; initialisation as in the authors' layer in flash-linear-attention.
    Differs: keys fill d_model and `expand_v` is 1, where the authors give keys 0.75 d_model and expand_v 2. That
    makes their matrices 1.125 d_model^2 / H elements and ours d_model^2 / H, what plain linear attention has, so
    that mixers compare at equal state unless told otherwise.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 2,
        head_dim: int | None = None,
        expand_v: float = 1.0,
        conv_size: int = 4,
        use_output_gate: bool = True,
        allow_negative_eigenvalues: bool = False,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """`head_dim` is K, by default d_model / num_heads; V = expand_v K. With `allow_negative_eigenvalues`
        beta is in (0, 2), which lets a state track parity (arXiv:2411.12537)."""
        super().__init__(d_model, backend)
        self.d_key = split_heads(d_model, num_heads, head_dim)
        self.d_value = value_width(self.d_key, expand_v)
        for name, value in (("conv_size", conv_size), ("chunk_size", chunk_size)):
            if value < 1:
                raise UserError(f"{name}={value} must be at least 1")
        self.num_heads, self.conv_size, self.chunk_size = num_heads, conv_size, chunk_size
        self.use_output_gate, self.allow_negative_eigenvalues = use_output_gate, allow_negative_eigenvalues
        self.d_conv = num_heads * (2 * self.d_key + self.d_value)
        d_gate = num_heads * self.d_value if use_output_gate else 0
        self.widths = (self.d_conv, d_gate, num_heads, num_heads)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv_weight = nn.Parameter(initial_conv(self.d_conv, conv_size))
        self.A_log = undecayed(nn.Parameter(torch.empty(num_heads).uniform_(1e-4, 16).log()))
        self.dt_bias = undecayed(nn.Parameter(draw_dt_bias(num_heads)))
        self.norm_weight = nn.Parameter(torch.ones(self.d_value))
        self.out_proj = nn.Linear(num_heads * self.d_value, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: GatedDeltaNetState | None = None
    ) -> tuple[Float[Tensor, "B T D"], GatedDeltaNetState]:
        tail, matrix = (None, None) if state is None else state
        qkv, gate, b, a = self.in_proj(x).split(self.widths, dim=-1)
        q, k, v, tail = convolved_heads(
            qkv,
            self.conv_weight,
            tail,
            num_heads=self.num_heads,
            d_key=self.d_key,
            backend=self.backend_of("short_conv"),
        )
        beta, log_decay = self._gates(b, a)
        o, matrix = delta_rule(
            q,
            k,
            v,
            beta,
            log_decay,
            matrix,
            chunk_size=self.chunk_size,
            backend=self.backend_of("delta_rule"),
            kernel_dtype=qkv.dtype,
        )
        o = (o * torch.rsqrt(o.square().mean(-1, keepdim=True) + 1e-5) * self.norm_weight).flatten(2)
        if self.use_output_gate:
            o = o * F.silu(gate)
        return self.out_proj(o.to(qkv.dtype)), GatedDeltaNetState(tail, matrix)

    def init_state(self, batch_size: int) -> GatedDeltaNetState:
        weight = self.in_proj.weight
        tail = weight.new_zeros(batch_size, self.conv_size - 1, self.d_conv)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        matrix = weight.new_zeros(batch_size, self.num_heads, self.d_key, self.d_value, dtype=dtype)
        return GatedDeltaNetState(tail, matrix)

    def demands(self) -> list[Demand]:
        return [
            Demand(op="delta_rule", d_key=self.d_key, d_value=self.d_value, gate="scalar"),
            Demand(op="short_conv", d_conv=self.d_conv, conv_size=self.conv_size),
        ]

    def state_elements(self, context: int) -> int:
        return (self.conv_size - 1) * self.d_conv + self.num_heads * self.d_key * self.d_value

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "leaves out the inputs that the short convolutions still need"
        return [PublishedSize("zoology", "H K V", self.num_heads * self.d_key * self.d_value, difference)]

    def step_flops(self, context: int) -> int:
        d_out = self.num_heads * self.d_value
        projections = 2 * self.d_model * (sum(self.widths) + d_out)
        heads = convolved_heads_flops(self.num_heads, self.d_key, self.d_value, self.conv_size)
        gates = 6 * self.num_heads
        matrices = self.num_heads * (2 * self.d_key + 7 * self.d_key * self.d_value + 2 * self.d_value)
        norm = 4 * d_out + (2 * d_out if self.use_output_gate else 0)
        return projections + heads + gates + matrices + norm

    def _gates(self, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        beta, a = at_least_float32(b).sigmoid(), at_least_float32(a)
        log_decay = -at_least_float32(self.A_log).exp() * F.softplus(a + self.dt_bias)
        return (2 * beta if self.allow_negative_eigenvalues else beta), log_decay
