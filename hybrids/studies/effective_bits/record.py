"""The file of effective bits in the folder of a run, written and read."""

from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from hybrids.errors import UserError, printable
from hybrids.studies.effective_bits.rounded import Rounded
from hybrids.studies.validation import explain_refusal
from hybrids.training.files import to_csv, write_file
from hybrids.training.identity import DIGITS, digest_of
from hybrids.training.read import read_rows
from hybrids.training.record import RunFolder
from hybrids.triangle.intervals import Estimate
from hybrids.triangle.recall import EffectiveBits, Recall

FILE = Path("eval", "effective_bits.csv")
"""In the folder of a run."""


@with_config(ConfigDict(extra="forbid"))
class Line(TypedDict):
    """A line of the file: the first is the state as stored, each further one a rounded state."""

    state: str
    bits_per_element: Annotated[float, Field(gt=0, le=64)]
    total_bits: PositiveInt
    recalled_bits: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    recalled_low: FiniteFloat
    recalled_high: FiniteFloat
    surely: FiniteFloat
    error: Annotated[float, Field(ge=0, le=1)]
    share_kept: str  # this and the next follow from the others
    utilisation: str
    offered_bits: FiniteFloat
    state_elements: PositiveInt
    context: PositiveInt
    num_examples: PositiveInt
    num_levels: NonNegativeInt
    run: NotRequired[str]  # digest of its identity; files of version 0.1 lack it
    method: NotRequired[PositiveInt]  # of rounding; lines without it are of the first


_LINES = TypeAdapter(list[Line])


def write_rounded(rounded: Rounded, path: Path) -> None:
    """One CSV row for the state as stored and for every rounded one."""
    stored, lines, run = rounded.stored, [], _digest(path.parents[1])
    sizes = (stored.offered, stored.state_elements, rounded.context, rounded.num_examples, len(rounded.curve))
    for name, bits, total, found in rounded.states:
        numbers = (bits, total, found.bits, found.low, found.high, found.surely, found.error)
        lines.append([name, *numbers, rounded.share_kept(found), found.bits / total, *sizes, run, rounded.method])
    write_file(path, to_csv(tuple(Line.__annotations__), lines))


def read_rounded(run: Path) -> Rounded | None:
    """What was measured on the run in this folder, None where nothing was; UserError for a damaged file."""
    path = run / FILE
    if not path.exists():
        return None
    try:
        return _read(path)
    except ValidationError as error:
        raise UserError(f"{FILE} is damaged: {explain_refusal(error)}; hybrids bits measures it again") from None
    except UserError as error:
        raise UserError(f"{FILE} is damaged: {error}; hybrids bits measures it again") from None


def _digest(run: Path) -> str:
    """Digest of the identity of the finished run in a folder; empty where there is none."""
    result = RunFolder(run).read_result() or {}
    return digest_of(result["identity"])[:DIGITS] if "identity" in result else ""


def _read(path: Path) -> Rounded:
    lines = _LINES.validate_python(read_rows(path))
    if not lines:
        raise UserError("it has no rows")
    first, *others = lines
    run = first.get("run")
    if run is not None and run != _digest(path.parents[1]):
        raise UserError(f"it was measured on another run, of digest {printable(run, 20)}")
    if len(others) != first["num_levels"]:
        raise UserError(f"it has {len(others)} of {first['num_levels']} rounded states")
    stored = Recall(_estimate(first), first["offered_bits"], first["total_bits"], first["state_elements"])
    curve = [EffectiveBits(int(line["bits_per_element"]), line["total_bits"], _estimate(line)) for line in others]
    return Rounded(stored, tuple(curve), first["context"], first["num_examples"], first.get("method", 1))


def _estimate(line: Line) -> Estimate:
    return Estimate(line["recalled_bits"], line["recalled_low"], line["recalled_high"], line["error"], line["surely"])
