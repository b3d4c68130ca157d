"""Text in quotes, where Hydra would read it as something else."""

import re
from collections.abc import Sequence

from hybrids.plugin_files import split_paths

_PATTERNS = re.compile(r"(\+{0,2}(?:pattern|match_to)=)(.*)", re.DOTALL)
_PLACES = re.compile(r"(\+{0,2}(?:run|runs_dir)=)([^'\"].*)", re.DOTALL)
_FILES = re.compile(r"\+{0,2}plugins=(.*)", re.DOTALL)
_NO_PLAIN_PLACE = re.compile(r"[^\w./:,-]")


def quote_text(argument: str) -> str:
    """A setting with those of its values in quotes that are text and that Hydra would read as something else.

    `plugins=a.py,b.py` is a list, in a sweep too.
    """
    if found := _PATTERNS.fullmatch(argument):
        return found[1] + ",".join(map(quote_pattern, found[2].split(",")))
    if (found := _PLACES.fullmatch(argument)) and "${" not in found[2] and _NO_PLAIN_PLACE.search(found[2]):
        return found[1] + quote(found[2])
    if (found := _FILES.fullmatch(argument)) and found[1]:
        return spell_files(split_paths(found[1]))
    return argument


def spell_files(paths: Sequence[str]) -> str:
    """The setting `plugins`, as Hydra reads these paths."""
    spelt = (quote(path) if _NO_PLAIN_PLACE.search(path) or "," in path else path for path in paths)
    return f"plugins=[{','.join(spelt)}]"


def quote_pattern(text: str) -> str:
    """A pattern as Hydra reads it as text: NAN, INF, TRUE, FALSE and NULL are values for it."""
    return quote(text) if text in ("NAN", "INF", "TRUE", "FALSE", "NULL") else text


def quote(text: str) -> str:
    """A value that Hydra reads as this text, whatever is in it."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (found[2] and rf"\{found[2]}"), text)
    return f"'{escaped}'"
