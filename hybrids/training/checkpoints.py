"""The checkpoints of a run: how they are named, kept, and found again.

`checkpoints/step=<steps>.ckpt`, one after each validation; the last two are kept.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hybrids.errors import UserError
from hybrids.training.metrics import Start
from hybrids.training.read import parse_json

_NAME = re.compile(r"step=(\d+)(?:-v(\d+))?\.ckpt")
"""The second number was given by Lightning where a damaged file had the name already."""

KEPT = 2

MARK = "hybrids"
"""Key under which a checkpoint says of which run it is, and which rows were in metrics.csv; none before version 0.2."""


class Mark(NamedTuple):
    """What a checkpoint says of itself."""

    identity: dict[str, Any]
    metrics: Start


def write_mark(mark: Mark) -> dict[str, Any]:
    """As plain values, which a checkpoint can hold."""
    return {"identity": json.dumps(mark.identity), **mark.metrics._asdict()}


def read_mark(content: Any, path: Path, *, is_needed: bool) -> Mark | None:
    """The mark in the content of a checkpoint; None for one of version 0.1, unless one `is_needed`.

    Raises UserError for a checkpoint that does not say of which run it is.
    """
    match content.get(MARK) if isinstance(content, Mapping) else None:
        case None if not is_needed:
            return None
        case {"identity": str(identity), "bytes": int(size), "sha256": str(digest)}:
            return Mark(parse_json(identity), Start(size, digest))
        case _:
            raise UserError(f"checkpoint {path} does not say of which run it is; rerun=true starts afresh")


def steps_of(path: Path) -> int:
    """Optimiser steps before this checkpoint, by its name."""
    return _order(path)[0]


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, newest first. A link is none: what it points to belongs to somebody else."""
    found = (path for path in folder.glob("step=*.ckpt") if _NAME.fullmatch(path.name))
    return sorted((path for path in found if path.is_file() and not path.is_symlink()), key=_order, reverse=True)


def keep_last(folder: Path, steps: int) -> None:
    """Remove all checkpoints but the last up to `steps`: older ones, and damaged ones that are still ahead."""
    paths = list_checkpoints(folder)
    kept = [path for path in paths if steps_of(path) <= steps][:KEPT]
    for path in paths:
        if path not in kept:
            path.unlink()


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, by its checksums and by loading it; None if it can be used."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:  # PyTorch compresses nothing
                return "it would unpack to more than its size"
            bad = archive.testzip()
            if bad is not None:
                return f"checksum of {bad}"
        load(path)
    except Exception as error:  # a damaged pickle can raise anything
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'unreadable'}"
    return None


def load(path: Path) -> Any:
    """The content of a checkpoint, tensors and plain values only; any exception where it is damaged."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _order(path: Path) -> tuple[int, int]:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1]), int(found[2] or 0)
