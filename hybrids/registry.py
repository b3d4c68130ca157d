"""Plugins by kind and name: `register` puts them in, `load_plugins` finds them, `get` hands them out.

A plugin is a class under `@register(kind, name)`. Packages announce theirs with one entry point in the
group `hybrids.plugins`, whose value is a module or a package; of a package, every submodule is imported.
Knows neither torch nor Hydra.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from hybrids.errors import UserError, suggest

KINDS = ("mixer", "channel", "task")
GROUP = "hybrids.plugins"

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Entry:
    """One registered plugin: what it is called, where it comes from and what it implements."""

    kind: str
    name: str
    cls: type
    source: str

    @property
    def origin(self) -> str:
        """Dotted path of the class, for messages and `hybrids plugins`."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"


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


def register(kind: str, name: str, *, source: str) -> Callable[[C], C]:
    """Class decorator that adds a plugin under `kind` and `name`.

    `source` says what the class implements (paper and equation, or documentation).
    Raises UserError for an unknown kind, and for a name that another class already holds.
    """
    if kind not in KINDS:
        raise UserError(f"unknown plugin kind {kind!r}; {suggest(kind, KINDS)}")

    def add(cls: C) -> C:
        entry = Entry(kind, name, cls, source)
        known = _entries.setdefault((kind, name), entry)
        if known.origin != entry.origin:
            both = f"two {kind} plugins are named {name!r}: {known.origin} and {entry.origin}; rename one"
            reject(known, UserError(both))
            raise UserError(both)
        _entries[kind, name] = entry
        return cls

    return add


def reject(entry: Entry, error: Exception) -> None:
    """Make a registered plugin unusable from now on: the reason is reported, and raised where it is asked for."""
    _rejected[entry.kind, entry.name] = Failure(entry.origin, error)


def get(kind: str, name: str) -> Entry:
    """Entry of one plugin; UserError with the closest match, or with the reason why it cannot be used."""
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
    raise UserError(f"unknown {kind} {name!r}{broken}; {suggest(name, names(kind))}")


def name_of(cls: type) -> str:
    """Registered name of a plugin class; UserError for a class that was never registered."""
    for entry in _entries.values():
        if entry.cls is cls:
            return entry.name
    raise UserError(f"{cls.__module__}.{cls.__qualname__} is not a registered plugin")


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
        raise UserError(f"{cls.__module__}.{cls.__qualname__}: setting {missing[0]!r} has no default; give it one")
    return settings


def load_plugins() -> None:
    """Import every announced plugin module once. A module that fails is recorded and does not stop the others."""
    for point in _announced(tuple(sys.path)):
        if point.value not in _loaded:
            _loaded.add(point.value)
            path = getattr(_import(point.module), "__path__", [])
            for info in pkgutil.walk_packages(path, f"{point.module}.", onerror=lambda _: None):
                _import(info.name)


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
