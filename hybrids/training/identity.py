"""Which run a folder is of, and digests that show whether a file is still what was written.

An identity is made of the values that can change a number (`Run.identity`); its digest names the folder.
"""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from hybrids.errors import UserError, printable

DIGITS = 16
"""Of the digest in the name of a folder."""
FORMER_DIGITS = 8
"""Of names up to version 0.1, which two runs can share."""


PLACE = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "threads",
    "progress_bar",
    "profiler",
    "log_every",
    "precision",
)
"""Settings of the trainer that say where it trains, not what; the precision has a place of its own."""


class AnotherRun(UserError):
    """A folder or checkpoint of another run than the one that was asked for."""


def digest_of(values: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """What differs between two identities: `seed is 1 there and 0 here`."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in dict.fromkeys([*there, *here]):
            yield from differences(there.get(key, ...), here.get(key, ...), f"{name}.{key}" if name else str(key))
    elif there != here:
        yield f"{printable(name)} is {_spell(there)} there and {_spell(here)} here"


def check_same(what: str, there: Any, here: Mapping[str, Any], advice: str) -> None:
    """UserError unless the identity stored in a file is this one; `what` names the file or folder."""
    odd = list(differences(there, json.loads(json.dumps(here))))
    if odd:
        more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise AnotherRun(f"{what} is of another run: {', '.join(odd[:3])}{more}; {advice}")


def comparable(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What two configurations say of the numbers of a run, as far as both say it.

    For folders of version 0.1, which have no identity before the run has finished.
    """
    both = [{key: _telling(key, config.get(key)) for key in _TELLING} for config in (there, here)]
    return _shared(*both), _shared(*reversed(both))


def check_name(path: Path, identity: Any) -> None:
    """UserError for a folder named after a run other than the one it holds; a name without a digest says nothing."""
    found = re.search(rf"-([0-9a-f]{{{DIGITS}}})(~\d+)?$", path.name)
    if found is not None and digest_of(identity)[:DIGITS] != found[1]:
        raise UserError(f"{path} has been renamed: its run would be named ...-{digest_of(identity)[:DIGITS]}")


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the digest of its content."""
    content = {name: value for name, value in record.items() if name != "digest"}
    return {**content, "digest": digest_of(content)}


def check_seal(record: Mapping[str, Any], what: str) -> None:
    """UserError where a record was changed since it was written; records of version 0.1 have no digest."""
    if "digest" in record and seal(record)["digest"] != record["digest"]:
        raise UserError(f"{what} was changed after it was written: its digest is that of another content")


_TELLING = ("seed", "task", "model", "optim", "data", "trainer", "channel")


def _telling(key: str, value: Any) -> Any:
    without = {"trainer": PLACE[:-1], "data": ("num_workers",)}.get(key, ())
    if isinstance(value, Mapping):
        return {name: item for name, item in value.items() if name not in without}
    return value


def _shared(one: Any, other: Any) -> Any:
    """Of the first, what the second has too."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: _shared(value, other[key]) for key, value in one.items() if key in other}
    return one


def _spell(value: Any) -> str:
    text = "the default" if value is ... else json.dumps(value, sort_keys=True)
    return printable(text, 60)
