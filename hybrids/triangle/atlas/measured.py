"""The formulas held against this project's own layers: elements of real states, operations of real steps.

An architecture whose parts all have a plugin is built at the small sizes of the table, each of its different layers
once (its formulas are sums over layers), and measured as any backbone is. Norms and residuals are in the measurement
and not in the formula, rotations in neither.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_type_hints

import torch

from hybrids.model.backbone import Backbone
from hybrids.model.block import Choice, Letter
from hybrids.model.measure import measure_step
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.triangle.atlas.table import Architecture, Part, Values, n, read_formula, sizes

CONTEXTS = (64, 128, 256)


class Comparison(NamedTuple):
    """Formula and measurement at one context, each layer of an architecture once."""

    name: str
    context: int
    state_formula: float
    state_elements: int
    step_formula: float
    step_flops: int

    @property
    def state_ratio(self) -> float:
        return self.state_elements / self.state_formula

    @property
    def step_ratio(self) -> float:
        return self.step_flops / self.step_formula


def compare(architecture: Architecture, contexts: Sequence[int] = CONTEXTS) -> list[Comparison]:
    """Formula and measurement at each context; ValueError for an architecture that cannot be built."""
    if not architecture.is_runnable:
        raise ValueError(f"{architecture.name} cannot be measured: this project lacks {architecture.missing}")
    backbone = build(architecture)
    found = []
    for context in contexts:
        cost = measure_step(backbone, backbone.d_model, context)
        state, step = (_formula(architecture, quantity, context) for quantity in ("state", "step"))
        found.append(Comparison(architecture.name, context, state, cost.state_elements, step, cost.flops))
    return found


def build(architecture: Architecture) -> Backbone:
    """Every different layer of an architecture once, at the small sizes; always the same weights."""
    letters = {letter: _letter(architecture, letter) for letter in architecture.letters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone(sizes()["D"]["small"], Pattern(tuple(architecture.counts)), letters).eval()


def _formula(architecture: Architecture, quantity: str, context: int) -> float:
    return sum(
        float(getattr(part, quantity).subs(_small(architecture, letter, part)).subs(n, context))
        for layer in architecture.counts
        for letter, part in architecture.parts_of(layer)
    )


def _small(architecture: Architecture, letter: str, part: Part) -> Values:
    return part.values(architecture.sizes.get(letter, {}), small=True)


def _letter(architecture: Architecture, letter: str) -> Letter:
    choices: dict[str, Choice[Any]] = {}
    for part in architecture.letters[letter]:
        kind, name = ("channel", part.channel) if part.is_channel else ("mixer", part.mixer)
        if name is not None:
            choices[kind] = _choice(kind, name, part, _small(architecture, letter, part))
    return Letter(choices.get("mixer"), choices.get("channel"))


def _choice(kind: str, name: str, part: Part, values: Values) -> Choice[Any]:
    cls = get(kind, name).cls
    hints = get_type_hints(cls.__init__)
    return Choice(cls, {key: _setting(given, values, hints[key]) for key, given in part.settings.items()})


def _setting(given: Any, values: Values, hint: Any) -> Any:
    if not isinstance(given, str):
        return given
    value = read_formula(given).subs(values)
    assert hint is float or value.is_integer, f"{given} is {value} at the small sizes"
    return float(value) if hint is float else int(value)
