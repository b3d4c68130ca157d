"""Checks of the constructor: its keyword-only arguments are the configuration."""

import inspect
import types
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from hybrids.checks.subject import Subject

_PLAIN = (int, float, bool, str)
_ALLOWED = "int, float, bool, str, an Enum, a list or a dict with str keys of these, each also with `| None`"


def settings_are_a_schema(subject: Subject) -> None:
    """Every setting is keyword-only, annotated with a type that a configuration can hold, and defaulted."""
    hints = get_type_hints(subject.cls.__init__)
    parameters = list(inspect.signature(subject.cls).parameters.values())
    if parameters and parameters[0].name == "d_model":  # which a module gets from the backbone
        del parameters[0]
    for parameter in parameters:
        where = f"setting {parameter.name!r} of {subject.cls.__name__}"
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{where} is not keyword-only: put it after `*`"
        assert parameter.default is not inspect.Parameter.empty, f"{where} has no default"
        assert parameter.name in hints, f"{where} has no annotation"
        hint = hints[parameter.name]
        assert _is_allowed(hint), f"{where} is annotated {hint}; allowed: {_ALLOWED}"
        assert _fits(parameter.default, hint), f"{where} has the default {parameter.default!r}, which is not {hint}"


def _is_allowed(hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return len(inner) == 1 and len(args) == 2 and _is_allowed(inner[0])
    if origin in (list, dict):
        return (origin is list or args[0] is str) and _is_allowed(args[-1])
    return hint in _PLAIN or (isinstance(hint, type) and issubclass(hint, Enum))


def _fits(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin in (list, dict):
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, origin) and all(_fits(item, args[-1]) for item in items)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)
