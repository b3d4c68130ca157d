"""The pattern grammar: one string is the whole stack of layers.

pattern = segment { "." segment }        Lx7.A   LLLAx6   LLLAx6.AA
segment = layer { layer } [ "x" count ]  the count repeats the segment
layer   = letter { "+" letter }          L+A     mixers in parallel on the same input, summed
        | letter ":" letter              L:A     two streams
letter  = "A".."Z"
"""

import re
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

from hybrids.errors import UserError

MAX_LAYERS = 10_000
MAX_PLACEMENTS = 1_000
MAX_PERIOD = 64
"""Longest repeated unit that `compact` looks for; bounds its time at 10,000 layers to about a second."""

_LAYER = re.compile(r"[A-Z](?:[+:][A-Z])*")
_COUNT = re.compile(r"x([0-9]+)")
_ALLOWED = "allowed: letters A-Z, '.' between segments, x<count> after a segment, '+' and ':' between letters"


@dataclass(frozen=True)
class Layer:
    """One layer of the stack: its letters, and how they are joined."""

    letters: tuple[str, ...]
    join: str = ""
    """"" for one letter, "+" for a parallel sum, ":" for two streams."""

    def __post_init__(self) -> None:
        if not self.letters or not all(re.fullmatch("[A-Z]", letter) for letter in self.letters):
            raise UserError(f"layer letters {self.letters!r}: each must be one of A-Z, and one at least is needed")
        if self.join not in ("", "+", ":") or (self.join == "") != (len(self.letters) == 1):
            raise UserError(f"layer join {self.join!r} with {self.letters!r}: '' joins one letter, '+' or ':' several")
        if self.join == ":" and len(self.letters) != 2:
            raise UserError(f"layer {self}: ':' joins exactly two letters")

    def __str__(self) -> str:
        return self.join.join(self.letters)


@dataclass(frozen=True)
class Pattern:
    """A stack of layers, first layer first."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise UserError(f"a pattern of {len(self.layers)} layers: allowed are 1 to {MAX_LAYERS:,}")

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern; UserError with the text, the column, what is allowed and what was likely meant."""
        if not isinstance(text, str):
            raise UserError(
                f"pattern {text!r} is {type(text).__name__}, not a string such as LLLA or LLLAx6.AA "
                "(YAML and Hydra read bare words such as null, true and nan as values: quote them)"
            )
        if text in ("", "null", "None"):
            raise UserError(f"pattern {text!r}: no pattern is given; write one such as LLLA or LLLAx6.AA")
        try:
            return cls(_read(text))
        except _ReadError as error:
            at, problem = error.args
            raise UserError(f"pattern {quote(text)}, column {at + 1}: {problem}{_hint(text)}") from None

    @property
    def letters(self) -> tuple[str, ...]:
        """Distinct letters in the order of first use."""
        return tuple(dict.fromkeys(letter for layer in self.layers for letter in layer.letters))

    def __str__(self) -> str:
        return "".join(str(layer) for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def compact(self) -> str:
        """Shortest spelling without nested repeats; parses back to an equal pattern."""
        return _shortest([str(layer) for layer in self.layers])


def place(depth: int, count: int, *, letter: str = "A", others: str = "L") -> list[str]:
    """Every stack of `depth` layers with `count` times `letter` among `others`; the first has them all at the end.

    Raises UserError for a depth or count that cannot be, and for more than `MAX_PLACEMENTS` stacks.
    """
    if letter == others or not re.fullmatch("[A-Z]{2}", letter + others):
        raise UserError(f"attention={letter}, others={others}: they must be two different letters A-Z")
    if depth < 1:
        raise UserError(f"depth={depth} must be at least 1")
    if not 0 <= count <= depth:
        raise UserError(f"num_attention={count} does not fit into depth={depth}; allowed: 0 to {depth}")
    if comb(depth, count) > MAX_PLACEMENTS:
        most = max(d for d in range(count, depth) if comb(d, count) <= MAX_PLACEMENTS)
        number = f"{comb(depth, count):,} patterns, allowed are {MAX_PLACEMENTS:,}"
        raise UserError(f"num_attention={count} in depth={depth} gives {number}: depth={most} at most")
    stacks = ("".join(letter if i in at else others for i in range(depth)) for at in combinations(range(depth), count))
    return sorted(stacks, reverse=letter < others)


def quote(text: str) -> str:
    """The text as it stands in a message: quoted, and cut where it is long."""
    return repr(text) if len(text) <= 200 else f"{text[:200]!r}... ({len(text)} characters)"


class _ReadError(Exception):
    """Its arguments: the index in a text, and what is wrong there."""


def _read(text: str) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    at = 0
    while True:
        start = at
        unit, at = _read_unit(text, at)
        count, at = _read_count(text, at)
        if len(layers) + count * len(unit) > MAX_LAYERS:
            raise _ReadError(start, f"more than {MAX_LAYERS:,} layers in all; at most {MAX_LAYERS:,} are allowed")
        layers += unit * count
        if at == len(text):
            return tuple(layers)
        if text[at] != ".":
            raise _ReadError(at, _unexpected(text, at))
        at += 1


def _read_unit(text: str, at: int) -> tuple[list[Layer], int]:
    layers = []
    while match := _LAYER.match(text, at):
        layers.append(_layer(match.group(), at))
        at = match.end()
        if text[at : at + 1] in ("+", ":"):
            raise _ReadError(at, f"{text[at]!r} needs a letter A-Z on each side, as in L{text[at]}A")
    if not layers:
        raise _ReadError(at, _unexpected(text, at))
    return layers, at


def _layer(text: str, at: int) -> Layer:
    letters, joins = text[::2], text[1::2]
    if len(set(joins)) > 1:
        raise _ReadError(at, f"{text} mixes '+' and ':'; a layer is joined by '+' alone or by one ':'")
    if joins.count(":") > 1:
        raise _ReadError(at, f"{text} has {len(letters)} streams; ':' joins exactly two letters, as in L:A")
    return Layer(tuple(letters), joins[:1])


def _read_count(text: str, at: int) -> tuple[int, int]:
    if text[at : at + 1] != "x":
        return 1, at
    match = _COUNT.match(text, at)
    if match is None:
        raise _ReadError(at + 1, "the count after x is missing; write a number of at least 1, as in LLx3")
    digits = match[1].lstrip("0")
    if not digits:
        raise _ReadError(at + 1, f"the count {match[1]} must be at least 1")
    # Python refuses to convert thousands of digits, with a message about itself.
    return (int(digits) if len(digits) < 9 else MAX_LAYERS + 1), match.end()


def _unexpected(text: str, at: int) -> str:
    """Why the character at `at` cannot stand there; `at` may be the end of the text."""
    if at == len(text):
        return "a layer is missing after '.'"
    char, counted = text[at], at > 0 and text[at - 1].isdigit()
    if char == "x":
        return "a segment takes one count" if counted else "x<count> needs layers before it"
    if char in "+:":
        return f"{char!r} needs a letter A-Z on each side, as in L{char}A"
    if char == ".":
        return "an empty segment: '.' stands between two segments"
    if "A" <= char <= "Z":
        return "a '.' must stand between a count and the next layer"
    if "a" <= char <= "z":
        return f"{char!r} is lower case; letters are upper case, A-Z"
    if char.isdigit():
        return "a number may stand only after x, as in LLx3"
    return f"{char!r} cannot stand here; {_ALLOWED}"


def _hint(text: str) -> str:
    guess = _guess(text) if len(text) <= 200 else text
    try:
        _read(guess)
    except _ReadError:
        return ""
    return f"; did you mean {guess!r}?"


def _guess(text: str) -> str:
    """The text with the usual slips undone: case, brackets, separators, spelling of the repeat sign."""
    text = re.sub(r"[a-wyz]", lambda match: match.group().upper(), text)
    text = re.sub(r"\s*([+:x])\s*", r"\1", text)
    text = re.sub(r"[X*\u00d7](?=[0-9])", "x", text)
    text = re.sub(r"[\[({]([A-Z+:]*)[\])}](x[0-9]+)?", r".\1\2.", text)
    text = re.sub(r"(?<=[0-9])(?=[A-Z])|[\s,;_|-]+", ".", text)
    text = re.sub(r"\.*([+:])\1*\.*", r"\1", text)
    text = re.sub(r"\.+", ".", text).strip(".")
    return text if "x" in text else text.replace(".", "")


class _Spelling(NamedTuple):
    """A spelling of the rest of a stack, as a linked list so that a long stack stays linear in memory."""

    size: int
    piece: str
    rest: "_Spelling | None"

    def __str__(self) -> str:
        pieces, node = [], self
        while node is not None:
            pieces.append(node.piece)
            node = node.rest
        return "".join(pieces)


def _shortest(cells: list[str]) -> str:
    """Dynamic programme from the end: the rest is spelt by one more plain layer or by a counted unit."""
    n = len(cells)
    empty = _Spelling(0, "", None)
    start = [empty] * (n + 1)  # shortest spelling of cells[i:] where a segment begins
    within = empty  # the same inside a segment that has no count
    repeats = [0] * (MAX_PERIOD + 1)  # for each period p, how long cells[i:] goes on equal to cells[i+p:]
    for i in reversed(range(n)):
        plain = _prepend(cells[i], within)
        counted = [_prepend(unit, start[end], end < n) for unit, end in _counted_units(cells, i, repeats)]
        within = min([plain, *(_prepend(".", spelling) for spelling in counted)], key=lambda s: s.size)
        start[i] = min([plain, *counted], key=lambda s: s.size)
    return str(start[0])


def _prepend(piece: str, rest: _Spelling, dot: bool = False) -> _Spelling:
    piece += "." if dot else ""
    return _Spelling(len(piece) + rest.size, piece, rest)


def _counted_units(cells: list[str], i: int, repeats: list[int]) -> list[tuple[str, int]]:
    """Repeated units that begin at `i`, spelt with their count, and where each ends; updates `repeats`."""
    units = []
    for period in range(1, min(MAX_PERIOD, len(cells) - 1 - i) + 1):
        repeats[period] = repeats[period] + 1 if cells[i] == cells[i + period] else 0
        if count := repeats[period] // period:
            units.append(("".join(cells[i : i + period]) + f"x{count + 1}", i + (count + 1) * period))
    return units
