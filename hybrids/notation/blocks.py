"""Notations whose entry is one block with its channel mixer: transformers, fla and mamba_ssm."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybrids.errors import UserError
from hybrids.notation.symbols import (
    Config,
    Converted,
    Symbols,
    check_list,
    check_names,
    read_number,
    to_entries,
    to_pattern,
    unread,
)
from hybrids.pattern import MAX_LAYERS, Pattern, quote

LAYER_TYPES: Symbols = {
    "L": "linear_attention",
    "M": "linear_attention",
    "A": "full_attention",
    "S": "sliding_attention",
}

FLA: Symbols = {"L": "native", "M": "native", "A": "attention", "S": "window"}

MAMBA: Symbols = {"L": "native", "M": "native", "A": "attention"}


def from_layer_types(given: Sequence[str] | Config, symbols: Symbols = LAYER_TYPES) -> Converted:
    """transformers: a `layer_types` list, or a config with it or the intervals of Qwen3-Next or Jamba."""
    config = given if isinstance(given, Mapping) else {"layer_types": given}
    names, used = _layer_type_names(config)
    pattern = to_pattern(names, symbols, "layer_types")
    notes = [
        "each block has its own MLP: choose the channel mixer",
        "which linear mixer, and all widths: not said",
    ]
    settings: dict[str, Any] = {}
    if "sliding_attention" in names:
        settings["window"] = _check_window(config.get("sliding_window"), "layer_types")
        notes.append(f"sliding window of {settings['window']}")
        used.add("sliding_window")
    return Converted(pattern, (*notes, *unread(config, used)), settings)


def to_layer_types(pattern: Pattern, *, window: int | None = None, symbols: Symbols = LAYER_TYPES) -> dict[str, Any]:
    """transformers: `layer_types`, with `sliding_window` where a layer has one."""
    names = to_entries(pattern, symbols, "layer_types")
    if "sliding_attention" not in names:
        return {"layer_types": names}
    return {"layer_types": names, "sliding_window": _check_window(window, "layer_types")}


def to_qwen3_next(pattern: Pattern, *, symbols: Symbols = LAYER_TYPES) -> dict[str, int]:
    """Qwen3-Next `full_attention_interval`, where the pattern is periodic in that way."""
    names = _two_kinds(pattern, symbols, "qwen3_next")
    full = [*(i for i, name in enumerate(names) if name == "full_attention"), len(names)]
    config = {"num_hidden_layers": len(names), "full_attention_interval": full[0] + 1}
    if _qwen3_next_names(config) != names:
        raise UserError("qwen3_next: full attention must stand at every k-th layer, and only there")
    return config


def to_jamba(pattern: Pattern, *, symbols: Symbols = LAYER_TYPES) -> dict[str, int]:
    """Jamba `attn_layer_period` and `attn_layer_offset`, where the pattern is periodic in that way."""
    names = _two_kinds(pattern, symbols, "jamba")
    n = len(names)
    full = [i for i, name in enumerate(names) if name == "full_attention"] or [n]
    period = full[1] - full[0] if len(full) > 1 else max(n, full[0] + 1)
    config = {"num_hidden_layers": n, "attn_layer_period": period, "attn_layer_offset": full[0]}
    if full[0] >= period or _jamba_names(config) != names:
        raise UserError("jamba: attention must stand at every layer i with i % period = offset, and only there")
    return config


def from_fla(config: Config, symbols: Symbols = FLA) -> Converted:
    """flash-linear-attention: `num_hidden_layers` and `attn` (None, a dict or a list of dicts)."""
    kinds = ["native"] * _depth(config, "num_hidden_layers", "fla")
    attn = config.get("attn")
    settings: dict[str, Any] = {}
    for spec in [] if attn is None else [attn] if isinstance(attn, Mapping) else check_list(attn, "fla attn"):
        kind, rest = _fla_spec(spec)
        if settings.setdefault(kind, rest) != rest:
            raise UserError(f"fla: {settings[kind]} and {rest} would be one letter; give each its own pattern letter")
        _place(kinds, spec["layers"], kind, "fla attn layers")
    notes = [
        "model_type says what the native mixer is",
        *(f"{kind}: {rest}" for kind, rest in settings.items()),
    ]
    notes += unread(config, {"num_hidden_layers", "attn"})
    return Converted(to_pattern(kinds, symbols, "fla"), tuple(notes), settings)


def to_fla(
    pattern: Pattern, *, attention: Config | None = None, window: Config | None = None, symbols: Symbols = FLA
) -> dict[str, Any]:
    """fla config; `attention` and `window` are the rest of their specs: `num_heads`, `window_size`, ..."""
    kinds = to_entries(pattern, symbols, "fla")
    specs = []
    for kind, rest in (("attention", attention), ("window", window)):
        layers = [i for i, found in enumerate(kinds) if found == kind]
        if layers:
            specs.append({"layers": layers, **_check_fla_rest(kind, rest)})
    return {"num_hidden_layers": len(kinds), "attn": specs if len(specs) > 1 else specs[0] if specs else None}


def from_mamba(config: Config, symbols: Symbols = MAMBA) -> Converted:
    """mamba_ssm `MambaConfig`: `n_layer`, `attn_layer_idx`, `attn_cfg`, `ssm_cfg`, `d_intermediate`."""
    kinds = ["native"] * _depth(config, "n_layer", "mamba")
    _place(kinds, config.get("attn_layer_idx") or [], "attention", "mamba attn_layer_idx")
    attn_cfg, ssm_cfg = _check_config(config, "attn_cfg"), _check_config(config, "ssm_cfg")
    width = read_number(config.get("d_intermediate", 0), "d_intermediate", 0)
    notes = [
        f"the native mixer is {ssm_cfg.get('layer', 'Mamba1')}",
        "a gated MLP in every block" if width else "no MLP: the channel mixer is none",
    ]
    if "attention" in kinds and not attn_cfg.get("causal", False):
        notes.append("attn_cfg does not set causal=True, so attention there sees the future; ours never does")
    settings = {"attn_cfg": attn_cfg, "ssm_cfg": ssm_cfg, "d_intermediate": width}
    notes += unread(config, {"n_layer", "attn_layer_idx", *settings})
    return Converted(to_pattern(kinds, symbols, "mamba"), tuple(notes), settings)


def to_mamba(
    pattern: Pattern,
    *,
    attn_cfg: Config | None = None,
    ssm_cfg: Config | None = None,
    d_intermediate: int = 0,
    symbols: Symbols = MAMBA,
) -> dict[str, Any]:
    """`MambaConfig` arguments; attention is causal unless `attn_cfg` says otherwise."""
    kinds = to_entries(pattern, symbols, "mamba")
    indices = [i for i, kind in enumerate(kinds) if kind == "attention"]
    config: dict[str, Any] = {"n_layer": len(kinds), "attn_layer_idx": indices}
    if indices:
        config["attn_cfg"] = {"causal": True, **(attn_cfg or {})}
    if ssm_cfg or "M" in pattern.letters:
        config["ssm_cfg"] = dict(ssm_cfg or {"layer": "Mamba2"})
    return config | ({"d_intermediate": d_intermediate} if d_intermediate else {})


def _layer_type_names(config: Config) -> tuple[list[str], set[str]]:
    """One name per layer, and the keys that were read."""
    depth = "num_hidden_layers"
    for key in ("layer_types", "layers_block_type"):
        if config.get(key) is not None:
            names = check_names(config[key], key)
            if config.get(depth, len(names)) != len(names):
                raise UserError(f"layer_types: {depth}={config[depth]} but {key} has {len(names)} entries")
            return names, {key, depth}
    if "full_attention_interval" in config:
        return _qwen3_next_names(config), {depth, "full_attention_interval"}
    if config.keys() & {"attn_layer_period", "attn_layer_offset"}:
        return _jamba_names(config), {depth, "attn_layer_period", "attn_layer_offset"}
    raise UserError(
        "layer_types: give layer_types, or num_hidden_layers with full_attention_interval (Qwen3-Next) "
        "or with attn_layer_period and attn_layer_offset (Jamba)"
    )


def _qwen3_next_names(config: Config) -> list[str]:
    interval = read_number(config["full_attention_interval"], "full_attention_interval", 1)
    return _names(_depth(config, "num_hidden_layers", "qwen3_next"), interval, interval - 1)


def _jamba_names(config: Config) -> list[str]:
    period = read_number(config.get("attn_layer_period", 8), "attn_layer_period", 1)
    offset = read_number(config.get("attn_layer_offset", 4), "attn_layer_offset", 0)
    if offset >= period:
        raise UserError(f"jamba: attn_layer_offset={offset} must be below attn_layer_period={period}")
    return _names(_depth(config, "num_hidden_layers", "jamba"), period, offset)


def _names(depth: int, period: int, offset: int) -> list[str]:
    return ["full_attention" if i % period == offset else "linear_attention" for i in range(depth)]


def _two_kinds(pattern: Pattern, symbols: Symbols, target: str) -> list[str]:
    names = to_entries(pattern, symbols, target)
    if not {*names} <= {"linear_attention", "full_attention"}:
        raise UserError(f"{target}: only linear and full attention can be said")
    return names


def _fla_spec(spec: Any) -> tuple[str, dict[str, Any]]:
    """Kind of the layers of one attention spec, and the rest of it."""
    if not isinstance(spec, Mapping) or not {"layers", "num_heads"} <= spec.keys():
        raise UserError(f"fla: attn {spec!r} must be a dict with at least layers and num_heads")
    read_number(spec["num_heads"], "fla attn num_heads", 1)
    rest = {key: value for key, value in spec.items() if key != "layers"}
    if spec.get("window_size") is None:
        return "attention", rest
    _check_window(spec["window_size"], "fla")
    return "window", rest


def _check_fla_rest(kind: str, rest: Config | None) -> Config:
    needed = {"num_heads", "window_size"} if kind == "window" else {"num_heads"}
    if rest is None or not needed <= rest.keys():
        raise UserError(f"fla: {kind} layers need {' and '.join(sorted(needed))}")
    return rest


def _place(kinds: list[str], indices: Any, kind: str, source: str) -> None:
    for index in check_list(indices, source):
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(kinds):
            raise UserError(f"{source}: {index!r} must be an integer from 0 to {len(kinds) - 1}")
        if kinds[index] != "native":
            raise UserError(f"{source}: layer {index} is named twice")
        kinds[index] = kind


def _depth(config: Any, key: str, source: str) -> int:
    if not isinstance(config, Mapping) or key not in config:
        raise UserError(f"{source}: {quote(repr(config))} must be a config with {key}")
    depth = read_number(config[key], key, 1)
    if depth > MAX_LAYERS:
        raise UserError(f"{source}: {key}={depth}; at most {MAX_LAYERS:,} layers are allowed")
    return depth


def _check_window(value: Any, source: str) -> int:
    if value is None:
        raise UserError(f"{source}: sliding-window layers need a window, and none is given")
    return read_number(value, f"{source} window", 1)


def _check_config(config: Config, key: str) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{key}={value!r} must be a dict")
    return dict(value)
