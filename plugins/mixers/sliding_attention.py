"""Softmax attention over the last `window` tokens.

q, k, v: queries, keys, values; G: key/value heads, each shared by H / G query heads; n: tokens seen.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.errors import UserError, check_positive
from hybrids.mixer import Mixer, PublishedSize
from hybrids.ops.attention import attention, rotate
from hybrids.ops.heads import GroupedHeads
from hybrids.registry import register


class SlidingState(NamedTuple):
    """The last window - 1 keys (not rotated) and values, or all of them while there are fewer."""

    k: Float[Tensor, "B S G K"]
    v: Float[Tensor, "B S G K"]


@register("mixer", "sliding_attention", source="arXiv:2004.05150, section 3.1; arXiv:2310.06825, section 2")
class SlidingAttention(Mixer[SlidingState]):
    """o_t = softmax(q_t k_s^T / sqrt(K)) v_s over t - window < s <= t, then an output projection; no biases.

    State: k, v [B min(n, window - 1) G K] in the activation dtype: stops growing once the window is full.
    Cost: per token, projections 4 D (H + G) K and attention 4 H K min(n + 1, window).
    Source: arXiv:2004.05150; the window counts the token itself, as in Mistral and transformers.
    Keys are kept unrotated and rotated when read: rotary scores depend on distances only, so positions counted
    from the oldest key kept give the same scores, and no position has to be carried.
    """

    def __init__(
        self,
        d_model: int,
        *,
        window: int = 64,
        num_heads: int = 2,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: bool = True,
        rope_theta: float = 10000.0,
    ) -> None:
        super().__init__(d_model)
        if window < 1:
            raise UserError(f"window={window} must be at least 1 (the token itself)")
        check_positive("rope_theta", rope_theta)
        self.heads = GroupedHeads(d_model, num_heads, num_kv_heads, head_dim, is_rotary=rope)
        self.window, self.rope, self.rope_theta = window, rope, rope_theta

    def forward(
        self, x: Float[Tensor, "B T D"], state: SlidingState | None = None
    ) -> tuple[Float[Tensor, "B T D"], SlidingState]:
        q, k, v = self.heads.split(x)
        if state is not None and state.k.shape[1]:
            k, v = torch.cat([state.k, k], dim=1), torch.cat([state.v, v], dim=1)
        start = max(0, k.shape[1] - (self.window - 1))
        new_state = SlidingState(k[:, start:], v[:, start:])
        if self.rope:
            q, k = rotate(q, k, theta=self.rope_theta)
        return self.heads.merge(attention(q, k, v, window=self.window)), new_state

    def init_state(self, batch_size: int) -> SlidingState:
        return SlidingState(self.heads.empty(batch_size), self.heads.empty(batch_size))

    def state_elements(self, context: int) -> int:
        return 2 * min(context, self.window - 1) * self.heads.num_kv_heads * self.heads.head_dim

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "takes a full window from the first token on, and the token itself, which is not carried"
        return [PublishedSize("zoology", "2 D window", 2 * self.d_model * self.window, difference)]

    def step_flops(self, context: int) -> int:
        seen = min(context + 1, self.window)
        return self.heads.step_flops(seen) + (self.heads.rotation_flops(1, seen) if self.rope else 0)
