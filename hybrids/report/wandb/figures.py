"""The figures and tables of a report as a W&B run of their own, in the group of the runs that they are about."""

import csv
import hashlib
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import Error as WandbError

from hybrids.errors import UserError
from hybrids.report.page.folder import files_of
from hybrids.training.wandb_result import figure_key

_PATIENCE = 60
"""Seconds for the figures to be sent; without a limit W&B tries for ever."""


def log_figures(place: Path, *, project: str, group: str | None, entity: str, is_online: bool) -> bool:
    """Log every PNG and CSV of a report in the folder `place`, once; False where there are none, or it was done before.

    Raises UserError where W&B cannot be reached.
    """
    written = files_of(place)
    figures, tables = ([path for path in written if path.suffix == suffix] for suffix in (".png", ".csv"))
    content = hashlib.sha256(b"".join(path.read_bytes() for path in figures + tables)).hexdigest()[:8]
    name = f"report-{content}"
    if not figures or any(place.glob(f"wandb/*-{name}")):
        return False
    try:
        with wandb.init(
            project=project,
            entity=entity or None,
            group=group,
            job_type="report",
            id=name,
            name=name,
            dir=place,
            mode="online" if is_online else "offline",
            settings=wandb.Settings(silent=True, finish_timeout=_PATIENCE, finish_timeout_raises=True),
        ) as run:
            shown: dict[str, Any] = {figure_key(path.stem): wandb.Image(str(path)) for path in figures}
            run.log(shown | {f"tables/{path.stem}": _read_table(path) for path in tables})
    except (WandbError, OSError) as error:
        wandb.teardown()  # or the id of the run stays in use
        raise UserError(f"W&B does not take the figures of {place} ({' '.join(str(error).split())})") from error
    return True


def _read_table(path: Path) -> wandb.Table:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    columns: list[Any] = list(header)
    return wandb.Table(columns, [[_value(cell) for cell in row] for row in rows], allow_mixed_types=True)


def _value(cell: str) -> Any:
    """A number where it is one; an empty cell is none."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
