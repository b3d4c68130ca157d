"""The table of an evaluation: a cell for each combination of sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybrids.training.files import to_csv, write_file


@dataclass(frozen=True)
class GridCell:
    """Scores of one combination of sizes; None where the task refuses it, with the reason.

    Those of a task that is decoded are teacher-forced; `decoded` holds what the model makes of it on its own.
    """

    sizes: Mapping[str, int]
    accuracy: float | None
    exact_match: float | None
    loss: float | None
    reason: str = ""
    decoded: Mapping[str, float] = field(default_factory=dict)


def decoded_scores(cells: Sequence[GridCell]) -> list[str]:
    """Names of the scores of decoding; none where nothing was decoded."""
    return list(dict.fromkeys(name for cell in cells for name in cell.decoded))


def share_of_none(cells: Sequence[GridCell], alternatives: str) -> list[tuple[dict[str, int], float]]:
    """For each combination of the other sizes, how often none of the measured values of `alternatives` is met.

    Values of this size ask for different answers to the same prompts, so that exact matches exclude each other.
    """
    met: dict[tuple[tuple[str, int], ...], float] = {}
    for cell in cells:
        if cell.exact_match is not None:
            others = tuple((name, value) for name, value in cell.sizes.items() if name != alternatives)
            met[others] = met.get(others, 0.0) + cell.exact_match
    return [(dict(others), 1 - share) for others, share in met.items()]


def write_grid(cells: Sequence[GridCell], path: Path) -> None:
    """One CSV row per combination; empty scores where the task refused it."""
    names = decoded_scores(cells)
    columns = [*cells[0].sizes, "accuracy", "exact_match", "loss", *(f"decoded/{name}" for name in names), "reason"]
    rows = []
    for cell in cells:
        decoded = [cell.decoded.get(name) for name in names]
        rows.append([*cell.sizes.values(), cell.accuracy, cell.exact_match, cell.loss, *decoded, cell.reason])
    write_file(path, to_csv(columns, rows))
