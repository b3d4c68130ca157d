"""Query, key and value heads: how a width divides into them, and the projections around them."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError, check_number


def split_heads(d_model: int, num_heads: int, head_dim: int | None = None) -> int:
    """Width of one head: `head_dim`, or d_model // num_heads where that is None.

    Raises UserError where a count is not positive or the heads do not divide the width.
    """
    check_counts(num_heads=num_heads)
    if head_dim is None:
        if d_model % num_heads:
            raise UserError(
                f"num_heads={num_heads} does not divide d_model={d_model}; "
                f"allowed: {_divisors(d_model)}, or any number with head_dim set"
            )
        return d_model // num_heads
    check_counts(head_dim=head_dim)
    return head_dim


def expanded_width(name: str, factor: float, width_name: str, width: int) -> int:
    """`factor` times `width`. Raises UserError, with both names, where that is no whole number of at least 1."""
    if not 0 < factor < math.inf or round(factor * width) < 1 or abs(factor * width - round(factor * width)) > 1e-6:
        raise UserError(f"{name}={factor} times {width_name}={width} must be a whole number of at least 1")
    return round(factor * width)


def repeat_heads(x: Float[Tensor, "B T G K"], num_heads: int) -> Float[Tensor, "B T H K"]:
    """Every head as often, side by side, as makes `num_heads` of them."""
    return x if x.shape[2] == num_heads else x.repeat_interleave(num_heads // x.shape[2], dim=2)


def check_counts(**counts: int) -> None:
    """Raise UserError for the first of these settings that is below 1."""
    for name, value in counts.items():
        check_number(name, value, 1)


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


class GroupedHeads(nn.Module):
    """The projections of grouped-query attention (arXiv:2305.13245): H query heads share G key/value heads.

    One matrix makes queries, keys and values, one brings the outputs back; neither has a bias.
    """

    def __init__(
        self, d_model: int, num_heads: int, num_kv_heads: int | None, head_dim: int | None, *, is_rotary: bool
    ) -> None:
        super().__init__()
        self.head_dim = split_heads(d_model, num_heads, head_dim)
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if self.num_kv_heads < 1 or num_heads % self.num_kv_heads:
            raise UserError(
                f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; allowed: {_divisors(num_heads)}"
            )
        if is_rotary and self.head_dim % 2:
            raise UserError(f"head_dim={self.head_dim} is odd; allowed: an even width, or rope=false")
        self._widths = [n * self.head_dim for n in (num_heads, self.num_kv_heads, self.num_kv_heads)]
        self.in_proj = nn.Linear(d_model, sum(self._widths), bias=False)
        self.out_proj = nn.Linear(self._widths[0], d_model, bias=False)

    def split(
        self, x: Float[Tensor, "B T D"]
    ) -> tuple[Float[Tensor, "B T H K"], Float[Tensor, "B T G K"], Float[Tensor, "B T G K"]]:
        """Queries, keys and values."""
        q, k, v = (t.unflatten(-1, (-1, self.head_dim)) for t in self.in_proj(x).split(self._widths, dim=-1))
        return q, k, v

    def merge(self, o: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T D"]:
        """Outputs of the heads, brought back to the model width."""
        return self.out_proj(o.flatten(2))

    def empty(self, batch_size: int) -> Float[Tensor, "B 0 G K"]:
        """Keys or values of no token."""
        return self.in_proj.weight.new_empty(batch_size, 0, self.num_kv_heads, self.head_dim)

    def step_flops(self, seen: int) -> int:
        """FLOPs of projecting one token and attending to `seen` keys, without rotations."""
        projections = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        # q k^T, softmax (5 a number), weights times v; and K to scale q
        attention = self.num_heads * (seen * (4 * self.head_dim + 5) + self.head_dim)
        return projections + attention

    def rotation_flops(self, num_queries: int, num_keys: int) -> int:
        """FLOPs of rotating queries and keys of so many tokens, with the tables of angles for the keys."""
        tables = 3 * (self.head_dim // 2) * (num_keys + 1)
        return tables + 3 * self.head_dim * (self.num_heads * num_queries + self.num_kv_heads * num_keys)
