"""(B, k)-sparse attention: past blocks in one compressed token each, the best k of them in full.

q, k, v: queries, keys, values; G: key/value heads, each shared by H / G query heads; n: tokens seen;
C: tokens of a block (B in the paper); J: blocks read in full (k in the paper); M = n // C: complete blocks.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import check_positive
from hybrids.mixer import Mixer, PublishedSize, undecayed
from hybrids.ops.attention import rotate
from hybrids.ops.block_sparse_attention import block_sparse_attention, compress
from hybrids.ops.heads import GroupedHeads, check_counts
from hybrids.registry import register


class BlockSparseState(NamedTuple):
    """All keys (already rotated) and values seen so far, and one compressed of each for every complete block."""

    k: Float[Tensor, "B S G K"]
    v: Float[Tensor, "B S G K"]
    compressed_k: Float[Tensor, "B M G K"]
    compressed_v: Float[Tensor, "B M G K"]


@register("mixer", "block_sparse_attention", source="arXiv:2602.01763, definition 2.4; arXiv:2502.11089, section 3")
class BlockSparseAttention(Mixer[BlockSparseState]):
    """o_t = g_t selected_t + (1 - g_t) compressed_t, g = sigmoid(x W + b) per head; then an output projection.

    compressed: softmax attention over one token for each complete block before the own; selected: over the own block
    up to the token and the J past blocks with the largest compressed weights, in full.
    State: k, v [B n G K] and of every complete block compressed_k, compressed_v [B n // C G K]:
    2 (n + n // C) G K elements in the activation dtype; grows with the context.
    Cost: per token, projections 4 D (H + G) K, compressed attention 4 H K n / C and selected at most
    4 H K (J + 1) C; grows with n all the same, C times slower than full attention. Sequences are computed with masks
    in time and memory H T^2: meant for T up to about 1024.
    Source: arXiv:2602.01763, definition 2.4 (any map to compress, convex combination); scores and the choice as in
    arXiv:2502.11089, of which this has no sliding window and one set of keys and values for both parts.
    The map is a learned sum over the positions of a block, at first the mean. Keys are compressed with their
    rotary positions, as in flash-linear-attention's layer. The choice itself has no gradient.
    """

    def __init__(
        self,
        d_model: int,
        *,
        block_size: int = 4,
        num_selected: int = 4,
        num_heads: int = 2,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: bool = True,
        rope_theta: float = 10000.0,
    ) -> None:
        super().__init__(d_model)
        check_counts(block_size=block_size, num_selected=num_selected)
        check_positive("rope_theta", rope_theta)
        self.heads = GroupedHeads(d_model, num_heads, num_kv_heads, head_dim, is_rotary=rope)
        self.block_size, self.num_selected, self.rope, self.rope_theta = block_size, num_selected, rope, rope_theta
        self.gate = nn.Linear(d_model, num_heads)
        shape = (block_size, self.heads.num_kv_heads, self.heads.head_dim)
        self.compress_k = undecayed(nn.Parameter(torch.full(shape, 1 / block_size)))
        self.compress_v = undecayed(nn.Parameter(torch.full(shape, 1 / block_size)))

    def forward(
        self, x: Float[Tensor, "B T D"], state: BlockSparseState | None = None
    ) -> tuple[Float[Tensor, "B T D"], BlockSparseState]:
        q, k, v = self.heads.split(x)
        past = 0 if state is None else state.k.shape[1]
        if self.rope:
            q, k = rotate(q, k, start=past, theta=self.rope_theta)
        if state is not None and past:
            k, v = torch.cat([state.k, k], dim=1), torch.cat([state.v, v], dim=1)
        done = 0 if state is None else state.compressed_k.shape[1] * self.block_size
        compressed_k, compressed_v = compress(k[:, done:], self.compress_k), compress(v[:, done:], self.compress_v)
        if state is not None and done:
            compressed_k = torch.cat([state.compressed_k, compressed_k], dim=1)
            compressed_v = torch.cat([state.compressed_v, compressed_v], dim=1)
        new_state = BlockSparseState(k, v, compressed_k, compressed_v)
        sizes = {"block_size": self.block_size, "num_selected": self.num_selected}
        o = block_sparse_attention(q, *new_state, self.gate(x).sigmoid(), **sizes)
        return self.heads.merge(o), new_state

    @property
    def period(self) -> int:
        return self.block_size

    def init_state(self, batch_size: int) -> BlockSparseState:
        return BlockSparseState(*(self.heads.empty(batch_size) for _ in range(4)))

    def state_elements(self, context: int) -> int:
        return 2 * (context + context // self.block_size) * self.heads.num_kv_heads * self.heads.head_dim

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "leaves out all keys and values, from which blocks are selected"
        elements = 2 * self.d_model * (context // self.block_size + self.block_size * self.num_selected)
        return [PublishedSize("zoology", "2 D (n / block + block blocks)", elements, difference)]

    def step_flops(self, context: int) -> int:
        heads, blocks = self.heads, context // self.block_size
        in_full = min(blocks, self.num_selected) * self.block_size + context % self.block_size + 1
        flops = heads.step_flops(in_full) + (heads.rotation_flops(1, 1) if self.rope else 0)
        flops += heads.num_heads * (2 * self.d_model + 2)  # gate
        if (context + 1) % self.block_size == 0:
            flops += 2 * 2 * self.compress_k.numel()
        if blocks:
            flops += heads.num_heads * ((4 * heads.head_dim + 6) * blocks + 2 * heads.head_dim)
        return flops
