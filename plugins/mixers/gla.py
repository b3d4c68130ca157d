"""Gated linear attention.

    q, k, v, g = x W                               g: output gate
    log_decay = logsigmoid(x W1 W2 + b) / 16       one per key feature; W1 has few columns
    S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T
    y_t = (RMSNorm(K^-0.5 S_t^T q_t) * silu(g_t)) Wo

Each W is its own columns of one matrix, `in_proj`, in the order q, k, v, output gate, W1.
"""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer, PublishedSize, undecayed
from hybrids.ops.heads import check_counts, expanded_width, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.precision import compute_dtype, wide_zeros
from hybrids.ops.rms_norm import RMSNorm
from hybrids.registry import register


class GLAState(NamedTuple):
    """The matrices, in float32 or wider."""

    matrix: Float[Tensor, "B H K V"]


@register("mixer", "gla", source="arXiv:2312.06635, section 4.4")
class GatedLinearAttention(Mixer[GLAState]):
    """Linear attention that forgets by key feature.

    State: `matrix` [B, H, K, V], float32 whatever the activations; with the defaults d_model^2 / (2 H) elements at
    any context.
    Cost: besides the projections O(T H (K V + chunk_size (K + V))) a sequence, O(H K V) a step.
    Source: arXiv:2312.06635, section 4.4; widths, gate and initialisation (Xavier with gain 2^-2.5 for queries, keys
    and the gate) as in the authors' code, and the norm as in their layer in flash-linear-attention: RMSNorm with a
    weight, where the paper has a LayerNorm. No biases but the gate's.
    Differs: silu of the output gate is taken in the dtype of the activations, as in `gated_delta_net` and `retention`,
    where `delta_net` and `mamba2` take it in float32. `expand_k` and `expand_v` multiply the width of the model, as the
    authors' do, where `expand_v` of the delta rules multiplies the width of a head.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        expand_k: float = 0.5,
        expand_v: float = 1.0,
        gate_rank: int = 16,
        gate_normalizer: float = 16.0,
        use_output_gate: bool = True,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """Keys of all heads have expand_k d_model features, values expand_v d_model."""
        super().__init__(d_model, backend)
        check_counts(gate_rank=gate_rank, chunk_size=chunk_size)
        if gate_normalizer <= 0:  # inf: no decay
            raise UserError(f"gate_normalizer={gate_normalizer} must be positive")
        self.d_key = split_heads(expanded_width("expand_k", expand_k, "d_model", d_model), num_heads)
        self.d_value = split_heads(expanded_width("expand_v", expand_v, "d_model", d_model), num_heads)
        self.num_heads, self.chunk_size = num_heads, chunk_size
        self.gate_normalizer, self.use_output_gate = gate_normalizer, use_output_gate
        d_keys, d_values = num_heads * self.d_key, num_heads * self.d_value
        self.widths = (d_keys, d_keys, d_values, d_values if use_output_gate else 0, gate_rank)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.gate_proj = nn.Linear(gate_rank, d_keys)
        undecayed(self.gate_proj.bias)
        self.norm = RMSNorm(self.d_value)
        self.out_proj = nn.Linear(d_values, d_model, bias=False)
        q, k, _, _, gate = self.in_proj.weight.split(self.widths)
        for weight in (q, k, gate, self.gate_proj.weight):
            nn.init.xavier_uniform_(weight, gain=2**-2.5)

    def forward(
        self, x: Float[Tensor, "B T D"], state: GLAState | None = None
    ) -> tuple[Float[Tensor, "B T D"], GLAState]:
        projected = self.in_proj(x)
        q, k, v, g, gate = projected.split(self.widths, dim=-1)
        dtype = compute_dtype(projected)
        log_decay = F.logsigmoid(self.gate_proj(gate).to(dtype)) / self.gate_normalizer
        q, k, v, log_decay = (t.to(dtype).unflatten(-1, (self.num_heads, -1)) for t in (q, k, v, log_decay))
        matrix = None if state is None else state.matrix
        o, matrix = linear_attention(
            q,
            k,
            v,
            matrix,
            log_decay=log_decay,
            chunk_size=self.chunk_size,
            backend=self.backend_of("linear_attention"),
            kernel_dtype=projected.dtype,
        )
        o = self.norm(o).flatten(2)
        if self.use_output_gate:
            o = o * F.silu(g)
        return self.out_proj(o.to(projected.dtype)), GLAState(matrix)

    def init_state(self, batch_size: int) -> GLAState:
        return GLAState(wide_zeros(self.in_proj.weight, batch_size, self.num_heads, self.d_key, self.d_value))

    def demands(self) -> list[Demand]:
        return [Demand(op="linear_attention", d_key=self.d_key, d_value=self.d_value, gate="key")]

    def state_elements(self, context: int) -> int:
        return self.num_heads * self.d_key * self.d_value

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "takes the matrices, and convolutions where there are some"
        return [PublishedSize("zoology", "H K V", self.num_heads * self.d_key * self.d_value, difference)]

    def step_flops(self, context: int) -> int:
        d_keys, d_values = self.num_heads * self.d_key, self.num_heads * self.d_value
        projections = 2 * (self.in_proj.weight.numel() + self.gate_proj.weight.numel() + self.out_proj.weight.numel())
        gates = 4 * d_keys + d_keys  # bias, logsigmoid, division, exp; and the scale of q
        norm = 3 * d_values + 4 * self.num_heads + (2 * d_values if self.use_output_gate else 0)
        return projections + gates + 5 * d_keys * self.d_value + norm
