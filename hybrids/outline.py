"""Plugins as their sources announce them, read without importing any: what a listing needs need not wait for torch.

Where a source cannot be read so (no file, or a name that is worked out), the plugins are imported after all.
"""

import ast
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hybrids import registry


class Announced(NamedTuple):
    """A plugin that a source registers; whether it can be imported is not known."""

    kind: str
    name: str
    origin: str
    source: str


def read_plugins() -> list[Announced]:
    """All announced plugins, by kind and name."""
    try:
        found = [plugin for point in entry_points(group=registry.GROUP) for plugin in _read(point.module)]
    except (_UnreadableError, OSError, SyntaxError):
        found = [Announced(entry.kind, entry.name, entry.origin, entry.source) for entry in registry.entries()]
    return sorted(set(found))


def names(kind: str) -> list[str]:
    """Sorted names of the announced plugins of a kind."""
    return [plugin.name for plugin in read_plugins() if plugin.kind == kind]


def places() -> list[str]:
    """What announces plugins: entry point, and the module that it names."""
    return sorted({f"{point.name} = {point.value}" for point in entry_points(group=registry.GROUP)})


class _UnreadableError(Exception):
    """A source does not say in so many words what it registers."""


def _read(module: str) -> Iterator[Announced]:
    top, *below = module.split(".")
    spec = find_spec(top)  # of a whole path, it would import what stands above
    for path, name in _files(spec, below):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield from _registrations(node, name)


def _files(spec: ModuleSpec | None, below: list[str]) -> Iterator[tuple[Path, str]]:
    """Files of a module, of a package all below it, with the names of their modules."""
    if spec is None:
        raise _UnreadableError
    if not spec.submodule_search_locations:
        if spec.origin is None or below:
            raise _UnreadableError
        yield Path(spec.origin), spec.name
        return
    for location in spec.submodule_search_locations:
        place = Path(location, *below)
        name = ".".join([spec.name, *below])
        if not place.is_dir():
            yield place.with_suffix(".py"), name
            continue
        for path in place.rglob("*.py"):
            parts = path.relative_to(place).with_suffix("").parts
            yield path, ".".join([name, *(part for part in parts if part != "__init__")])


def _registrations(node: ast.ClassDef, module: str) -> Iterator[Announced]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and _last_name(decorator.func) == registry.register.__name__:
            given = [*decorator.args, *(word.value for word in decorator.keywords if word.arg == "source")]
            texts = [argument.value for argument in given if isinstance(argument, ast.Constant)]
            if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
                raise _UnreadableError
            kind, name, source = map(str, texts)
            yield Announced(kind, name, f"{module}.{node.name}", source)


def _last_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
