"""Where models stand in the triangle, and the paths between them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from hybrids.report.page.compare import Comparison, SeedGroup
from hybrids.report.page.style import Row, by_label

COORDINATES = ("efficiency", "compactness", "recall")
_KNOWN = ("kind", "family", "context", "label", "pattern", "letters", "depth")
_FURTHER = ("recall_low", "recall_high", "total", "learning_rate", "seeds")
COLUMNS = (*_KNOWN, *COORDINATES, *_FURTHER)
"""Of a row: a model at one context, or a vertex of a path (`kind`)."""


def trajectories(comparison: Comparison) -> list[Row]:
    """Places of the models, and the vertices of the paths between them: the mean of those with as many letters."""
    rows: list[Row] = []
    for family, models in comparison.families().items():
        places = sorted(_places(comparison, family, models), key=lambda row: row["context"])
        for _, at in groupby(places, key=lambda row: row["context"]):
            here = list(at)
            rows += here + list(_path(here))
    return rows


def _places(comparison: Comparison, family: str, models: Iterable[SeedGroup]) -> Iterator[Row]:
    """Every model at every context: means over its seeds."""
    for model in models:
        by_context = by_label((place for run in model.runs for place in run.places), "context")
        for context, places in sorted(by_context.items()):
            recalls = [place["recall"] for place in places if place["recall"] is not None]
            yield _with_total(
                kind="model",
                family=family,
                context=context,
                label=model.label,
                pattern=model.pattern,
                letters=comparison.count(model.first),
                depth=len(model.first.pattern),
                **_means(places),
                recall_low=min(recalls, default=None),
                recall_high=max(recalls, default=None),
                learning_rate=model.rate,
                seeds=len(places),
            )


def _path(here: Sequence[Row]) -> Iterator[Row]:
    """One vertex for each number of letters; nothing where all have the same."""
    groups = [(count, list(rows)) for count, rows in groupby(here, key=lambda row: row["letters"])]
    for count, rows in groups if len(groups) > 1 else []:
        several = {} if len(rows) == 1 else dict.fromkeys(("label", "pattern"), f"{len(rows)} with {count}")
        known = {key: rows[0][key] for key in _KNOWN} | {"kind": "path", **several}
        yield _with_total(**known, **_means(rows), **dict.fromkeys(_FURTHER))


def _means(places: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Of the coordinates, over the places that have them."""
    known = {key: [place[key] for place in places if place[key] is not None] for key in COORDINATES}
    return {key: fmean(values) if values else None for key, values in known.items()}


def _with_total(**row: Any) -> Row:
    """The row with E + C + R; None where one of them is."""
    parts = [row[key] for key in COORDINATES]
    return row | {"total": None if None in parts else sum(parts)}


def in_place(rows: Iterable[Row], kind: str, needed: Collection[str]) -> list[Row]:
    """Models or path vertices with all `needed` coordinates."""
    return [row for row in rows if row["kind"] == kind and None not in [row[key] for key in needed]]


def paths(rows: Iterable[Row], needed: Collection[str]) -> dict[tuple[str, int], list[Row]]:
    """Vertices of every path, by family and context; a single vertex is no path."""
    found = by_label(in_place(rows, "path", needed), "family", "context")
    return {key: vertices for key, vertices in found.items() if len(vertices) > 1}
