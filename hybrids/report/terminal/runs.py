"""Finished runs as rows of one table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hybrids.errors import UserError, suggest
from hybrids.report.page.collect import ReportedRun
from hybrids.report.page.style import spell

COLUMNS = (
    *("pattern", "task", "accuracy", "efficiency", "compactness", "recall", "state_bits", "step_flops"),
    *("learning_rate", "seed", "steps", "seconds", "context", "chance", "recalled_bits", "facts_state_bits", "path"),
)
"""By importance: a narrow terminal shows the first."""


def summarise(run: ReportedRun) -> dict[str, Any]:
    """Under `COLUMNS`; E, C, R and bits are those at the context of training, None where there are none."""
    place: Mapping[str, Any] = run.places[0] if run.places else {}
    known = {
        "pattern": run.pattern.compact(),
        "task": run.identity["task"]["name"],
        "accuracy": run.result["test"]["accuracy"],
        "learning_rate": run.rate,
        "seed": run.seed,
        "chance": run.result["chance_accuracy"],
        "path": str(run.path),
        **{name: run.result[name] for name in ("state_bits", "step_flops", "steps", "seconds", "context")},
    }
    return {name: known[name] if name in known else place.get(name) for name in COLUMNS}


def choose(rows: Iterable[dict[str, Any]], filters: Sequence[str], sort: str) -> list[dict[str, Any]]:
    """The rows in which each <column>=<value> holds, by a column, the largest numbers first.

    UserError for an unknown column.
    """
    wanted = [text.partition("=")[::2] for text in filters]
    for name in [*(name for name, _ in wanted), sort]:
        if name not in COLUMNS:
            raise UserError(f"{name!r} is no column of the runs; {suggest(name, COLUMNS)}")
    kept = [row for row in rows if all(str(row[name]) == value for name, value in wanted)]
    numeric = [row for row in kept if isinstance(row[sort], int | float)]
    others = [row for row in kept if not isinstance(row[sort], int | float)]
    by_text = sorted(others, key=lambda row: str(row[sort]))
    return [*sorted(numeric, key=lambda row: row[sort], reverse=True), *by_text]


def cells(row: Mapping[str, Any]) -> list[str]:
    return [spell(row[name]) for name in COLUMNS]
