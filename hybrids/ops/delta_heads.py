"""What layers around a delta rule share: heads behind a short convolution, with keys of length 1, and their state."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.ops.heads import check_counts, expanded_width, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32, wide_zeros
from hybrids.ops.short_conv import initial_filters, short_conv


class DeltaState(NamedTuple):
    """The inputs that the convolutions still need (of q, k and v side by side), and the matrices."""

    tail: Float[Tensor, "B W-1 2*H*K+H*V"]
    """In the dtype of the activations."""
    matrix: Float[Tensor, "B H K V"]
    """In float32 or wider."""


@dataclass(frozen=True)
class DeltaHeads:
    """Sizes of H heads with keys of width K and values of width V, and what follows from them.

    q, k and v of all heads, in this order, are F = H (2 K + V) features: a projection made them, and a convolution of
    `conv_size` taps is next.
    """

    num_heads: int
    d_key: int
    d_value: int
    conv_size: int

    @classmethod
    def fitting(
        cls, d_model: int, num_heads: int, head_dim: int | None, *, expand_v: float, conv_size: int
    ) -> "DeltaHeads":
        """K = `head_dim`, by default d_model / num_heads; V = expand_v K. UserError for sizes that cannot be."""
        check_counts(conv_size=conv_size)
        d_key = split_heads(d_model, num_heads, head_dim)
        return cls(num_heads, d_key, expanded_width("expand_v", expand_v, "head_dim", d_key), conv_size)

    @property
    def d_keys(self) -> int:
        """H K."""
        return self.num_heads * self.d_key

    @property
    def d_values(self) -> int:
        """H V."""
        return self.num_heads * self.d_value

    @property
    def d_conv(self) -> int:
        """F."""
        return 2 * self.d_keys + self.d_values

    @property
    def matrix_elements(self) -> int:
        """H K V."""
        return self.d_keys * self.d_value

    @property
    def state_elements(self) -> int:
        """Elements of a `DeltaState` of one sequence."""
        return (self.conv_size - 1) * self.d_conv + self.matrix_elements

    @property
    def step_flops(self) -> int:
        """Operations of `convolve` on one token of one sequence."""
        return (2 * self.conv_size + 1) * self.d_conv + 2 * self.num_heads * (3 * self.d_key + 2)

    def initial_filters(self) -> nn.Parameter:
        """Filters of the convolution, as PyTorch's start."""
        return nn.Parameter(initial_filters(self.d_conv, self.conv_size))

    def convolve(
        self,
        qkv: Float[Tensor, "B T F"],
        weight: Float[Tensor, "F W"],
        tail: Float[Tensor, "B W-1 F"] | None,
        *,
        backend: str,
    ) -> tuple[Float[Tensor, "B T H K"], Float[Tensor, "B T H K"], Float[Tensor, "B T H V"], Float[Tensor, "B W-1 F"]]:
        """Queries and keys of unit length, values, and the new tail.

        All go through a short convolution, on `backend`, and silu; heads are in float32 or wider, the tail has the
        dtype of `qkv`.
        """
        convolved, tail = short_conv(qkv, weight, state=tail, activation="silu", backend=backend)
        both, v = at_least_float32(convolved).split((2 * self.d_keys, self.d_values), dim=-1)
        q, k = _unit(both.unflatten(-1, (2 * self.num_heads, self.d_key))).chunk(2, dim=2)
        return q, k, v.unflatten(-1, (self.num_heads, -1)), tail

    def empty_state(self, batch_size: int, like: Tensor) -> DeltaState:
        """The state at the start of a sequence; `like` is a parameter of the layer."""
        tail = like.new_zeros(batch_size, self.conv_size - 1, self.d_conv)
        return DeltaState(tail, wide_zeros(like, batch_size, self.num_heads, self.d_key, self.d_value))

    def demands(self, gate: str) -> list[Demand]:
        """What a delta rule with this gate and the convolution are asked for."""
        return [
            Demand(op="delta_rule", d_key=self.d_key, d_value=self.d_value, gate=gate),
            Demand(op="short_conv", d_conv=self.d_conv, conv_size=self.conv_size),
        ]


def replaced_share(b: Float[Tensor, "B T H"], *, allow_negative_eigenvalues: bool) -> Float[Tensor, "B T H"]:
    """beta, how much of the old value a step replaces: in (0, 1), or in (0, 2); in float32 or wider.

    Above 1 the eigenvalue of a key is negative, which lets a state track parity (arXiv:2411.12537).
    """
    beta = at_least_float32(b).sigmoid()
    return 2 * beta if allow_negative_eigenvalues else beta


def _unit(x: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
    """Of length 1; 0 where `x` is nearly 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
