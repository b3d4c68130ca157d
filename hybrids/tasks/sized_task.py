"""Tasks whose sizes and slices are declared."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids.task import Batch, Task


class SizedTask(Task):
    """A task that is resized by its settings, most of whose slices are the same in every example.

    The constructor sets `grid`, and `varying_slices` where the task has some.
    """

    constant_slices: ClassVar[tuple[str, ...]] = ()
    """Slice keys that name an attribute, whose value all examples share."""
    varying_slices: Mapping[str, tuple[int, ...]] = {}
    """The other slice keys, with the values that can occur, ascending."""
    grid: Mapping[str, tuple[int, ...]]
    """Settings that evaluation varies beyond training, with the values of the default grid."""
    unset_by_resize: ClassVar[tuple[str, ...]] = ()
    """Settings that spread examples over several sizes: None once a size is asked for."""

    @property
    def slice_values(self) -> dict[str, tuple[int, ...]]:
        return {**{name: (getattr(self, name),) for name in self.constant_slices}, **self.varying_slices}

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        return dict(self.grid)

    def resize(self, **sizes: int) -> Task:
        return self.replace(**{**dict.fromkeys(self.unset_by_resize), **sizes})

    def solve(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        rows = zip(tokens.tolist(), positions.tolist(), strict=True)
        return torch.tensor([self.solve_row(row, places) for row, places in rows], device=tokens.device)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """`solve` for the tokens of one example, which may go on behind the places asked; or `solve` is overridden."""
        raise NotImplementedError

    def make_batch(
        self,
        tokens: Int[Tensor, "B T"],
        positions: Int[Tensor, "... P"],
        targets: Int[Tensor, "B P"],
        *,
        valid: Bool[Tensor, "B P"] | None = None,
        **varying: Int[Tensor, " B"] | Int[Tensor, "B P"],
    ) -> Batch:
        """A batch in which every answer counts that is not `valid=False`; only slices that vary have to be given."""
        constant = {name: torch.full_like(tokens[:, 0], getattr(self, name)) for name in self.constant_slices}
        valid = torch.ones_like(targets, dtype=torch.bool) if valid is None else valid
        return Batch(tokens, positions.expand_as(targets), targets, valid, {**constant, **varying})
