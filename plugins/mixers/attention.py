"""Full softmax attention with grouped heads and rotary positions.

q, k, v: queries, keys, values; G: key/value heads, each shared by H / G query heads; n: tokens seen.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.errors import check_positive
from hybrids.mixer import Mixer, PublishedSize
from hybrids.ops.attention import attention, rotate
from hybrids.ops.heads import GroupedHeads
from hybrids.registry import register


class AttentionState(NamedTuple):
    """All keys (already rotated) and values seen so far."""

    k: Float[Tensor, "B S G K"]
    v: Float[Tensor, "B S G K"]


@register("mixer", "attention", source="arXiv:1706.03762, eq. 1; RoPE arXiv:2104.09864; GQA arXiv:2305.13245")
class Attention(Mixer[AttentionState]):
    """o_t = softmax(q_t k_s^T / sqrt(K)) v_s over s <= t, then an output projection; no biases.

    State: k, v [B n G K]: 2 n G K elements in the activation dtype; grows with the context.
    Cost: per token, projections 4 D (H + G) K and attention 4 H K n; over a sequence quadratic in T.
    Source: arXiv:1706.03762, eq. 1. As in Llama, RoPE pairs the two halves of a head; `rope=false`: no positions.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 2,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: bool = True,
        rope_theta: float = 10000.0,
    ) -> None:
        super().__init__(d_model)
        check_positive("rope_theta", rope_theta)
        self.heads = GroupedHeads(d_model, num_heads, num_kv_heads, head_dim, is_rotary=rope)
        self.rope, self.rope_theta = rope, rope_theta

    def forward(
        self, x: Float[Tensor, "B T D"], state: AttentionState | None = None
    ) -> tuple[Float[Tensor, "B T D"], AttentionState]:
        q, k, v = self.heads.split(x)
        past = 0 if state is None else state.k.shape[1]
        if self.rope:
            q, k = rotate(q, k, start=past, theta=self.rope_theta)
        if state is not None and past:
            k, v = torch.cat([state.k, k], dim=1), torch.cat([state.v, v], dim=1)
        return self.heads.merge(attention(q, k, v)), AttentionState(k, v)

    def init_state(self, batch_size: int) -> AttentionState:
        return AttentionState(self.heads.empty(batch_size), self.heads.empty(batch_size))

    def state_elements(self, context: int) -> int:
        return 2 * context * self.heads.num_kv_heads * self.heads.head_dim

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "takes keys and values of width D, whatever heads there are"
        return [PublishedSize("zoology", "2 D n", 2 * self.d_model * context, difference)]

    def step_flops(self, context: int) -> int:
        return self.heads.step_flops(context + 1) + (self.heads.rotation_flops(1, 1) if self.rope else 0)
