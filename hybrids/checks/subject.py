"""What a check is given, and how two outputs are compared."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.errors import UserError

TOLERANCE = 1e-5
"""Of the largest output, in float64: wide enough for a plugin that computes in float32 inside."""


@dataclass(frozen=True)
class Subject:
    """A plugin class with the settings to check it at; `d_model` plays no part for a task."""

    cls: type[Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    d_model: int = 64

    def module(self, *, seed: int = 0, dtype: torch.dtype = torch.float64, d_model: int | None = None) -> Any:
        """A new mixer or channel mixer, initialised from `seed`; global random numbers are left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.cls(self.d_model if d_model is None else d_model, **self.settings).to(dtype)

    def task(self) -> Any:
        """A new task."""
        return self.cls(**self.settings)

    def inputs(
        self, batch_size: int, length: int, *, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "B T D"]:
        """Standard normal inputs, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch_size, length, self.d_model)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


Check: TypeAlias = Callable[[Subject], None]
"""Raises AssertionError with a message that says what the plugin does wrong; its name is the check's name."""


@contextmanager
def no_error(claim: str) -> Iterator[None]:
    """Whatever the plugin raises inside is a finding, told after `claim`."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{claim}: {error!r}") from error


def resized(task: Any) -> Iterator[tuple[str, int, Any]]:
    """Every value of the task's `sizes` that it can take alone: name, value and the task of that size."""
    for name, values in task.sizes.items():
        for value in values:
            try:
                other = task.resize(**{name: value})
            except UserError:  # a size that needs another one to change along with it
                continue
            except ValueError as error:
                refused = f"resize({name}={value}) raises {error!r}"
                raise AssertionError(f"{refused}; sizes that do not fit together are a UserError") from error
            yield name, value, other


def output(module: Any, x: Float[Tensor, "B T D"]) -> Tensor:
    """What a mixer or a channel mixer gives for `x` from the start of a sequence; its shape is not assured."""
    result = module(x)
    return result[0] if isinstance(result, tuple) else result


def assert_same(actual: Tensor, expected: Tensor, claim: str, *, tolerance: float = TOLERANCE) -> None:
    """Equal up to `tolerance` times the largest expected number, else an error that starts with `claim`."""
    assert actual.shape == expected.shape, f"{claim}: shapes {list(actual.shape)}, {list(expected.shape)} differ"
    allowed = tolerance * expected.abs().max().item()
    difference = (actual - expected).abs().max().item()
    assert difference <= allowed, f"{claim}: they differ by {difference:.3g}, allowed is {allowed:.3g}"
