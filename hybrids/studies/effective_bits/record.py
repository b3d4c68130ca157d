"""The file of effective bits in the folder of a run, written and read."""

import csv
import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from hybrids.errors import UserError
from hybrids.studies.effective_bits.measure import Rounded
from hybrids.training.files import write_file
from hybrids.triangle.intervals import Estimate
from hybrids.triangle.recall import EffectiveBits, Recall

FILE = Path("eval", "effective_bits.csv")
"""In the folder of a run."""

_NUMBERS = ("bits_per_element", "total_bits", "recalled_bits", "recalled_low", "recalled_high", "surely", "error")
_DERIVED = ("share_kept", "utilisation")
_SHARED = ("offered_bits", "state_elements", "context", "num_examples", "num_levels")
COLUMNS = ("state", *_NUMBERS, *_DERIVED, *_SHARED)
"""Of the file; the first row is the state as stored, each further one a rounded state."""


def write_rounded(rounded: Rounded, path: Path) -> None:
    """One CSV row for the state as stored and for every rounded one."""
    text = StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    stored = rounded.stored
    shared = (stored.offered, stored.state_elements, rounded.context, rounded.num_examples, len(rounded.curve))
    for name, bits, total, found in rounded.states:
        numbers = (bits, total, found.bits, found.low, found.high, found.surely, found.error)
        rows.writerow([name, *numbers, rounded.share_kept(found), found.bits / total, *shared])
    write_file(path, text.getvalue())


def read_rounded(run: Path) -> Rounded | None:
    """What was measured on the run in this folder, None where nothing was; UserError for a damaged file."""
    path = run / FILE
    if not path.exists():
        return None
    try:
        return _read(path.read_text())
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{FILE} is damaged: {error}; hybrids bits measures it again") from None


def _read(text: str) -> Rounded:
    if not text.endswith("\n"):
        raise UserError("it is cut in its last line")
    rows = [_numbers(row) for row in csv.DictReader(StringIO(text))]
    if not rows:
        raise UserError("it has no rows")
    first, *others = rows
    if len(others) != first["num_levels"]:
        raise UserError(f"it has {len(others)} of {first['num_levels']:g} rounded states")
    elements = int(first["state_elements"])
    stored = Recall(_estimate(first), first["offered_bits"], int(first["total_bits"]), elements)
    curve = [EffectiveBits(int(row["bits_per_element"]), int(row["total_bits"]), _estimate(row)) for row in others]
    return Rounded(stored, tuple(curve), int(first["context"]), int(first["num_examples"]))


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    """The numbers of a row that others do not follow from; UserError where one is missing or is none."""
    if set(row) != set(COLUMNS):
        raise UserError(f"its columns are not {', '.join(COLUMNS)}")
    if None in row.values():
        raise UserError("it is cut inside a row")
    numbers = {name: float(row[name]) for name in (*_NUMBERS, *_SHARED)}
    if not all(map(math.isfinite, numbers.values())) or min(numbers["total_bits"], numbers["state_elements"]) <= 0:
        raise UserError("it holds numbers that cannot be")
    return numbers


def _estimate(row: Mapping[str, float]) -> Estimate:
    return Estimate(row["recalled_bits"], row["recalled_low"], row["recalled_high"], row["error"], row["surely"])
