"""Files that are there whole or not at all, and tables as CSV."""

import csv
import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import IO, Any

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DRAFT = re.compile(r"\..+\.\d+")
"""The name of a draft: that of its file, between a dot and the number of the process."""


@contextmanager
def drafted(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written, which replaces `path` as soon as it is whole and on the disk.

    The draft stands beside `path`: elsewhere it might be on another file system, and the move a copy, which a kill
    cuts in half. Raises OSError, which names the file system where that is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)  # of a process that had this number and was killed
        with naming_full_disk(path), draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Say in the error which file system is full: the run and the drafts of its libraries may be on several."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = f"{os.strerror(error.errno)} on the file system {_file_system(path)}"
        raise OSError(error.errno, reason, str(path)) from None


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
    """Write a whole file or nothing. Text is UTF-8; a link is replaced."""
    with drafted(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_drafts(folder: Path) -> None:
    """Remove what killed processes have left half-written in `folder`, which is in use by this process alone."""
    for path in folder.iterdir():
        if _DRAFT.fullmatch(path.name) and not path.is_dir():
            path.unlink()


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> str:
    """A header and a line for each row: values in the order of the columns, or by their names; None is empty."""
    text = StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows([row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows)
    return text.getvalue()


def _file_system(path: Path) -> Path:
    """Where the file system of `path` is mounted."""
    return next(parent for parent in path.absolute().parents if parent.is_mount())


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk; Windows has no such call, and some network file systems refuse it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)
