"""The atlas of architectures as a table, as text on one of them, as records, and as a page."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrids.errors import UserError, check_number, suggest
from hybrids.training import files
from hybrids.triangle.atlas import FAMILIES
from hybrids.triangle.atlas.derive import Properties, coordinates, derive
from hybrids.triangle.atlas.table import QUANTITIES, Architecture, architectures, sizes

if TYPE_CHECKING:
    from hybrids.triangle.atlas.measured import Comparison

COLUMNS = ("name", "class", "source", "confirmed", "layers", "step", "state", "reach", "E", "C", "measured", "arch=")

EXPLANATION = (
    "class: what the formulas allow as n grows. E: a step costs a bounded number of operations. C: the state is "
    "bounded. R: what a query can reach grows in proportion to n. Lower case: up to logarithms. -: none. "
    "step, state, reach: what each tends to, in FLOPs and elements, of one layer of a uniform stack or of all layers "
    "of a hybrid; a smaller number before n is a lower slope, not another class. E, C: 1 - log2 of the growth from n "
    "to 2n. measured: elements of real states and operations of real steps over the formulas', for rows that this "
    "project runs. confirmed: the repository or site where the source was read and, after the slash, the layers. "
    "arch=: the preset, scaled down."
)


@dataclass(frozen=True)
class AtlasRow:
    """An architecture with what its formulas imply, and what was measured of it."""

    architecture: Architecture
    properties: Properties
    context: int
    comparisons: "tuple[Comparison, ...]"

    @cached_property
    def coordinates(self) -> tuple[float, float]:
        """Efficiency and Compactness at the context."""
        return coordinates(self.architecture, self.context)

    @property
    def measured(self) -> str:
        """Measured over formula: of the state, and of the step at the context where it is farthest from 1."""
        if not self.comparisons:
            return ""
        ratios = zip(*((c.state_ratio, c.step_ratio) for c in self.comparisons), strict=True)
        state, step = (max(ratio, key=lambda value: abs(value - 1)) for ratio in ratios)
        return f"s {state:.4g}, f {step:.3f}"


def select(names: Sequence[str] = (), label: str = "", family: str = "") -> list[Architecture]:
    """Architectures by name or part of a name or title, by the properties that hold and by family."""
    found = [one for one in architectures().values() if not family or one.family == family]
    for text in names:
        if not any(_is_named(one, text) for one in architectures().values()):
            raise UserError(f"no architecture is named {text!r}; {suggest(text, architectures())}")
    if names:
        exact = [one for one in found if one.name in names]
        found = exact or [one for one in found if any(_is_named(one, text) for text in names)]
    if label:
        wanted = "-" if label in ("-", "none") else "".join(sorted(label.upper()))
        if wanted != "-" and (set(wanted) - set("ECR") or len(set(wanted)) < len(wanted)):
            raise UserError(f"class {label!r}: allowed are letters of E, C and R such as EC, R, or none")
        found = [one for one in found if "".join(sorted(derive(one).label.upper())) == wanted]
    return found


def _is_named(one: Architecture, text: str) -> bool:
    return text.lower() in one.name or text.lower() in one.title.lower()


def make_rows(found: Sequence[Architecture], context: int, *, is_measured: bool = True) -> list[AtlasRow]:
    """Derive every one of them, and measure those that this project can run, if asked for."""
    check_number("context", context, 1)
    if not is_measured:
        return [AtlasRow(one, derive(one), context, ()) for one in found]
    from hybrids.triangle.atlas.measured import compare  # and with it torch

    return [AtlasRow(one, derive(one), context, tuple(compare(one)) if one.is_runnable else ()) for one in found]


def table_rows(rows: Sequence[AtlasRow]) -> list[list[str]]:
    """Rows under `COLUMNS`."""
    shown = []
    for row in rows:
        one = row.architecture
        placed = [f"{value:.3f}" for value in row.coordinates]
        kinds = {letter: " ".join(part.name for part in parts) for letter, parts in one.letters.items()}
        layers = next(iter(kinds.values())) if len(kinds) == 1 else one.pattern.compact()
        spelt = [prop.spelt for prop in row.properties.by_letter.values()]
        read = [text for text in (one.confirmed, one.confirmed_layers) if text]  # a site, or <owner>/<name>: <path>
        confirmed = " / ".join(urlsplit(text).netloc or text.partition(":")[0].rpartition("/")[2] for text in read)
        known = [one.name, row.properties.label, one.source, confirmed, layers]
        shown.append([*known, *spelt, *placed, row.measured, one.preset or ""])
    return shown


def describe(row: AtlasRow) -> list[tuple[str, str]]:
    """All that is known of one architecture."""
    one = row.architecture
    efficiency, compactness = row.coordinates
    values = ", ".join(f"{symbol}={value}" for symbol, value in sorted(one.values.items(), key=lambda x: str(x[0])))
    lines = [("published", f"{one.published}, {one.source}"), ("read in", one.confirmed or _UNREAD)]
    lines += [("layers", one.pattern.compact()), ("layers read in", one.confirmed_layers or _UNREAD)]
    for letter, parts in one.letters.items():
        titles = [f"{part.title} ({part.note})" if part.note else part.title for part in parts]
        lines.append((f"  {letter}", ", ".join(titles)))
    lines += [("s(n)", one.spell("state")), ("f(n)", one.spell("step")), ("reach(n)", one.spell("reach"))]
    for name, prop in row.properties.by_letter.items():
        lines.append((name, f"{prop.verdict.value}: {prop.why}; tends to {prop.spelt}"))
    lines.append((f"at n = {row.context:,}", f"E {efficiency:.3f}, C {compactness:.3f}"))
    lines += [("", f"{row.architecture.at(q, row.context):.4g} {u}") for q, u in _UNITS.items()]
    lines.append(("with", values))
    for c in row.comparisons:
        state = f"state {c.state_elements:,} = {c.state_ratio:.6g} of s(n)"
        lines.append((f"measured at {c.context}", f"{state}, step {c.step_flops:,} = {c.step_ratio:.4f} of f(n)"))
    return [*lines, ("preset", f"arch={one.preset}" if one.preset else "none"), ("missing here", one.missing or "-")]


_UNREAD = "nothing but the paper, as remembered"

_UNITS = {"state": "elements carried", "step": "FLOPs of a step", "reach": "elements that a query can reach"}


_TOLD = ("name", "title", "family", "published", "source", "confirmed", "confirmed_layers")


def record(row: AtlasRow) -> dict[str, Any]:
    """An architecture as plain values: formulas in sympy's spelling, sizes by symbol."""
    one, properties = row.architecture, row.properties.by_letter
    efficiency, compactness = row.coordinates
    deciding = list(zip(("step", "state", "reach"), properties.values(), strict=True))
    return {
        **{name: getattr(one, name) for name in _TOLD},
        "layers": one.pattern.compact(),
        "letters": {letter: [part.name for part in parts] for letter, parts in one.letters.items()},
        "class": row.properties.label,
        **{f"{name}_verdict": prop.verdict.value for name, prop in properties.items()},
        **{f"{name}_why": prop.why for name, prop in properties.items()},
        **{f"{quantity}_formula": str(getattr(one, quantity)) for quantity in QUANTITIES},
        **{f"{name}_growth": prop.growth.spelt for name, prop in deciding},
        **{f"{name}_slope": prop.slope for name, prop in deciding},
        "sizes": {str(symbol): float(value) for symbol, value in one.values.items()},
        "context": row.context,
        "efficiency": efficiency,
        "compactness": compactness,
        **{quantity: one.at(quantity, row.context) for quantity in QUANTITIES},
        "measured": [
            {**c._asdict(), "state_ratio": c.state_ratio, "step_ratio": c.step_ratio} for c in row.comparisons
        ],
        "preset": one.preset,
        "missing": one.missing,
    }


def to_json(rows: Sequence[AtlasRow]) -> str:
    return json.dumps([record(row) for row in rows], indent=2)


def to_csv(rows: Sequence[AtlasRow]) -> str:
    """One line for each architecture; what is nested is JSON."""
    records = [record(row) for row in rows]
    cells = ([json.dumps(v) if isinstance(v, dict | list) else v for v in one.values()] for one in records)
    return files.to_csv(list(records[0]) if records else ["name"], cells)


def page(rows: Sequence[AtlasRow], command: str, picture: str) -> str:
    """The atlas in Markdown."""
    counts = Counter(row.properties.label for row in rows)
    listed = ", ".join(f"`{label}` {count}" for label, count in counts.most_common())
    paragraphs = [
        "# Atlas of architectures",
        f"Written by `{command}`: {len(rows)} architectures, placed by their formulas ({listed}). "
        "The rule is in `hybrids/triangle/atlas/derive.py`, the formulas in the tables beside it.",
        _spell_confirmed([row.architecture for row in rows]),
        EXPLANATION,
        f"![Efficiency against Compactness of every architecture]({picture})",
        f"E and C are placed at n = {rows[0].context:,}, at common sizes where the architecture does not name its own: "
        + ", ".join(f"{name} {entry['means']} = {entry['value']}" for name, entry in sizes().items())
        + ". Only the pattern of layers is the published model's. FLOPs leave out norms, activations and the head.",
    ]
    for family in FAMILIES:
        chosen = [row for row in rows if row.architecture.family == family]
        table = [COLUMNS, ["---"] * len(COLUMNS), *table_rows(chosen)]
        lines = [f"| {' | '.join(cells)} |".replace("*", r"\*") for cells in table]
        paragraphs += [f"## {family.capitalize()}", "\n".join(lines)]
    paragraphs.append("## Formulas")
    for row in rows:
        known = [(name.strip() or "there", text) for name, text in describe(row) if name != "with"]
        lines = [f"- {name}: `{text}`" if "(n)" in name else f"- {name}: {text}" for name, text in known]
        title = f"### {row.architecture.title} (`{row.architecture.name}`): {row.properties.label}"
        paragraphs += [title, "\n".join(lines)]
    return "\n\n".join(paragraphs) + "\n"


def _spell_confirmed(found: Sequence[Architecture]) -> str:
    sources, layers = sum(bool(one.confirmed) for one in found), sum(bool(one.confirmed_layers) for one in found)
    return (
        f"Confirmed in public repositories and pages: the sources of {sources} of {len(found)} rows, the layers of "
        f"{layers}. The rest was written from knowledge of the papers, and so were most constants of the formulas."
    )
