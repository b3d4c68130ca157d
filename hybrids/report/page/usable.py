"""Of the record of a run, what a report needs, and the values that can be: a result beyond them is named, not shown."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from hybrids.errors import UserError, printable
from hybrids.studies.validation import explain_refusal

_Share = Annotated[float, Field(ge=0, le=1)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Slope = Annotated[float, Field(ge=-1, le=1)]
"""1 - log2 of what twice the context multiplies: -1 for a cost that grows with its square, 1 for one that does not."""

_MOST_LETTERS = 10_000
"""Of a text in a result; that of a pattern with the most layers allowed."""


class Named(TypedDict):
    """A choice in the identity of a run."""

    name: str


class Bound(TypedDict):
    """What a letter binds."""

    mixer: NotRequired[Named | None]
    channel: NotRequired[Named | None]


class Optim(TypedDict):
    lr: NotRequired[_Rate | None]


class Identity(TypedDict):
    """Of the identity of a run, what a report needs."""

    pattern: str
    letters: dict[str, Bound]
    task: Named
    optim: Optim
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Parameters(TypedDict):
    total: NonNegativeInt
    backbone: NonNegativeInt


class Scores(TypedDict):
    accuracy: _Share | None  # null: no number, after divergence


class UsablePlace(TypedDict):
    """Of `Place`, what a report needs."""

    context: PositiveInt
    state_bits: NonNegativeInt
    step_flops: NonNegativeInt
    step_bytes: NonNegativeInt
    efficiency: _Slope
    compactness: _Slope
    recall: Annotated[float, Field(ge=0, le=1 + 1e-6)] | None  # a quotient of rounded numbers
    offered_bits: NonNegativeFloat | None
    recalled_bits: NonNegativeFloat | None
    recalled_low: NonNegativeFloat | None
    recalled_high: NonNegativeFloat | None
    surely: NonNegativeFloat | None
    facts_state_bits: NonNegativeInt | None
    utilisation: NonNegativeFloat | None
    law_broken: bool


class Needed(TypedDict):
    """Of `Result`, what a report needs; a result in which one of these is missing or wrong is not shown."""

    identity: Identity
    code: dict[str, Any]
    hardware: dict[str, Any]
    backend: dict[str, str]
    parameters: Parameters
    context: PositiveInt
    state_bits: NonNegativeInt
    step_flops: NonNegativeInt
    step_bytes: NonNegativeInt
    steps: NonNegativeInt
    seconds: NonNegativeFloat
    stopped: str
    chance_accuracy: _Share
    val: Scores
    test: Scores
    triangle: NotRequired[list[UsablePlace] | None]


_NEEDED = TypeAdapter(Needed)


def check_usable(result: Mapping[str, Any]) -> None:
    """UserError with the first field of a result that is missing, of another type, or beyond what can be."""
    try:
        _NEEDED.validate_python(result, strict=True)
    except ValidationError as error:
        raise UserError(explain_refusal(error)) from None
    _check_texts(result, "")
    for split in ("val", "test"):
        for name, score in result[split].items():
            if name.partition("/")[0] in ("accuracy", "exact_match"):
                _check_score(f"{split}.{name}", score)


def _check_score(field: str, score: object) -> None:
    """Of all examples, or of a slice, as in test.accuracy/<slice>=8."""
    _, slices, size = field.partition("=")
    if slices and not re.fullmatch(r"-?[0-9]{1,18}", size):
        raise UserError(f"{field} is no score of a slice: {size} is no whole number")
    if score is not None and not (isinstance(score, int | float) and 0 <= score <= 1):
        raise UserError(f"{field} is {printable(str(score))}: it should be from 0 to 1, or null")


def _check_texts(value: object, place: str) -> None:
    """UserError for a text that one line cannot show."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_texts(str(key), f"a name in {place or 'it'}")
            _check_texts(item, f"{place}.{key}".removeprefix("."))
    elif isinstance(value, str) and not (value.isprintable() and len(value) <= _MOST_LETTERS):
        why = "it cannot be shown" if len(value) <= _MOST_LETTERS else f"it has more than {_MOST_LETTERS:,} letters"
        raise UserError(f"{place} is '{printable(value)}': {why}")
