"""Kimi Delta Attention.

    q, k, v = silu(conv(x W))                      causal, one filter per feature; then q and k get unit length
    beta = sigmoid(x W)                            how much of the old value is replaced
    log_decay = -A softplus(x W1 W2 + dt)          how much of the state is kept, by key feature; W1 has V columns
    S_t = (I - beta_t k_t k_t^T) diag(exp(log_decay_t)) S_{t-1} + beta_t k_t v_t^T
    y_t = (RMSNorm(K^-0.5 S_t^T q_t) * sigmoid(x_t W3 W4)) Wo                  W3 has V columns

W, W1 and W3 are columns of one matrix, `in_proj`, in the order q, k, v, beta, W1, W3.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer, undecayed
from hybrids.ops.delta_heads import (
    convolved_heads,
    convolved_heads_flops,
    initial_conv,
    value_width,
)
from hybrids.ops.dplr import per_key_delta_rule
from hybrids.ops.heads import split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32
from hybrids.ops.rms_norm import RMSNorm
from hybrids.ops.steps import draw_dt_bias
from hybrids.registry import register


class KimiDeltaAttentionState(NamedTuple):
    """The inputs that the convolutions still need (of q, k and v side by side), and the matrices."""

    tail: Float[Tensor, "B W-1 2*H*K+H*V"]
    matrix: Float[Tensor, "B H K V"]


@register("mixer", "kimi_delta_attention", source="arXiv:2510.26692, eq. 1")
class KimiDeltaAttention(Mixer[KimiDeltaAttentionState]):
    """The delta rule with a forget gate per key feature.

    State: `matrix` [B, H, K, V], float32 whatever the activations; `tail` [B, conv_size - 1, 2 H K + H V] in the
    dtype of the activations. It does not grow.
    Cost: besides the projections O(T H (K V + chunk_size (K + V) + log2(chunk_size) K)) a sequence, O(H K V) a step.
    Source: arXiv:2510.26692; A is uniform in [1, 16] and dt log-uniform in [0.001, 0.1], as in the authors' layer
    in flash-linear-attention. W4 has no bias, as in the paper and the published model, where that layer has one.
    Differs: two heads that fill d_model by default, where the authors' are 128 wide whatever the width of the model;
    no more heads of values than of keys, and no lower bound of the gate.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 2,
        head_dim: int | None = None,
        expand_v: float = 1.0,
        conv_size: int = 4,
        allow_negative_eigenvalues: bool = False,
        chunk_size: int = 16,
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
        self.allow_negative_eigenvalues = allow_negative_eigenvalues
        d_keys, d_values = num_heads * self.d_key, num_heads * self.d_value
        self.d_conv = 2 * d_keys + d_values
        self.widths = (self.d_conv, num_heads, self.d_value, self.d_value)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv_weight = nn.Parameter(initial_conv(self.d_conv, conv_size))
        self.decay_proj = nn.Linear(self.d_value, d_keys, bias=False)
        self.A_log = undecayed(nn.Parameter(torch.empty(num_heads).uniform_(1, 16).log()))
        self.dt_bias = undecayed(nn.Parameter(draw_dt_bias(d_keys)))
        self.gate_proj = nn.Linear(self.d_value, d_values, bias=False)
        self.norm = RMSNorm(self.d_value)
        self.out_proj = nn.Linear(d_values, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: KimiDeltaAttentionState | None = None
    ) -> tuple[Float[Tensor, "B T D"], KimiDeltaAttentionState]:
        tail, matrix = (None, None) if state is None else state
        qkv, b, decay, gate = self.in_proj(x).split(self.widths, dim=-1)
        q, k, v, tail = convolved_heads(
            qkv,
            self.conv_weight,
            tail,
            num_heads=self.num_heads,
            d_key=self.d_key,
            backend=self.backend_of("short_conv"),
        )
        beta, log_decay = self._gates(b, self.decay_proj(decay))
        o, matrix = per_key_delta_rule(
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
        o = self.norm(o).flatten(2) * at_least_float32(self.gate_proj(gate)).sigmoid()
        return self.out_proj(o.to(qkv.dtype)), KimiDeltaAttentionState(tail, matrix)

    def init_state(self, batch_size: int) -> KimiDeltaAttentionState:
        weight = self.in_proj.weight
        tail = weight.new_zeros(batch_size, self.conv_size - 1, self.d_conv)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        matrix = weight.new_zeros(batch_size, self.num_heads, self.d_key, self.d_value, dtype=dtype)
        return KimiDeltaAttentionState(tail, matrix)

    def demands(self) -> list[Demand]:
        return [
            Demand(op="delta_rule", d_key=self.d_key, d_value=self.d_value, gate="key"),
            Demand(op="short_conv", d_conv=self.d_conv, conv_size=self.conv_size),
        ]

    def state_elements(self, context: int) -> int:
        return (self.conv_size - 1) * self.d_conv + self.num_heads * self.d_key * self.d_value

    def step_flops(self, context: int) -> int:
        d_keys, d_values = self.num_heads * self.d_key, self.num_heads * self.d_value
        low_rank = self.decay_proj.weight.numel() + self.gate_proj.weight.numel()
        projections = 2 * (self.d_model * (sum(self.widths) + d_values) + low_rank)
        heads = convolved_heads_flops(self.num_heads, self.d_key, self.d_value, self.conv_size)
        gates = 7 * d_keys + 3 * self.num_heads  # sum, softplus, product; exp twice, sign, what is removed
        matrices = d_keys + 7 * d_keys * self.d_value + 2 * d_values
        norm = 3 * d_values + 4 * self.num_heads + 2 * d_values
        return projections + heads + gates + matrices + norm

    def _gates(self, b: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
        beta, decay = at_least_float32(b).sigmoid(), at_least_float32(decay)
        rate = at_least_float32(self.A_log).exp().unsqueeze(-1)
        log_decay = -rate * F.softplus(decay + self.dt_bias).unflatten(-1, (self.num_heads, -1))
        return (2 * beta if self.allow_negative_eigenvalues else beta), log_decay
