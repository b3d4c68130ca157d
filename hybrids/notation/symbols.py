"""Letters of a pattern and the symbols of other notations: what their converters share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hybrids.errors import UserError
from hybrids.pattern import Layer, Pattern, quote

Symbols: TypeAlias = Mapping[str, str]

Config: TypeAlias = Mapping[str, Any]

LEGACY = {"mamba": "linear_attention", "attention": "full_attention"}

_SPARSE = ("indexed_attention", "compressed_sparse_attention", "minimax_m3_sparse")

_CANNOT = {
    "|": "it marks a pipeline stage, which is no part of the model: remove it",
    "/": "it starts a multi-token-prediction head, which is not in the stack: remove it and what follows",
    **dict.fromkeys("[]", "'[..]' is one fused group of sublayers: write its sublayers without the brackets"),
    "+": "multi-head latent attention has no letter",
    **dict.fromkeys("DCH", "sparse and compressed attention have no letter"),
    **dict.fromkeys(_SPARSE, "sparse attention has no letter"),
    "heavily_compressed_attention": "compressed attention has no letter",
    **dict.fromkeys(("mlp", "moe"), "a layer without a mixer; read such a list as nemotron_h"),
    "W": "a sliding window has no symbol in this notation",
    "chunked_attention": "attention inside fixed chunks is not a sliding window",
    "conv": "a short convolution alone has no letter",
    "hybrid": "it is both kinds in one layer, joined in a way the name does not say (L+A would sum them)",
}


@dataclass(frozen=True)
class Converted:
    """A pattern read from another notation."""

    pattern: Pattern
    notes: tuple[str, ...] = ()
    """What the pattern alone does not say, in words."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments with which the writer of the same notation gives the source back."""


def to_pattern(entries: Sequence[str], symbols: Symbols, source: str) -> Pattern:
    letters = {symbol: letter for letter, symbol in reversed([*symbols.items()])}
    layers = []
    for number, entry in enumerate(entries, 1):
        letter = letters.get(entry) or letters.get(LEGACY.get(entry, entry))
        if letter is None:
            reason = _CANNOT.get(entry, f"it is unknown here; known: {', '.join(dict.fromkeys(symbols.values()))}")
            raise UserError(f"{source}, entry {number}: {entry!r} cannot be expressed: {reason}")
        layers.append(Layer((letter,)))
    return Pattern(tuple(layers))


def to_entries(pattern: Pattern, symbols: Symbols, target: str) -> list[str]:
    owner: dict[str, str] = {}
    for number, layer in enumerate(pattern.layers, 1):
        letter = layer.letters[0]
        if layer.join:
            raise UserError(f"{target}: layer {number} is {layer}, but an entry there holds one mixer")
        if letter not in symbols:
            raise UserError(f"{target}: letter {letter} (layer {number}) has no symbol; known: {', '.join(symbols)}")
        if owner.setdefault(symbols[letter], letter) != letter:
            raise UserError(f"{target}: {owner[symbols[letter]]} and {letter} would both be {symbols[letter]!r}")
    return [symbols[layer.letters[0]] for layer in pattern.layers]


def check_names(value: Any, source: str) -> list[str]:
    names = list(check_list(value, source))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{source}: {quote(repr(value))} must be a list of names, and not empty")
    return names


def check_list(value: Any, source: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f"{source}: {value!r} must be a list")
    return value


def read_number(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value!r} must be an integer of at least {least}")
    return value


def unread(config: Config, used: set[str]) -> list[str]:
    keys = [str(key) for key in config if key not in used]
    return [f"no part of a pattern: {', '.join(keys)}"] if keys else []
