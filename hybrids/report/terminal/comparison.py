"""Two runs beside each other: the settings that differ, and every number with the interval of the difference."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from hybrids.report.page.collect import ReportedRun
from hybrids.report.page.compare import Comparison, flatten, setting_name
from hybrids.report.terminal.table import print_rows
from hybrids.studies.paired import Number, Pair


def print_settings(first: ReportedRun, second: ReportedRun) -> None:
    """The settings that can change a number, and what the runs were trained with, where they differ."""
    rows = [[name, _text(one), _text(other)] for name, one, other in _differing(first, second)]
    print_rows("what differs", ["setting", "A", "B"], rows or [["nothing", "", ""]])


def print_numbers(pair: Pair) -> None:
    """Every number of both runs; what has no interval was counted, or measured once."""
    rows = [
        [one.measure, *map(_spell, (one.first, one.second)), _signed(one.difference), _interval(one)]
        for one in pair.numbers
    ]
    print_rows("numbers", ["measure", "A", "B", "B - A", "95 % interval of B - A"], rows)


def explain(pair: Pair) -> str:
    """What the intervals are over, and what they leave out."""
    how = (
        f"the same {pair.num_examples:,} test examples, compared one by one"
        if pair.is_paired
        else f"{pair.num_examples:,} test examples of each run, which are not the same"
    )
    return f"intervals are over {how}; what another seed of training changes is not in them"


def _differing(first: ReportedRun, second: ReportedRun) -> Iterator[tuple[str, Any, Any]]:
    comparison = Comparison([first, second])
    for key in comparison.differences():
        yield setting_name(key), *(comparison.setting(run, key) for run in (first, second))
    for group in ("hardware", "code"):
        one, other = (flatten(run.result[group]) for run in (first, second))
        for key in (key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)):
            yield f"{group}: {key}", one.get(key), other.get(key)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return "" if value is None else str(value)


def _spell(value: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    return f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign},.{4 if abs(value) < 10 else 1}f}"


def _signed(value: float | None) -> str:
    return _spell(value, "+")


def _interval(number: Number) -> str:
    if number.interval is None or not all(map(math.isfinite, number.interval)):
        return ""
    low, high = number.interval
    return f"{_signed(low)} to {_signed(high)}"
