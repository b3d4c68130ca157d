"""Kimi Delta Attention.

    q, k, v = silu(conv(x W))                      causal, one filter per feature; then q and k get unit length
    beta = sigmoid(x W)                            how much of the old value is replaced
    log_decay = -A softplus(x W1 W2 + dt)          how much of the state is kept, by key feature; W1 has V columns
    S_t = (I - beta_t k_t k_t^T) diag(exp(log_decay_t)) S_{t-1} + beta_t k_t v_t^T
    y_t = (RMSNorm(K^-0.5 S_t^T q_t) * sigmoid(x_t W3 W4)) Wo                  W3 has V columns

W, W1 and W3 are columns of one matrix, `in_proj`, in the order q, k, v, beta, W1, W3.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.mixer import Mixer, undecayed
from hybrids.ops.delta_heads import DeltaHeads, DeltaState, replaced_share
from hybrids.ops.dplr import per_key_delta_rule
from hybrids.ops.heads import check_counts
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32
from hybrids.ops.rms_norm import RMSNorm
from hybrids.ops.steps import draw_dt_bias
from hybrids.registry import register


@register("mixer", "kimi_delta_attention", source="arXiv:2510.26692, eq. 1")
class KimiDeltaAttention(Mixer[DeltaState]):
    """The delta rule with a forget gate per key feature.

    State: `matrix` [B, H, K, V], float32 whatever the activations; `tail` [B, conv_size - 1, 2 H K + H V] in the
    dtype of the activations. It does not grow.
    Cost: besides the projections O(T H (K V + chunk_size (K + V) + log2(chunk_size) K)) a sequence, O(H K V) a step.
    Source: arXiv:2510.26692; A is uniform in [1, 16] and dt log-uniform in [0.001, 0.1], as in the authors' layer
    in flash-linear-attention. W4 has no bias, as in the paper and the published model, where that layer has one.
    Differs: two heads that fill d_model by default, where the authors' are 128 wide whatever the width of the model;
    no more heads of values than of keys, and no lower bound of the gate. The sigmoid of the output gate is taken in
    float32. `expand_v` multiplies the width of a head, where that of `gla` multiplies the width of the model.
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
        check_counts(chunk_size=chunk_size)
        self.heads = heads = DeltaHeads.fitting(d_model, num_heads, head_dim, expand_v=expand_v, conv_size=conv_size)
        self.allow_negative_eigenvalues, self.chunk_size = allow_negative_eigenvalues, chunk_size
        self.widths = (heads.d_conv, num_heads, heads.d_value, heads.d_value)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv_weight = heads.initial_filters()
        self.decay_proj = nn.Linear(heads.d_value, heads.d_keys, bias=False)
        self.A_log = undecayed(nn.Parameter(torch.empty(num_heads).uniform_(1, 16).log()))
        self.dt_bias = undecayed(nn.Parameter(draw_dt_bias(heads.d_keys)))
        self.gate_proj = nn.Linear(heads.d_value, heads.d_values, bias=False)
        self.norm = RMSNorm(heads.d_value)
        self.out_proj = nn.Linear(heads.d_values, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: DeltaState | None = None
    ) -> tuple[Float[Tensor, "B T D"], DeltaState]:
        tail, matrix = (None, None) if state is None else state
        qkv, b, decay, gate = self.in_proj(x).split(self.widths, dim=-1)
        q, k, v, tail = self.heads.convolve(qkv, self.conv_weight, tail, backend=self.backend_of("short_conv"))
        steps = F.softplus(at_least_float32(self.decay_proj(decay)) + self.dt_bias)
        rate = at_least_float32(self.A_log).exp().unsqueeze(-1)
        beta = replaced_share(b, allow_negative_eigenvalues=self.allow_negative_eigenvalues)
        log_decay = -rate * steps.unflatten(-1, (self.heads.num_heads, -1))
        backend = self.backend_of("delta_rule")
        o, matrix = per_key_delta_rule(
            q, k, v, beta, log_decay, matrix, chunk_size=self.chunk_size, backend=backend, kernel_dtype=qkv.dtype
        )
        o = self.norm(o).flatten(2) * at_least_float32(self.gate_proj(gate)).sigmoid()
        return self.out_proj(o.to(qkv.dtype)), DeltaState(tail, matrix)

    def init_state(self, batch_size: int) -> DeltaState:
        return self.heads.empty_state(batch_size, self.in_proj.weight)

    def demands(self) -> list[Demand]:
        return self.heads.demands(gate="key")

    def state_elements(self, context: int) -> int:
        return self.heads.state_elements

    def step_flops(self, context: int) -> int:
        heads = self.heads
        low_rank = self.decay_proj.weight.numel() + self.gate_proj.weight.numel()
        projections = 2 * (self.d_model * (sum(self.widths) + heads.d_values) + low_rank)
        gates = 7 * heads.d_keys + 3 * heads.num_heads  # sum, softplus, product; exp twice, sign, what is removed
        matrices = heads.d_keys + 7 * heads.matrix_elements + 2 * heads.d_values
        norm = 3 * heads.d_values + 4 * heads.num_heads + 2 * heads.d_values
        return projections + heads.step_flops + gates + matrices + norm
