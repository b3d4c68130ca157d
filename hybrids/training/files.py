"""Files that are there whole or not at all, and tables as CSV."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any


def obstacle_to_writing(folder: Path) -> str | None:
    """Why no file can be written into a folder that may have to be made, None where nothing is known to prevent it."""
    if folder.is_symlink():
        return f"{folder} is a link, and nothing is written through one"
    if folder.exists() and not folder.is_dir():
        return f"{folder} is no folder"
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK | os.X_OK):
        return f"{folder} cannot be written"
    return None


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: to a neighbour first, then renamed. Text is UTF-8; a link is replaced."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # never through a link of this name
            file.write(content.encode() if isinstance(content, str) else content)
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
