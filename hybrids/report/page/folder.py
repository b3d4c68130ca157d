"""The folder of a report: what a report wrote into it makes room for the next one, and nothing else does.

manifest.json names each file that a report has written with the SHA-256 of its content. A file of another content
belongs to its user: where a report needs its name, it is renamed to <name>~1. Before reports had a manifest, they
removed every table and picture in the folder, so what stands beside such a report under one of our names is ours.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hybrids.errors import UserError, printable
from hybrids.studies.validation import explain_refusal
from hybrids.training.files import obstacle_to_writing, write_file
from hybrids.training.read import read_json

MANIFEST = "manifest.json"
_VERSION = 1
_FILES = TypeAdapter(dict[str, list[str]])
_OLD_PAGE = b"<title>hybrids report:"


def open_folder(folder: Path) -> None:
    """Make the folder; UserError where it is a link, or nothing can be written."""
    if obstacle := obstacle_to_writing(folder):
        raise UserError(f"{obstacle}: a report needs a folder of its own there")
    folder.mkdir(exist_ok=True)


def publish(drafts: Path, folder: Path, names: Iterable[str]) -> list[str]:
    """Move the files of a new report into its folder and remove those of the last one.

    Returns a sentence for each file that was set aside. `names` are all that a report can write. A kill in between
    leaves a manifest in which both reports stand.
    """
    old = _read_manifest(folder, names)
    new = {draft.name: [_digest(draft)] for draft in sorted(drafts.iterdir())}
    said = [
        _set_aside(folder / name) for name in new if os.path.lexists(folder / name) and not _is_ours(folder, name, old)
    ]
    _write_manifest(folder, {name: [*old.get(name, []), *new.get(name, [])] for name in {**old, **new}})
    for name in new:
        (drafts / name).replace(folder / name)
    for name in old.keys() - new.keys():
        if _is_ours(folder, name, old):
            (folder / name).unlink()
    _write_manifest(folder, new)
    return said


def files_of(folder: Path) -> list[Path]:
    """What the report in this folder consists of; none where there is no report."""
    written = _read_manifest(folder, ()) if folder.is_dir() else {}
    return [folder / name for name in sorted(written) if _is_ours(folder, name, written)]


def _is_ours(folder: Path, name: str, written: Mapping[str, list[str]]) -> bool:
    path = folder / name
    return name in written and path.is_file() and not path.is_symlink() and _digest(path) in written[name]


def _set_aside(path: Path) -> str:
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}~{number}")):
        number += 1
    path.rename(kept)
    return f"{path} is of no report, or was changed; it is kept as {kept.name}"


def _read_manifest(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Digests by name; of a report without a manifest, those of the files that have one of these names."""
    file = folder / MANIFEST
    if not os.path.lexists(file):
        page = folder / "index.html"
        is_old = page.is_file() and _OLD_PAGE in page.read_bytes()[:1000]
        ours = [folder / name for name in names] if is_old else []
        return {path.name: [_digest(path)] for path in ours if path.is_file() and not path.is_symlink()}
    try:
        record = read_json(file)
        if file.is_symlink() or record.get("version") != _VERSION:
            raise UserError(f"it is a link, or not of version {_VERSION}")
        found = _FILES.validate_python(record.get("files"), strict=True)
        for name in found:
            if name in ("", ".", "..", MANIFEST) or Path(name).name != name:
                raise UserError(f"{printable(name)} is no name of a file of a report")
    except (ValidationError, UserError) as error:
        why = explain_refusal(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{file} cannot be used: {why}; remove it, and no file beside it will be replaced") from None
    return found


def _write_manifest(folder: Path, files: Mapping[str, list[str]]) -> None:
    record = {"version": _VERSION, "files": dict(sorted(files.items()))}
    write_file(folder / MANIFEST, json.dumps(record, indent=1) + "\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
