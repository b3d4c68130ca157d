"""Plugins in a file that is given with the setting `plugins=`, and known by its name and content.

No file is imported but one that the user gives on the command line or in a call: not one that lies in the working
folder or stands in the environment, and not one that a run folder names, which may be a stranger's.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from hybrids import registry
from hybrids.errors import UserError, printable
from hybrids.registry import Entry, PluginFile

_SETTING = re.compile(r"\+{0,2}plugins=(.*)", re.DOTALL)
_PATH = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]+))""")
_SHOWN = 16
"""Digits of a SHA-256 in a sentence; config.yaml has all 64."""


def split_paths(value: str) -> list[str]:
    """The paths in `a.py`, in `a.py,b.py` or in `[a.py,b.py]`, each of which may stand in quotes."""
    listed = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    parts = (next(filter(None, found.groups()), "") for found in _PATH.finditer(listed))
    return [part.replace(r"\'", "'").strip() for part in parts]


def take_files(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """The paths of `plugins=<paths>` among the arguments, and the other arguments; UserError where it stands twice."""
    given, others = [], []
    for argument in arguments:
        found = _SETTING.fullmatch(argument)
        (given if found else others).append(found[1] if found else argument)
    if len(given) > 1:
        together = ",".join(path for value in given for path in split_paths(value))
        raise UserError(f"plugins= is given twice; write plugins={together}")
    if given == [""]:
        raise UserError("plugins= is empty; give a file, such as plugins=my_layer.py, or leave it out")
    return [path for value in given for path in split_paths(value)], others


def load_files(paths: Sequence[str | Path], *, is_reloaded: bool = True) -> None:
    """Import plugin files, after all installed plugins; one that is imported already only where it has changed.

    Not `is_reloaded`: not even then, so that who edits a file changes nothing for a sweep that is running.
    Raises UserError for what is no file of plugins, or is given twice, and where importing one fails.
    """
    if paths:
        registry.load_plugins()
    known = {file.path: file.sha256 for file in registry.files()}
    found: dict[Path, PluginFile] = {}
    for given in map(str, paths):
        path = Path(given).expanduser().resolve()
        if path in known and not is_reloaded:
            continue
        content = _read(given, path)
        file = PluginFile(given, path, sha256(content).hexdigest())
        for other in found.values():
            if other.path == path or other.sha256 == file.sha256:
                raise UserError(f"plugins={other.given},{given} gives the same file twice; give it once")
        found[path] = file
        if known.get(path) != file.sha256:
            _import(file, content)


def records(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """The files that these plugins come from, each once, as config.yaml remembers them: by name and content."""
    named = sorted({(entry.file.path.name, entry.file.sha256) for entry in entries if entry.file is not None})
    return [{"file": name, "sha256": digest} for name, digest in named]


def check_given(recorded: Any) -> None:
    """UserError unless the files that `records` gave have been given here too; it imports nothing."""
    for name, digest in _read_records(recorded):
        if digest in (file.sha256 for file in registry.files()):
            continue
        needed = f"the plugin file {name} (SHA-256 {digest[:_SHOWN]}...)"
        namesakes = [file for file in registry.files() if file.path.name == name]
        for file in namesakes:
            other = f"{file.given} has another content (SHA-256 {file.sha256[:_SHOWN]}...)"
            raise UserError(f"the run was made with {needed}, and {other}; give it as it was then")
        raise UserError(
            f"the run was made with {needed}, which is never found by itself; give it: plugins=<path of {name}>"
        )


def _read_records(recorded: Any) -> list[tuple[str, str]]:
    wrong = UserError("plugins is no list of files, each with `file` and `sha256`")
    if not isinstance(recorded, list):
        raise wrong
    found = []
    for record in recorded:
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("file", "sha256")):
            raise wrong
        if not re.fullmatch("[0-9a-f]{64}", record["sha256"]):
            raise wrong
        found.append((printable(record["file"]), record["sha256"]))
    return found


def _read(given: str, path: Path) -> bytes:
    if path.suffix != ".py":
        raise UserError(f"plugins={given} is no Python file; give one whose name ends with .py")
    if not path.is_file():
        raise UserError(f"plugins={given} {'is no ordinary file' if path.exists() else 'does not exist'}")
    return path.read_bytes()


def _import(file: PluginFile, content: bytes) -> None:
    """Run what was read, and so what the digest is of, as a module that pickle and inspect find."""
    module = ModuleType(file.module)
    module.__file__ = str(file.path)
    before = sys.modules.get(file.module)
    sys.modules[file.module] = module
    try:
        with registry.registering(file):
            exec(compile(content, str(file.path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever it raises is told in one sentence
        if before is None:
            del sys.modules[file.module]
        else:
            sys.modules[file.module] = before
        text = str(error.msg if isinstance(error, SyntaxError) else error)
        said = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
        raise UserError(f"plugins={file.given} cannot be used: {_line(file, error)}{' '.join(said.split())}") from error


def _line(file: PluginFile, error: BaseException) -> str:
    """Where in the file it went wrong; nothing where no line of it did."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(file.path)]
    if isinstance(error, SyntaxError) and error.filename == str(file.path):
        lines.append(error.lineno)
    return f"line {lines[-1]}: " if lines and lines[-1] else ""
