"""Plugins by kind and name: `register` puts them in, `load_plugins` finds them, `get` hands them out.

A plugin is a class under `@register(kind, name)`. Packages announce theirs with one entry point in the
group `hybrids.plugins`, whose value is a module or a package; of a package, every submodule is imported.
A single file is imported only where it is given (hybrids/plugin_files.py). Knows neither torch nor Hydra.
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple, TypeVar

from hybrids.errors import UserError, suggest

KINDS = ("mixer", "channel", "task")
GROUP = "hybrids.plugins"

C = TypeVar("C", bound=type)


class PluginFile(NamedTuple):
    """A file of plugins that was given with `plugins=`, as it was when it was imported."""

    given: str
    """The path as it was typed."""
    path: Path
    """The same, absolute."""
    sha256: str
    """Of the content, in hex digits."""

    @property
    def module(self) -> str:
        """Name of its module: two files of one name have two, and so have two contents of one file."""
        stem = re.sub(r"\W", "_", self.path.stem)
        return f"{stem}_{self.sha256[:16]}"


@dataclass(frozen=True)
class Entry:
    """One registered plugin: what it is called, where it comes from and what it implements."""

    kind: str
    name: str
    cls: type
    source: str
    file: PluginFile | None = None
    """None for a plugin of a package."""

    @property
    def origin(self) -> str:
        """The class with its module, or with its file, for messages and `hybrids plugins`."""
        return _dotted(self.cls) if self.file is None else f"{self.file.given}:{self.cls.__qualname__}"


@dataclass(frozen=True)
class Failure:
    """A plugin, or a module of plugins, that cannot be used, and why."""

    module: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.module}: {type(self.error).__name__}: {self.error}"


_entries: dict[tuple[str, str], Entry] = {}
_rejected: dict[tuple[str, str], Failure] = {}
_failures: dict[str, Failure] = {}
_loaded: set[str] = set()
_files: dict[Path, PluginFile] = {}
_importing: list[PluginFile] = []
_replaced: list[Entry] = []
"""Of modules and files that were imported again: models made of the former classes may still be in use."""


def register(kind: str, name: str, *, source: str) -> Callable[[C], C]:
    """Class decorator that adds a plugin under `kind` and `name`.

    `source` says what the class implements (paper and equation, or documentation).
    Raises UserError for an unknown kind, and for a name that another class already holds.
    """
    if kind not in KINDS:
        raise UserError(f"unknown plugin kind {kind!r}; {suggest(kind, KINDS)}")

    def add(cls: C) -> C:
        entry = Entry(kind, name, cls, source, _importing[-1] if _importing else None)
        known = _entries.setdefault((kind, name), entry)
        if _dotted(known.cls) != _dotted(cls):
            both = f"two {kind} plugins are named {name!r}: {known.origin} and {entry.origin}; rename one"
            reject(known, UserError(both))
            raise UserError(both)
        if known is not entry:
            _replaced.append(known)
        _entries[kind, name] = entry
        return cls

    return add


@contextmanager
def registering(file: PluginFile) -> Iterator[None]:
    """What is registered inside comes from `file`, in place of what an earlier content of it has registered.

    After an error all is as before. Raises UserError where nothing is registered.
    """
    entries_before, rejected_before = dict(_entries), dict(_rejected)
    former = [key for key, entry in _entries.items() if entry.file is not None and entry.file.path == file.path]
    replaced = [_entries.pop(key) for key in former]
    for key in former:
        _rejected.pop(key, None)
    _importing.append(file)
    try:
        yield
        if file not in (entry.file for entry in _entries.values()):
            raise UserError('it registers no plugin; put @register("mixer", "<name>", source="...") above a class')
    except BaseException:
        _entries.clear()
        _entries.update(entries_before)
        _rejected.clear()
        _rejected.update(rejected_before)
        raise
    finally:
        _importing.pop()
    _replaced.extend(replaced)
    _files[file.path] = file


def files() -> list[PluginFile]:
    """The files that were given, as they were when they were last imported."""
    return list(_files.values())


def reject(entry: Entry, error: Exception) -> None:
    """Make a registered plugin unusable from now on: the reason is reported, and raised where it is asked for."""
    _rejected[entry.kind, entry.name] = Failure(entry.origin, error)


def get(kind: str, name: str, *, beside: Sequence[str] = ()) -> Entry:
    """Entry of one plugin; UserError with the closest match, or with the reason why it cannot be used.

    `beside` are words that are allowed in the place of a name.
    """
    load_plugins()
    if kind not in KINDS:
        raise UserError(f"unknown plugin kind {kind!r}; {suggest(kind, KINDS)}")
    key = kind, name
    if key in _entries and key not in _rejected:
        return _entries[key]
    of_that_name = (failure for module, failure in _failures.items() if module.rpartition(".")[2] == name)
    if failure := _rejected.get(key) or next(of_that_name, None):
        raise UserError(f"{kind} {name!r} cannot be used: {failure}") from failure.error
    broken = f" ({len(_failures)} plugin modules cannot be imported, see `hybrids plugins`)" if _failures else ""
    looked = f"looked for in installed packages (entry points {GROUP}) and in files given with plugins=<file.py>"
    raise UserError(f"unknown {kind} {name!r}{broken}; {suggest(name, [*names(kind), *beside])}; {looked}")


def entry_of(cls: type) -> Entry:
    """Entry of a plugin class; UserError for a class that was never registered."""
    for entry in (*_entries.values(), *_replaced):
        if entry.cls is cls:
            return entry
    raise UserError(f"{_dotted(cls)} is not a registered plugin")


def name_of(cls: type) -> str:
    """Registered name of a plugin class; UserError for a class that was never registered."""
    return entry_of(cls).name


def names(kind: str) -> list[str]:
    """Sorted names of all usable plugins of a kind."""
    return [entry.name for entry in entries() if entry.kind == kind]


def entries() -> list[Entry]:
    """All usable plugins, by kind and name."""
    load_plugins()
    return [_entries[key] for key in sorted(_entries.keys() - _rejected.keys())]


def failures() -> list[Failure]:
    """Plugin modules that could not be imported, and plugins that cannot be used."""
    load_plugins()
    return [*_failures.values(), *_rejected.values()]


def defaults_of(cls: type) -> dict[str, object]:
    """Settings of a plugin class (its keyword-only arguments) and their defaults.

    Raises UserError for a setting without a default: a plugin must be buildable from its name alone.
    """
    parameters = inspect.signature(cls).parameters.values()
    settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    missing = [name for name, default in settings.items() if default is inspect.Parameter.empty]
    if missing:
        raise UserError(f"{_dotted(cls)}: setting {missing[0]!r} has no default; give it one")
    return settings


def load_plugins() -> None:
    """Import every announced plugin module once. A module that fails is recorded and does not stop the others."""
    for point in _announced(tuple(sys.path)):
        if point.value not in _loaded:
            _loaded.add(point.value)
            path = getattr(_import(point.module), "__path__", [])
            for info in pkgutil.walk_packages(path, f"{point.module}.", onerror=lambda _: None):
                _import(info.name)


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _announced(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What the packages on this `sys.path` announce: reading it takes milliseconds, and every `get` asks."""
    return tuple(entry_points(group=GROUP))


def _import(name: str) -> object | None:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises must not stop the other plugins
        _failures[name] = Failure(name, error)
        return None
