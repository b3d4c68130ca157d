"""In-context search: a query between two special tokens, looked up in the tokens before it.

The tool of arXiv:2402.18510, section 5.1, whose regular expressions are written here as the walks over tokens that
they stand for. With `text` joined by spaces, and the printed patterns as they have to be to find whole tokens:

    token_at(text, a)            ^(?:\\S+\\s+){a}(\\S+)
    token_after(text, words)     (?:^|\\s)w1\\s+...\\s+wn\\s+(\\S+)
    count_exceeds(text, w, t)    (?:(?:^|\\s)w(?=\\s|$).*?){t+1}      (exponential in t where it fails)

None stands for "no match"; the task says it with its token `failed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class SearchTokens:
    """The special tokens of a task: around a query, and the answer of a search that finds nothing."""

    open: int
    close: int
    failed: int


class Query(NamedTuple):
    """A search that has just been closed."""

    text: list[int]
    """Everything before the token that opened it: where to look."""
    words: list[int]
    """What stands between the two tokens; may be empty."""


def last_query(tokens: Sequence[int], special: SearchTokens) -> Query | None:
    """The search that `tokens` end in; None where they end in none.

    It goes from the last `open`, so that one which was never closed is text. A `close` without an `open` of its own,
    that is since the `close` before it, ends no search.
    """
    start = _last_open(tokens, special)
    return None if start is None else Query(list(tokens[:start]), list(tokens[start + 1 : -1]))


def hide_queries(tokens: Sequence[int], special: SearchTokens) -> list[int]:
    """The tokens with nothing between `open` and `close`, for searches that must not find earlier queries."""
    shown: list[int] = []
    for token in tokens:
        shown.append(token)
        start = _last_open(shown, special)
        if start is not None:
            del shown[start + 1 : -1]
    return shown


def _last_open(tokens: Sequence[int], special: SearchTokens) -> int | None:
    """Where the search that `tokens` end in was opened."""
    if not tokens or tokens[-1] != special.close:
        return None
    for place in range(len(tokens) - 2, -1, -1):
        if tokens[place] == special.open:
            return place
        if tokens[place] == special.close:
            break
    return None


def token_at(text: Sequence[int], place: int) -> int | None:
    """The token at `place`, counted from 0."""
    return text[place] if 0 <= place < len(text) else None


def token_after(text: Sequence[int], words: Sequence[int]) -> int | None:
    """The token after the first place where `words` stand and a token follows; None for no words."""
    length, words = len(words), list(words)
    if not words:
        return None
    for place in range(len(text) - length):
        if text[place] == words[0] and list(text[place : place + length]) == words:
            return text[place + length]
    return None


def count_exceeds(text: Sequence[int], word: int, threshold: int) -> bool:
    """Whether `word` stands in `text` more than `threshold` times."""
    return sum(token == word for token in text) > threshold
