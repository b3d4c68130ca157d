"""What the chunked forms of recurrences share: how a sequence is cut, and the inverse that delta rules need."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Chunks(NamedTuple):
    """How a sequence is cut: `num` chunks of `size` steps, of which the last may end in zeros.

    Chunked tensors are [X C W], X = chunk, row and head, C steps: one batched product serves all chunks, and a chunk
    comes out as a view. Where R of the H heads share queries and keys they are [R X C W], and `heads` is H / R.
    """

    batch: int
    time: int
    heads: int
    num: int
    size: int

    @classmethod
    def of(cls, x: Float[Tensor, "B T H W"], size: int) -> "Chunks":
        """Chunks of `size` steps."""
        batch, time, heads, _ = x.shape
        return cls(batch, time, heads, -(-time // size), size)

    def split(self, x: Float[Tensor, "B T H W"]) -> Float[Tensor, "X C W"]:
        return self.split_shared(x)[0]

    def join(self, x: Float[Tensor, "X C W"]) -> Float[Tensor, "B T H W"]:
        """The inverse of `split`."""
        return self.join_shared(x.unsqueeze(0))

    def split_shared(self, x: Float[Tensor, "B T H W"]) -> Float[Tensor, "R X C W"]:
        end = self.num * self.size
        if self.time != end:
            x = F.pad(x, (0, 0, 0, 0, 0, end - self.time))
        x = x.reshape(self.batch, self.num, self.size, self.heads, -1, x.shape[-1])
        return x.permute(4, 1, 0, 3, 2, 5).flatten(1, 3).contiguous()

    def join_shared(self, x: Float[Tensor, "R X C W"]) -> Float[Tensor, "B T H W"]:
        x = x.unflatten(1, (self.num, self.batch, self.heads)).permute(2, 1, 4, 3, 0, 5)
        return x.reshape(self.batch, self.num * self.size, -1, x.shape[-1])[:, : self.time]

    def split_state(self, x: Float[Tensor, "B H K V"]) -> Float[Tensor, "R Y K V"]:
        """Y = row and head."""
        return x.unflatten(1, (self.heads, -1)).permute(2, 0, 1, 3, 4).flatten(1, 2)

    def join_state(self, x: Float[Tensor, "R Y K V"]) -> Float[Tensor, "B H K V"]:
        return x.unflatten(1, (self.batch, self.heads)).permute(1, 2, 0, 3, 4).flatten(1, 2).contiguous()

    def rows(self, x: Tensor, axis: int = 0) -> Tensor:
        """Chunked tensors, X at `axis`, with row and head as their first axis and the chunks where X was. A view."""
        return x.unflatten(axis, (self.num, -1)).movedim(axis + 1, 0)

    @staticmethod
    def from_rows(x: Tensor, axis: int = 0) -> Tensor:
        """The inverse of `rows`, and a view of what that gives."""
        return x.movedim(0, axis + 1).flatten(axis, axis + 1)

    def unbind(self, x: Float[Tensor, "X *D"]) -> tuple[Float[Tensor, "Y *D"], ...]:
        """The chunks."""
        return x.unflatten(0, (self.num, -1)).unbind()


def inverse_of_one_plus(a: Float[Tensor, "X C C"]) -> Float[Tensor, "X C C"]:
    """(I + A)^-1 of the part of A below the diagonal."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
    return torch.linalg.solve_triangular(a, identity, upper=False, unitriangular=True)
