"""Based: linear attention with the second-order Taylor series of the exponential as its kernel.

    weight of s for t: 1 + z + z^2 / 2,  z = q_t . k_s / sqrt(K)        always at least 1/2
    o_t = sum_{s <= t} weight v_s / sum_{s <= t} weight

The kernel is a product of features: the monomials of degree at most 2 of the K numbers of a head, E of them.
"""

from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybrids.mixer import Mixer, PublishedSize
from hybrids.ops.derivatives import Function
from hybrids.ops.heads import check_counts, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.precision import at_least_float32, wide_zeros
from hybrids.registry import register


class BasedState(NamedTuple):
    """Sum of features times value and, as the last column, of features; in float32 or wider."""

    memory: Float[Tensor, "B H E V+1"]


@register("mixer", "based", source="arXiv:2402.18668, eq. 3-5")
class Based(Mixer[BasedState]):
    """Taylor-series linear attention with its normaliser.

    State: memory [B, H, E, V + 1] in float32 (float64 in a float64 model), E = (K + 1)(K + 2) / 2 distinct monomials:
    153 for K = 16. This is the size that zoology's formula gives, H V E + H E. The authors' code keeps x_i x_j and
    x_j x_i apart, 1 + K + K^2 = 273 features; the kernel is the same, and what is carried twice recalls nothing more.
    Cost: besides the projections O(T H E (V + chunk_size)) a sequence, O(H E V) a step.
    Source: arXiv:2402.18668, section 4.1; K = 16 as in the paper. No biases.
    Differs: 4 heads instead of 16, for narrow models; the paper's sliding-window layers are letters of the pattern,
    and its short convolutions another mixer.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        head_dim: int | None = None,
        feature_dim: int = 16,
        chunk_size: int = 64,
        backend: str | None = None,
    ) -> None:
        """`head_dim` is V, by default d_model / num_heads; `feature_dim` is K."""
        super().__init__(d_model, backend)
        check_counts(feature_dim=feature_dim, chunk_size=chunk_size)
        self.head_dim = split_heads(d_model, num_heads, head_dim)
        self.num_heads, self.feature_dim, self.chunk_size = num_heads, feature_dim, chunk_size
        self.widths = (num_heads * feature_dim, num_heads * feature_dim, num_heads * self.head_dim)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.out_proj = nn.Linear(num_heads * self.head_dim, d_model, bias=False)

    @property
    def num_features(self) -> int:
        """E, the distinct monomials of degree at most 2."""
        return (self.feature_dim + 1) * (self.feature_dim + 2) // 2

    def forward(
        self, x: Float[Tensor, "B T D"], state: BasedState | None = None
    ) -> tuple[Float[Tensor, "B T D"], BasedState]:
        projected = self.in_proj(x)
        wide = at_least_float32(projected)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in wide.split(self.widths, dim=-1))
        q, k = _monomials(q * self.feature_dim**-0.5), _monomials(k) * self._weights(k)
        v = F.pad(v, (0, 1), value=1.0)
        memory = None if state is None else state.memory
        backend = self.backend_of("linear_attention")
        o, memory = linear_attention(
            q, k, v, memory, chunk_size=self.chunk_size, scale=1.0, backend=backend, kernel_dtype=projected.dtype
        )
        o = (o[..., :-1] / o[..., -1:]).flatten(2)
        return self.out_proj(o.to(projected.dtype)), BasedState(memory)

    def init_state(self, batch_size: int) -> BasedState:
        shape = (self.num_heads, self.num_features, self.head_dim + 1)
        return BasedState(wide_zeros(self.in_proj.weight, batch_size, *shape))

    def demands(self) -> list[Demand]:
        return [Demand(op="linear_attention", d_key=self.num_features, d_value=self.head_dim + 1, gate="none")]

    def state_elements(self, context: int) -> int:
        return self.num_heads * self.num_features * (self.head_dim + 1)

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "takes E = f (f + 1) / 2 + f + 1"
        elements = self.num_heads * self.num_features * (self.head_dim + 1)
        return [PublishedSize("zoology", "H E (V + 1)", elements, difference)]

    def step_flops(self, context: int) -> int:
        projections = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        features = self.num_heads * (3 * self.num_features + self.feature_dim)
        matrices = 4 * self.num_heads * self.num_features * (self.head_dim + 1)
        return projections + features + matrices + self.num_heads * self.head_dim

    def _weights(self, like: Tensor) -> Float[Tensor, " E"]:
        """1/2 for the squares, which (sum_i q_i k_i)^2 / 2 has once; products of two features it has twice."""
        first, second = torch.triu_indices(self.feature_dim + 1, self.feature_dim + 1, device=like.device)
        return torch.ones_like(first, dtype=like.dtype).masked_fill((first == second) & (first > 0), 0.5)


def _monomials(x: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T H E"]:
    """1, x_i and x_i x_j for i <= j: the products of two of 1, x_1, ... x_K."""
    return _PairProducts.call(F.pad(x, (1, 0), value=1.0))  # type: ignore[return-value]


@no_type_check  # at run time: torch.compile does not trace around the checks of tests
class _PairProducts(Function):
    """x_i x_j for i <= j. Backward through slices, or an index, takes three times as long as these products."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.cat([x[..., i : i + 1] * x[..., i:] for i in range(x.shape[-1])], dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        first, second = (
            F.one_hot(index, x.shape[-1]).to(x.dtype)
            for index in torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
        )
        return (grads[0] * (x @ second.mT)) @ first + (grads[0] * (x @ first.mT)) @ second
