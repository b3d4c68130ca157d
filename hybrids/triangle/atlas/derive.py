"""Which of Efficiency, Compactness and Recall an architecture has, derived from its formulas.

With s(n) the elements carried after n tokens, f(n) the FLOPs of the next step, and reach(n) <= s(n) the elements of the
state that this one step can bring to its output, over all queries:

    E holds   if f(n) is bounded as n grows
    C holds   if s(n) is bounded as n grows
    R holds   if reach(n) grows at least in proportion to n, that is reach(n) / n does not tend to 0

Why reach decides R: the state is fixed before the query comes, so the facts that the answers can depend on are in the
elements that some query can bring out; by the bound of `triangle/bound.py` their bits limit the facts recalled, and
facts that grow in proportion need elements that do. Reach counts the elements over all queries, not those that one
query reads: an index that opens one bucket of many reaches all of them. It is smaller than the state where what is
read does not depend on the query (a convolution over the context, attention at fixed distances). R here is what the
formulas allow; whether training finds it is measured elsewhere. C and R exclude each other, as reach <= s.

Growth is a limit: of 1, log n, log(n)^2, sqrt(n), sqrt(n) log n, n, n log n and n^2, the one whose ratio to the formula
tends to a positive number for all positive sizes. floor is left out for that (it changes a formula by a bounded
factor), and Min is the term that grows least. E and C hold *nearly* where f or s
grows without bound yet slower than any power of n (log n, log(n)^2): written in lower case, as the coordinate tends to
1 all the same. Where they grow like sqrt(n) the coordinate tends to 1/2, and the property fails.

At a context, the coordinates are those of `triangle/coordinates.py`, of the formulas: E = 1 - log2(f(2n) / f(n)),
C = 1 - log2(s(2n) / s(n)).
"""

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import sympy

from hybrids.triangle.atlas.table import Architecture, n
from hybrids.triangle.coordinates import flatness


class Verdict(Enum):
    """Whether a property holds."""

    HOLDS = "holds"
    NEARLY = "holds up to logarithms"
    FAILS = "fails"


@dataclass(frozen=True)
class Growth:
    """How a formula grows with n."""

    like: sympy.Expr
    exponent: float
    """The power of n, 0 for logarithms."""

    @property
    def is_bounded(self) -> bool:
        return self.like == 1

    @property
    def spelt(self) -> str:
        return str(self.like)


_SCALE = [
    Growth(sympy.Integer(1), 0.0),
    Growth(sympy.log(n), 0.0),
    Growth(sympy.log(n) ** 2, 0.0),
    Growth(sympy.sqrt(n), 0.5),
    Growth(sympy.sqrt(n) * sympy.log(n), 0.5),
    Growth(n, 1.0),
    Growth(n * sympy.log(n), 1.0),
    Growth(n**2, 2.0),
]


@dataclass(frozen=True)
class Property:
    """A property of an architecture, and why."""

    verdict: Verdict
    growth: Growth
    """Of what decides it: step, state or reach."""
    slope: float
    """That quantity over its growth, in the limit, at the architecture's sizes."""
    why: str

    @property
    def spelt(self) -> str:
        """What decides it far out, such as `16,384 n`."""
        number = f"{self.slope:,.0f}" if 1 <= self.slope < 1e9 else f"{self.slope:.3g}"
        return number if self.growth.is_bounded else f"{number} {self.growth.spelt}"


@dataclass(frozen=True)
class Properties:
    """What the formulas of an architecture imply."""

    efficiency: Property
    compactness: Property
    recall: Property

    @property
    def by_letter(self) -> dict[str, Property]:
        return {"E": self.efficiency, "C": self.compactness, "R": self.recall}

    @property
    def label(self) -> str:
        """The properties that hold, such as `EC`; lower case for nearly, `-` for none."""
        spelt = {Verdict.HOLDS: str.upper, Verdict.NEARLY: str.lower, Verdict.FAILS: lambda letter: ""}
        return "".join(spelt[prop.verdict](letter) for letter, prop in self.by_letter.items()) or "-"


@cache
def growth_of(formula: sympy.Expr) -> Growth:
    """The member of the scale that a formula grows like; ValueError for one like none of them.

    Of a sum of positive terms it is the growth of the term that grows most.
    """
    eventual = _eventually(formula)
    growing = [term for term in sympy.Add.make_args(sympy.expand(eventual)) if term.has(n)]
    factors = [term.as_independent(n, as_Add=False) for term in growing]
    if all(number.is_positive for number, _ in factors):
        return max((_compare(rest) for _, rest in factors), key=_SCALE.index, default=_SCALE[0])
    return _compare(eventual)


@cache
def _compare(formula: sympy.Expr) -> Growth:
    """The first member of the scale whose ratio to the formula has a positive, finite limit."""
    for member in _SCALE:
        ratio = _ratio(formula, member.like)
        if ratio.is_positive and ratio.is_finite:
            return member
    raise ValueError(f"{formula} grows like none of {', '.join(member.spelt for member in _SCALE)}")


def growth_in(architecture: Architecture, quantity: str) -> Growth:
    """Growth of state, step or reach: of the part that grows most, since the others only add to it."""
    parts = [part for layer in architecture.counts for _, part in architecture.parts_of(layer)]
    return max((growth_of(getattr(part, quantity)) for part in parts), key=_SCALE.index)


def slope_of(formula: Any, growth: Growth) -> float:
    """The limit of a formula in n alone over what it grows like."""
    terms = sympy.Add.make_args(sympy.expand(_eventually(formula)))
    factors = [term.as_independent(n, as_Add=False) for term in terms]
    return float(sum(number * _ratio(rest, growth.like) for number, rest in factors))


@cache
def _ratio(formula: sympy.Expr, like: sympy.Expr) -> sympy.Expr:
    return sympy.limit(formula / like, n, sympy.oo)


@cache
def derive(architecture: Architecture) -> Properties:
    """E, C and R of an architecture, from its formulas alone."""
    return Properties(
        efficiency=_bounded(architecture, "step", "a step costs"),
        compactness=_bounded(architecture, "state", "the state takes"),
        recall=_proportional(architecture),
    )


def coordinates(architecture: Architecture, context: int) -> tuple[float, float]:
    """Efficiency and Compactness at `context`, of the formulas at the architecture's sizes."""
    step, state = (
        flatness(architecture.at(quantity, context), architecture.at(quantity, 2 * context))
        for quantity in ("step", "state")
    )
    return step, state


def _bounded(architecture: Architecture, quantity: str, subject: str) -> Property:
    growth = growth_in(architecture, quantity)
    slope = slope_of(getattr(architecture, quantity).subs(architecture.values), growth)
    if growth.is_bounded:
        return Property(Verdict.HOLDS, growth, slope, f"{subject} no more than a constant")
    verdict = Verdict.NEARLY if growth.exponent == 0 else Verdict.FAILS
    why = f"{subject} as much as {growth.spelt} ({_growing(architecture, quantity)})"
    return Property(verdict, growth, slope, why)


def _proportional(architecture: Architecture) -> Property:
    growth, state = growth_in(architecture, "reach"), growth_in(architecture, "state")
    slope = slope_of(architecture.reach.subs(architecture.values), growth)
    if growth.exponent >= 1:
        where = _growing(architecture, "reach")
        return Property(Verdict.HOLDS, growth, slope, f"a query can reach as much as {growth.spelt} ({where})")
    reached = "a constant" if growth.is_bounded else f"as much as {growth.spelt}"
    rest = f" of a state of {state.spelt}" if state != growth else ""
    return Property(Verdict.FAILS, growth, slope, f"a query can reach no more than {reached}{rest}")


def _growing(architecture: Architecture, quantity: str) -> str:
    """The layers in which a quantity grows, and how many of all."""
    growing = [
        layer
        for layer in architecture.counts
        if not all(growth_of(getattr(part, quantity)).is_bounded for _, part in architecture.parts_of(layer))
    ]
    total = sum(architecture.counts.values())
    if len(growing) == len(architecture.counts):
        return "every layer"
    number = sum(architecture.counts[layer] for layer in growing)
    return f"{', '.join(map(str, growing))}: {number} of {total} layers"


def _eventually(formula: sympy.Expr) -> Any:
    """The formula without floors, and with the slowest term of every Min: what decides its growth."""
    smooth = formula.replace(sympy.floor, lambda x: x)
    return smooth.replace(sympy.Min, lambda *terms: min(terms, key=lambda term: _SCALE.index(growth_of(term))))
