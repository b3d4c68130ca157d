"""Two runs beside each other: the settings that differ, and every number with the interval of the difference."""

import math
from collections.abc import Iterator
from typing import Any

from hybrids.report.page.collect import ReportedRun
from hybrids.report.page.compare import Comparison, flatten, setting_name
from hybrids.report.terminal.table import print_rows
from hybrids.studies.paired import Number, Pair


def print_settings(first: ReportedRun, second: ReportedRun) -> None:
    """The settings that can change a number, and what the runs were trained with, where they differ."""
    rows = [[name, *("" if value is None else value for value in both)] for name, *both in _differing(first, second)]
    print_rows("what differs", ["setting", "A", "B"], rows or [["nothing", "", ""]])


def print_numbers(pair: Pair) -> None:
    """Every number of both runs; what has no interval was counted, or measured once."""
    rows = [
        [one.measure, *map(_spell, (one.first, one.second, one.difference)), _interval(one), _spell(one.num_examples)]
        for one in pair.numbers
    ]
    print_rows("numbers", ["measure", "A", "B", "B - A", "95 % interval of B - A", "over examples"], rows)


def explain(pair: Pair) -> str:
    """What the intervals are over, and what they leave out."""
    how = "which are the same and compared one by one" if pair.is_paired else "which are not the same for A and B"
    return f"intervals are over test examples, {how}; what another seed of training changes is not in them"


def _differing(first: ReportedRun, second: ReportedRun) -> Iterator[tuple[str, Any, Any]]:
    comparison = Comparison([first, second])
    for key in comparison.differences():
        yield setting_name(key), comparison.setting(first, key), comparison.setting(second, key)
    for group in ("hardware", "code"):
        one, other = (flatten(run.result[group]) for run in (first, second))
        for key in (key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)):
            yield f"{group}: {key}", one.get(key), other.get(key)


def _spell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{4 if abs(value) < 10 else 1}f}"


def _interval(number: Number) -> str:
    if number.interval is None or not all(map(math.isfinite, number.interval)):
        return ""
    low, high = number.interval
    return f"{_spell(low)} to {_spell(high)}"
