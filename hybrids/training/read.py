"""Reading what others may have written: JSON, YAML and CSV of limited size and depth, one sentence for the rest.

A run folder can come from a stranger, and a damaged file can hold anything. So a file is measured before it is parsed,
and what it gives is plain: groups with text as keys, lists, text, finite numbers of 64 bits, true, false and null.
Every reason is a `UserError` that shows no content of the file: where a file is a link, that may be a secret.
"""

import csv
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from hybrids.errors import UserError, printable

MOST_BYTES = 2**24
"""Of a file that is read as a whole; the largest that a run leaves has some 10 KB."""

MOST_YAML_BYTES = 2**18
"""Of a YAML file, which takes a hundred times as long to read as JSON."""

MOST_DEPTH = 50
"""Of objects and lists inside each other; the deepest that a run leaves has 7."""

MOST_VALUES = 10**6
"""In one file, with those that a YAML alias repeats; a configuration has some hundred."""

_LARGEST = 2**63
"""No whole number that counts something is as large."""


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """A text file; UserError where it is no ordinary file, is too large, or holds no text (UTF-8)."""
    if not path.is_file():  # a pipe would be waited for, a device has no end
        raise UserError("it is no ordinary file" if path.exists() else "it does not exist")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UserError(f"it has more than {most_bytes:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"it holds no text: byte {error.start} is not UTF-8") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; UserError as of `parse_json`."""
    return parse_json(read_text(path))


def parse_json(text: str) -> dict[str, Any]:
    """A JSON object; UserError for NaN and Infinity, a key twice, and what is no plain value."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise UserError(f"it is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    return _plain_object(value)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file; UserError for what is no YAML, a key twice, and what is no plain value."""
    text = read_text(path, MOST_YAML_BYTES)
    try:
        _measure_yaml(text)
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:  # its own text would show the line
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"it is no YAML: {printable(error.problem or 'unreadable')}{where}") from None
    except yaml.YAMLError as error:
        raise UserError(f"it is no YAML: {getattr(error, 'reason', 'unreadable')}") from None
    except UserError:
        raise
    except (ValueError, RecursionError):  # a date that does not exist, a number of 5,000 digits
        raise UserError("it holds a value that YAML cannot read") from None
    return _plain_object(value)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column; UserError for a column twice, a row of another width, and a cut last line."""
    text = read_text(path)
    if not text.endswith("\n"):
        raise UserError("it is cut in its last line")
    try:
        header, *rows = csv.reader(StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise UserError(f"it is no CSV: {error}") from None
    if len(set(header)) < len(header):
        raise UserError("two of its columns have one name")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise UserError(f"row {number} has {len(row)} cells, where the header has {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def check_resolved(value: Any, place: str = "") -> None:
    """UserError where a text asks to be replaced by something else: `${oc.env:X}` would be a secret of this machine."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            check_resolved(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, str) and "${" in value:
        raise UserError(f"{printable(place)} holds ${{...}}, which is replaced nowhere but on a command line")


def check_plain(value: Any, place: str = "", depth: int = 0) -> None:
    """UserError where a value, or one inside it, is nested deeper, larger or of another kind than a record of ours."""
    where = f"{printable(place)} is" if place else "it is"
    if depth > MOST_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise UserError(f"{where} a group with a key that is no text")
        for key, item in value.items():
            check_plain(item, f"{place}.{key}" if place else key, depth + 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_plain(item, f"{place}.{number}" if place else str(number), depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} no finite number")
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise UserError(f"{where} a whole number beyond 64 bits")
    elif value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where} a {type(value).__name__}, which no setting and no result is")


def _plain_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError("it is no group of names and values")
    check_plain(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of two values under one key, which one counts nobody can know."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise UserError(f"the key {printable(twice)} stands in it twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise UserError(f"it holds {name}, which is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise UserError(f"it holds a whole number of {len(digits)} digits")
    return int(digits)


def _too_deep() -> UserError:
    return UserError(f"it is nested deeper than {MOST_DEPTH} levels")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise UserError(f"the key {printable(key)} stands in it twice")
        return super().construct_mapping(node, deep)


def _measure_yaml(text: str) -> None:
    """UserError for a text that is nested too deep, or that its aliases repeat too often: each can be a whole tree."""
    anchors: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []  # anchor of a group and values before it
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise UserError("an alias in it stands for a group that is not complete")
            count += anchors[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            anchors |= {anchor: count - before} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            anchors |= {event.anchor: 1} if event.anchor else {}
        if len(opened) > MOST_DEPTH:
            raise _too_deep()
        if count > MOST_VALUES:
            raise UserError(f"it holds more than {MOST_VALUES:,} values")
