"""What a user can get wrong, told in one sentence: what was given, what is allowed, what was probably meant."""

import difflib
import math
from collections.abc import Iterable


class UserError(ValueError):
    """A setting, a file or an argument that cannot be used, with a message for the person who gave it.

    A command ends with the message alone. Any other ValueError is a defect and keeps its traceback.
    """


def check_number(name: str, value: float | None, low: float, high: float | None = None, why: str = "") -> None:
    """UserError unless low <= value <= high (no limit for None); `why` says what sets these limits.

    A value of None is one that was left out.
    """
    if value is not None and not low <= value <= (math.inf if high is None else high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UserError(f"{name}={value} must be {allowed}{why and f' ({why})'}")


def check_positive(name: str, value: float) -> None:
    """UserError unless `value` is a finite number above 0."""
    if not 0 < value < math.inf:
        raise UserError(f"{name}={value} must be positive")


def check_choice(name: str, value: str | None, allowed: Iterable[str | None]) -> None:
    """UserError unless `value` is one of those that are allowed; None is spelled null, as in a configuration."""
    if value not in (allowed := list(allowed)):
        raise UserError(f"{name}={value!r} is unknown; {suggest(str(value), [word or 'null' for word in allowed])}")


def suggest(given: str, allowed: Iterable[str]) -> str:
    """Say what is allowed and, if one is close, what was probably meant."""
    allowed = list(allowed)
    close = difflib.get_close_matches(given, allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed) or 'nothing, there are none'}"


def printable(text: str, most: int = 100) -> str:
    """A text from outside as one line that can be shown anywhere: in a sentence, a table, a picture, a terminal.

    What cannot be seen (line ends, escape sequences, marks that turn the direction of writing) is spelt out, as in
    a\\nb, and of a text of more than `most` letters the middle is left out.
    """
    if len(text) > most:
        text = f"{text[: most - most // 3 - 3]}...{text[len(text) - most // 3 :]}"
    return "".join(letter if letter.isprintable() else _spell_out(letter) for letter in text)


def _spell_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
