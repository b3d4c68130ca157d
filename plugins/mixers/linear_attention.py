"""Linear attention with the feature map elu + 1 and a normaliser.

phi: feature map; S: sum of phi(k) v^T; z: sum of phi(k), kept as one more column of S.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.mixer import Mixer
from hybrids.ops.heads import check_counts, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.precision import compute_dtype
from hybrids.registry import register


class LinearAttentionState(NamedTuple):
    """S and, as the last column, z; in float32 or wider."""

    memory: Float[Tensor, "B H K K+1"]


@register("mixer", "linear_attention", source="arXiv:2006.16236, eq. 7-12")
class LinearAttention(Mixer[LinearAttentionState]):
    """o_t = S_t^T phi(q_t) / (z_t . phi(q_t)), S_t = S_{t-1} + phi(k_t) v_t^T, z_t = z_{t-1} + phi(k_t).

    State: memory [B H K K+1] in float32 (float64 in a float64 model): H K (K + 1) elements at any context.
    Cost: per token, projections 8 D H K and recurrence 4 H K (K + 1); chunked over a sequence.
    Source: arXiv:2006.16236, eq. 7 (phi = elu + 1) and 8-12, whose residual and f are the block's. No biases.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        head_dim: int | None = None,
        chunk_size: int = 64,
        backend: str | None = None,
    ) -> None:
        super().__init__(d_model, backend)
        check_counts(chunk_size=chunk_size)
        self.head_dim = split_heads(d_model, num_heads, head_dim)
        self.num_heads, self.chunk_size = num_heads, chunk_size
        self.in_proj = nn.Linear(d_model, 3 * num_heads * self.head_dim, bias=False)
        self.out_proj = nn.Linear(num_heads * self.head_dim, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: LinearAttentionState | None = None
    ) -> tuple[Float[Tensor, "B T D"], LinearAttentionState]:
        projected = self.in_proj(x)
        q, k, v = projected.to(self._state_dtype).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        memory = None if state is None else state[0]
        o, memory = linear_attention(
            _phi(q),
            _phi(k),
            v,
            memory,
            chunk_size=self.chunk_size,
            scale=1.0,
            backend=self.backend_of("linear_attention"),
            kernel_dtype=projected.dtype,
        )
        o = o[..., :-1] / o[..., -1:].clamp_min(_SMALLEST)
        return self.out_proj(o.flatten(2).to(projected.dtype)), LinearAttentionState(memory)

    def init_state(self, batch_size: int) -> LinearAttentionState:
        shape = (batch_size, self.num_heads, self.head_dim, self.head_dim + 1)
        return LinearAttentionState(self.in_proj.weight.new_zeros(shape, dtype=self._state_dtype))

    def demands(self) -> list[Demand]:
        return [Demand(op="linear_attention", d_key=self.head_dim, d_value=self.head_dim + 1, gate="none")]

    def state_elements(self, context: int) -> int:
        return self.num_heads * self.head_dim * (self.head_dim + 1)

    def step_flops(self, context: int) -> int:
        width = self.num_heads * self.head_dim
        recurrence = width * 4 * (self.head_dim + 1)  # write, read
        return 8 * self.d_model * width + 2 * 4 * width + recurrence + self.num_heads + width

    @property
    def _state_dtype(self) -> torch.dtype:
        return compute_dtype(self.in_proj.weight)


_SMALLEST = 1e-12
"""Of a normaliser: where all features underflow the output is 0, and gradients (1 / z^2) stay finite."""


def _phi(x: Tensor) -> Tensor:
    """elu(x) + 1, without cancellation where x is very negative: a zero normaliser would give NaN."""
    positive = x.relu()
    return positive + (x - positive).exp()
