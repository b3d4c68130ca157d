"""The table of architectures: layers of the published model in their order, and a formula for each kind of layer.

An architecture is a pattern of letters; a letter is one or more parts (a mixer, a channel mixer); a part has formulas
in n, the tokens seen, and in sizes. State, step and reach of an architecture are the sums over its layers, as sympy
expressions in which a size that differs from letter to letter carries the letter as index.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, TypeAlias

import sympy
from sympy.parsing.sympy_parser import parse_expr

from hybrids.pattern import Layer, Pattern

n = sympy.Symbol("n", positive=True)
"""Tokens seen."""

Values: TypeAlias = dict[Any, Any]
"""Numbers of sympy by symbol; Any, as `subs` is annotated more narrowly than it is."""

QUANTITIES = ("state", "step", "reach")

_FILES = {"attention": "attention.toml", "recurrent": "recurrent.toml", "hybrid": "stacks.toml"}
"""Files of architectures, by the family that they hold."""


@dataclass(frozen=True)
class Part:
    """One mixer or channel mixer as formulas, and the plugin that runs it, if there is one."""

    name: str
    title: str
    state: sympy.Expr
    """Elements carried after n tokens."""
    step: sympy.Expr
    """FLOPs of the decode step that follows them."""
    reach: sympy.Expr
    """Elements of the state that a step can bring to its output, over all queries."""
    note: str = ""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    mixer: str | None = None
    channel: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_channel(self) -> bool:
        """Whether it stands once in a layer whose letters are joined."""
        return self.channel is not None

    @property
    def is_runnable(self) -> bool:
        return self.mixer is not None or self.channel is not None

    def values(self, given: Mapping[str, Any], *, small: bool = False) -> Values:
        """Every size that its formulas and settings name: the given one, or its own, or the common one.

        Small ones are for running it: of the given sizes only formulas hold there.
        """
        kept = {name: text for name, text in given.items() if isinstance(text, str) or not small}
        own = {**(self.small if small else self.sizes), **kept}
        values: dict[str, sympy.Expr] = {}

        def value(name: str) -> sympy.Expr:
            if name not in values:
                text = own.get(name, sizes()[name]["small" if small else "value"])
                formula = read_formula(str(text))
                values[name] = formula.subs({s: value(str(s)) for s in formula.free_symbols})
            return values[name]

        formulas = [self.state, self.step, self.reach]
        formulas += [read_formula(text) for text in self.settings.values() if isinstance(text, str)]
        for formula in formulas:
            for symbol in formula.free_symbols - {n}:
                value(str(symbol))
        return {size(name): value for name, value in values.items()}


@dataclass(frozen=True, eq=False)
class Architecture:
    """A published architecture."""

    name: str
    title: str
    family: str
    source: str
    """arXiv:<id>, doi:<id> or an address."""
    published: str
    """Year and month, or year."""
    pattern: Pattern
    letters: Mapping[str, tuple[Part, ...]]
    confirmed: str = ""
    """Where the source was read beside the paper's name: <owner>/<repository>: <path>, or an address; or empty."""
    confirmed_layers: str = ""
    """Where the layers were read: the order of a stack, or what one layer carries; or empty."""
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By letter, the sizes in which it differs from the parts' own; a formula, in quotes, holds at any scale."""
    preset: str | None = None
    """Option of `arch` that runs it, scaled down."""
    missing: str = ""
    """What this project lacks of it."""

    @property
    def is_runnable(self) -> bool:
        return all(
            all(part.is_runnable for part in parts) and sum(not part.is_channel for part in parts) <= 1
            for parts in self.letters.values()
        )

    @cached_property
    def counts(self) -> Mapping[Layer, int]:
        """How often each layer occurs."""
        return Counter(self.pattern.layers)

    @cached_property
    def state(self) -> sympy.Expr:
        """s(n): elements carried after n tokens."""
        return self._sum("state")

    @cached_property
    def step(self) -> sympy.Expr:
        """f(n): FLOPs of one decode step after n tokens, norms and head left out."""
        return self._sum("step")

    @cached_property
    def reach(self) -> sympy.Expr:
        """Elements of the state that one step can bring to the output, over all queries."""
        return self._sum("reach")

    @cached_property
    def values(self) -> Values:
        """The value of every size in the formulas."""
        return {self._symbol(letter, name): value for letter, name, value in self._sizes}

    def at(self, quantity: str, context: int) -> float:
        """State, step or reach after `context` tokens, at the values."""
        return float(getattr(self, quantity).subs(self.values).subs(n, context))

    def parts_of(self, layer: Layer) -> list[tuple[str, Part]]:
        """Parts of a layer with their letters; letters that are joined share one channel mixer."""
        first, *others = layer.letters
        parts = [(first, part) for part in self.letters[first]]
        return parts + [(letter, p) for letter in others for p in self.letters[letter] if not p.is_channel]

    def of_layer(self, quantity: str, layer: Layer) -> sympy.Expr:
        """State, step or reach of one layer, in the symbols of the architecture."""
        return sympy.Add(*(self._rename(letter, getattr(part, quantity)) for letter, part in self.parts_of(layer)))

    def spell(self, quantity: str) -> str:
        """The formula layer by layer, as in `28 M: I*(N + W - 1); 4 A: 2*G*K*n`."""
        terms = {str(layer): (count, self.of_layer(quantity, layer)) for layer, count in self.counts.items()}
        if len(terms) == 1:
            return str(next(iter(terms.values()))[1])
        return "; ".join(f"{count} {layer}: {formula}" for layer, (count, formula) in terms.items() if formula != 0)

    def _sum(self, quantity: str) -> sympy.Expr:
        return sympy.Add(*(count * self.of_layer(quantity, layer) for layer, count in self.counts.items()))

    def _rename(self, letter: str, formula: sympy.Expr) -> sympy.Expr:
        return formula.subs({s: self._symbol(letter, str(s)) for s in formula.free_symbols - {n}})

    def _symbol(self, letter: str, name: str) -> sympy.Symbol:
        values = {value for _, other, value in self._sizes if other == name}
        return size(name if len(values) == 1 else f"{name}_{letter}")

    @cached_property
    def _sizes(self) -> list[tuple[str, str, sympy.Expr]]:
        """Letter, name and value of every size that a formula has."""
        found = []
        for letter, parts in self.letters.items():
            given = dict(self.sizes.get(letter, {}))
            for part in parts:
                names = {str(s) for quantity in QUANTITIES for s in getattr(part, quantity).free_symbols}
                found += [(letter, str(s), v) for s, v in part.values(given).items() if str(s) in names]
        return found


@cache
def size(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, positive=True, integer=True)


@cache
def read_formula(text: str) -> sympy.Expr:
    """A formula in n and in the sizes of sizes.toml, whose names mean those sizes and nothing of sympy's."""
    names = {name: size(name) for name in sizes()} | {"n": n}
    formula: Any = parse_expr(text, local_dict=names)
    unknown = {str(s) for s in formula.free_symbols} - set(names)
    assert not unknown, f"{text} names {unknown}, which sizes.toml does not explain"
    return formula


@cache
def sizes() -> dict[str, dict[str, Any]]:
    """What every size means, its reference value and a small one, by symbol."""
    return _read("sizes.toml")


@cache
def parts() -> dict[str, Part]:
    """Every part by name."""
    return {name: _part(name, entry) for name, entry in _read("parts.toml").items()}


@cache
def architectures() -> dict[str, Architecture]:
    """Every architecture by name; attention first, then what is recurrent, then hybrids."""
    rows = [(name, family, entry) for family, file in _FILES.items() for name, entry in _read(file).items()]
    found = {name: _architecture(name, family, entry) for name, family, entry in rows}
    assert len(found) == len(rows), "two architectures have the same name"
    return found


def _read(file: str) -> dict[str, Any]:
    return tomllib.loads((files("hybrids.triangle.atlas") / file).read_text(encoding="utf-8"))


def _part(name: str, entry: dict[str, Any]) -> Part:
    texts = {"reach": entry["state"], **entry}
    formulas: dict[str, Any] = {quantity: read_formula(texts[quantity]) for quantity in QUANTITIES}
    return Part(name=name, **entry | formulas)


def _architecture(name: str, family: str, entry: dict[str, Any]) -> Architecture:
    layers: dict[str, str] = entry["layers"]
    given: dict[str, Any] = {key: value for key, value in entry.items() if key != "layers"}
    given["letters"] = {letter: tuple(parts()[part] for part in text.split()) for letter, text in layers.items()}
    given["pattern"] = Pattern.parse(entry.get("pattern", next(iter(layers))))
    given["published"] = entry["published"] if "published" in entry else _month(entry["source"])
    return Architecture(name=name, family=family, **given)


def _month(source: str) -> str:
    """Year and month in which an arXiv identifier was given out."""
    digits = source.removeprefix("arXiv:")
    assert source.startswith("arXiv:"), f"{source}: say when it was published"
    return f"20{digits[:2]}-{digits[2:4]}"
