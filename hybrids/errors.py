"""What a user can get wrong, told in one sentence: what was given, what is allowed, what was probably meant."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A setting, a file or an argument that cannot be used, with a message for the person who gave it.

    A command ends with the message alone. Any other ValueError is a defect and keeps its traceback.
    """


def suggest(given: str, allowed: Iterable[str]) -> str:
    """Say what is allowed and, if one is close, what was probably meant."""
    allowed = list(allowed)
    close = difflib.get_close_matches(given, allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed) or 'nothing, there are none'}"
