"""Text in quotes, where Hydra would read it as something else."""

import re

_PATTERNS = re.compile(r"(\+{0,2}(?:pattern|match_to)=)(.*)", re.DOTALL)
_PLACES = re.compile(r"(\+{0,2}(?:run|runs_dir)=)([^'\"].*)", re.DOTALL)


def quote_text(argument: str) -> str:
    """A setting with those of its values in quotes that are text and that Hydra would read as something else."""
    if found := _PATTERNS.fullmatch(argument):
        return found[1] + ",".join(map(quote_pattern, found[2].split(",")))
    if (found := _PLACES.fullmatch(argument)) and "${" not in found[2] and re.search(r"[^\w./:,-]", found[2]):
        return found[1] + quote(found[2])
    return argument


def quote_pattern(text: str) -> str:
    """A pattern as Hydra reads it as text: NAN, INF, TRUE, FALSE and NULL are values for it."""
    return quote(text) if text in ("NAN", "INF", "TRUE", "FALSE", "NULL") else text


def quote(text: str) -> str:
    """A value that Hydra reads as this text, whatever is in it."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (found[2] and rf"\{found[2]}"), text)
    return f"'{escaped}'"
