"""Notations whose entry is one sublayer, MLPs included: Megatron-LM and NemotronH."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybrids.errors import UserError
from hybrids.notation.symbols import LEGACY, Config, Converted, Symbols, check_names, to_entries, to_pattern, unread
from hybrids.pattern import Pattern, quote

MEGATRON: Symbols = {"L": "M", "M": "M", "G": "G", "A": "*", "S": "W", "F": "-", "E": "E"}

NEMOTRON_H: Symbols = {"L": "M", "M": "M", "A": "*", "F": "-", "E": "E"}

_BLOCK_TYPES = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}

_MLPS = ("-", "E")


def from_megatron(text: str, symbols: Symbols = MEGATRON) -> Converted:
    """Megatron-LM `--hybrid-layer-pattern`: one character per sublayer, MLPs included."""
    _check_text(text, "megatron")
    _check_full_attention_alone(text, "megatron")
    return _from_sublayers(list(text), symbols, f"megatron {quote(text)}")


def to_megatron(pattern: Pattern, *, mlp: str = "", symbols: Symbols = MEGATRON) -> str:
    """Megatron-LM string; `mlp` ("-" or "E") is written after every mixer."""
    text = "".join(_to_sublayers(pattern, mlp, symbols, "megatron"))
    _check_full_attention_alone(text, "megatron")
    return text


def from_nemotron_h(given: str | Sequence[str] | Config, symbols: Symbols = NEMOTRON_H) -> Converted:
    """NemotronH: `hybrid_override_pattern`, `layers_block_type`, or a config, whose list beats its string."""
    if isinstance(given, Mapping):
        return _from_nemotron_h_config(given, symbols)
    if isinstance(given, str):
        _check_text(given, "nemotron_h")
        return _from_sublayers(list(given), symbols, f"nemotron_h {quote(given)}")
    characters = {name: character for character, name in _BLOCK_TYPES.items()}
    names = [LEGACY.get(name, name) for name in check_names(given, "layers_block_type")]
    for number, name in enumerate(names, 1):
        if name not in characters and name not in symbols.values():
            raise UserError(f"layers_block_type, entry {number}: {name!r}; allowed: {', '.join(characters)}")
    return _from_sublayers([characters.get(name, name) for name in names], symbols, "layers_block_type")


def to_nemotron_h(pattern: Pattern, *, mlp: str = "", symbols: Symbols = NEMOTRON_H) -> str:
    """NemotronH `hybrid_override_pattern`; `mlp` ("-" or "E") is written after every mixer."""
    return "".join(_to_sublayers(pattern, mlp, symbols, "nemotron_h"))


def to_layers_block_type(pattern: Pattern, *, mlp: str = "", symbols: Symbols = NEMOTRON_H) -> list[str]:
    """NemotronH `layers_block_type`, the same stack as a list of names."""
    return [_BLOCK_TYPES.get(c, c) for c in _to_sublayers(pattern, mlp, symbols, "layers_block_type")]


def pattern_from_ratios(layers: int, attention: float, mlp: float = 0.0) -> str:
    """Megatron string of its older ratio options: attention, then MLPs, spread evenly over Mamba layers."""
    if layers < 1 or min(attention, mlp) < 0 or attention + mlp > 1:
        raise UserError(f"layers={layers}, attention={attention}, mlp={mlp}: layers >= 1, ratios >= 0, sum <= 1")
    attentions, mlps = round(layers * attention), round(layers * mlp)
    mambas = layers - attentions
    stack = _spread(["M"] * layers, "*", mambas / (attentions + 1))
    return "".join(_spread(stack, "-", (mambas - mlps) / mlps) if mlps else stack)


def _from_sublayers(entries: list[str], symbols: Symbols, source: str) -> Converted:
    """Blocks where MLPs are nowhere or after every mixer; else one letter per sublayer."""
    notes = ["which linear mixer, heads, window and all widths: not said"]
    if "W" in entries:
        notes.append("W is a window of latent (MLA) attention there")
    mixers, mlps = entries[::2], set(entries[1::2])
    if len(mlps) == 1 and len(entries) % 2 == 0 and mlps <= {*_MLPS} and not {*_MLPS} & {*mixers}:
        mlp = entries[1]
        notes.append(f"{mlp!r} after every mixer: each block has a channel mixer, {'MoE' if mlp == 'E' else 'MLP'}")
        return Converted(to_pattern(mixers, symbols, source), tuple(notes), {"mlp": mlp})
    if {*_MLPS} & {*entries}:
        notes.append("MLPs are layers of their own: letters that bind no mixer; the other letters no channel mixer")
    else:
        notes.append("no MLPs: the channel mixer is none")
    return Converted(to_pattern(entries, symbols, source), tuple(notes))


def _to_sublayers(pattern: Pattern, mlp: str, symbols: Symbols, target: str) -> list[str]:
    entries = to_entries(pattern, symbols, target)
    if mlp not in ("", *_MLPS):
        raise UserError(f"{target}: mlp={mlp!r}; allowed: '', '-' (MLP), 'E' (MoE)")
    if mlp and {*_MLPS} & {*entries}:
        raise UserError(f"{target}: the pattern has MLP layers of its own, so none can follow every mixer")
    return [part for entry in entries for part in (entry, mlp) if part]


def _from_nemotron_h_config(config: Config, symbols: Symbols) -> Converted:
    keys = [key for key in ("layers_block_type", "hybrid_override_pattern") if config.get(key) is not None]
    if not keys:
        raise UserError("nemotron_h: layers_block_type or hybrid_override_pattern is needed")
    stack = config[keys[0]]
    read = from_nemotron_h(stack, symbols)
    notes = [*read.notes, *unread(config, {*keys, "num_hidden_layers"})]
    depth = config.get("num_hidden_layers", len(stack))
    if depth != len(stack):
        notes.append(f"num_hidden_layers={depth} is ignored: {keys[0]} has {len(stack)} entries")
    if len(keys) > 1:
        notes.append("hybrid_override_pattern is ignored: layers_block_type beats it")
    return Converted(read.pattern, tuple(notes), read.settings)


def _spread(stack: list[str], symbol: str, section: float) -> list[str]:
    """Place `symbol` on the Mamba layers, one after each section of them."""
    stack, left = list(stack), section
    for i in [i for i, kind in enumerate(stack) if kind == "M"]:
        if left < 0.5:
            stack[i] = symbol
        left += section if left < 0.5 else -1
    return stack


def _check_text(text: Any, source: str) -> None:
    if not isinstance(text, str) or not text:
        raise UserError(f"{source}: {text!r} must be a string of one character per sublayer, and not empty")


def _check_full_attention_alone(text: str, source: str) -> None:
    if "*" in text and "W" in text:
        raise UserError(f"{source} {quote(text)}: '*' may not stand in one model with 'W' (nor with + D C H)")
