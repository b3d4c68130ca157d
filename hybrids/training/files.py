"""Files that are there whole or not at all, and tables as CSV."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any


def write_file(path: Path, text: str) -> None:
    """Write a whole file or nothing: to a neighbour first, then renamed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> str:
    """A header and a line for each row: values in the order of the columns, or by their names; None is empty."""
    text = StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows([row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows)
    return text.getvalue()
