"""Patterns in the notations of other projects, both ways.

One parser (`from_*`) and one writer (`to_*`) per notation, in `blocks` and in `sublayers`. The `symbols` argument maps
letters to symbols; by default `A` is full attention, `S` sliding window, `L` the linear mixer, `M` mamba2, `G` gated
DeltaNet, and `F` and `E` are free-standing MLP and MoE layers, letters that bind no mixer. Where two letters share a
symbol (`L` and `M`), reading gives the first one.

What a notation cannot say is a UserError, never an approximation.
"""

import ast
import json
from collections.abc import Callable
from typing import Any

from hybrids.errors import UserError
from hybrids.notation import blocks, sublayers
from hybrids.notation.symbols import Converted
from hybrids.pattern import Pattern


def parse_notation(notation: str, text: str) -> Converted:
    """Read `text` as pasted from a config: JSON, Python, `key=value, ...`, or bare names with commas."""
    if notation not in PARSERS:
        raise UserError(f"unknown notation {notation!r}; allowed: {', '.join(PARSERS)}")
    if not isinstance(text, str):
        raise UserError(f"{notation}: {text!r} is {type(text).__name__}, not text")
    return PARSERS[notation](text.strip())


def describe(pattern: Pattern, *, window: int | None = None) -> list[tuple[str, str]]:
    """For each notation its name, and the text or "cannot: " and the reason; H stands for the heads."""
    heads = {"num_heads": _Word("H")}
    windowed = {**heads, "window_size": window} if window else None
    writers: dict[str, Callable[[], Any]] = {
        "megatron": lambda: sublayers.to_megatron(pattern),
        "megatron, MLP in each block": lambda: sublayers.to_megatron(pattern, mlp="-"),
        "nemotron_h": lambda: sublayers.to_nemotron_h(pattern),
        "nemotron_h, MLP in each block": lambda: sublayers.to_nemotron_h(pattern, mlp="-"),
        "layers_block_type": lambda: sublayers.to_layers_block_type(pattern),
        "layer_types": lambda: blocks.to_layer_types(pattern, window=window),
        "qwen3_next": lambda: blocks.to_qwen3_next(pattern),
        "jamba": lambda: blocks.to_jamba(pattern),
        "fla": lambda: blocks.to_fla(pattern, attention=heads, window=windowed),
        "mamba": lambda: blocks.to_mamba(pattern, attn_cfg=heads, ssm_cfg={"layer": "Mamba2"}),
    }
    return [(name, _spell(name, write)) for name, write in writers.items()]


class _Word(str):
    """A placeholder, written without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _spell(name: str, write: Callable[[], Any]) -> str:
    try:
        config = write()
    except UserError as error:
        return f"cannot: {str(error).removeprefix(name.split(',')[0] + ': ')}"
    return ", ".join(f"{k}={v!r}" for k, v in config.items()) if isinstance(config, dict) else str(config)


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval, lambda t: json.loads("{" + t + "}"), _keywords):
        try:
            return read(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return [name.strip() for name in text.strip("[](), ").split(",")]


def _keywords(text: str) -> dict[str, Any]:
    call = ast.parse(f"dict({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args or not call.keywords:
        raise UserError("not a list of key=value")
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


def _nemotron_h_text(text: str) -> Converted:
    is_string = not (set(text) & set("[({=,")) and not any(c.islower() for c in text)
    return sublayers.from_nemotron_h(text.strip("\"'") if is_string else _literal(text))


PARSERS: dict[str, Callable[[str], Converted]] = {
    "megatron": lambda text: sublayers.from_megatron(text.strip("\"'")),
    "nemotron_h": _nemotron_h_text,
    "layer_types": lambda text: blocks.from_layer_types(_literal(text)),
    "fla": lambda text: blocks.from_fla(_literal(text)),
    "mamba": lambda text: blocks.from_mamba(_literal(text)),
}
"""Notations that are read, by name."""
