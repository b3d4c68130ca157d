"""What W&B shows of a finished run, under keys that are the same for every run, so that panels can compare them.

The dashboard (report/dashboard.py) takes its keys from here.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hybrids.training.record import Result, Sizes
from hybrids.triangle.place import FACTORS, Place

if TYPE_CHECKING:
    from wandb import Run as WandbRun

STEP_KEY = "trainer/global_step"
"""Optimiser steps, the axis of everything that Lightning logs."""


def score_key(split: str, name: str = "accuracy") -> str:
    """Of a score over the training steps, or once at the end."""
    assert split in ("train", "val", "test")
    return f"{split}/{name}"


def size_key(name: str) -> str:
    """Of what a model is and costs at its training context."""
    assert name in Sizes.__annotations__
    return "parameters/backbone" if name == "parameters" else name


def place_key(factor: int, name: str) -> str:
    """Of a measure at `factor` times the training context: runs of several contexts share it."""
    assert factor in FACTORS and name in Place.__annotations__
    return f"triangle/{factor}x/{name}"


def curve_keys(slice_key: str) -> tuple[str, str]:
    """Of the values of a slice and of the test accuracy at each."""
    return f"by_{slice_key}/{slice_key}", f"by_{slice_key}/accuracy"


def table_key(slice_key: str) -> str:
    """Of the same as a table."""
    return f"accuracy_by_{slice_key}"


def figure_key(name: str) -> str:
    """Of a figure of a report, which is in a run of its own, of job type `report`."""
    return f"figures/{name}"


def log_result(log: "WandbRun", result: Result, *, rate: float) -> None:
    """Log a result: its numbers and the curves of accuracy as history, the rest as summary; then the curves as tables.

    Tables come last since W&B asks its server about each: the rest is logged where that fails.
    """
    import wandb

    log.log(dict(_numbers(result)))
    shown_otherwise = ("identity", "triangle", "val", "test", *Sizes.__annotations__)
    log.summary.update({key: value for key, value in result.items() if key not in shown_otherwise})
    curves = _curves(result)
    for slice_key, points in curves.items():
        value_key, accuracy_key = curve_keys(slice_key)
        for value, accuracy in points:
            log.log({value_key: value, accuracy_key: accuracy})
    identity = (result["identity"]["pattern"], rate, result["identity"]["seed"])
    for slice_key, points in curves.items():
        rows = [[*identity, value, accuracy] for value, accuracy in points]
        log.log({table_key(slice_key): wandb.Table(["pattern", "learning_rate", "seed", slice_key, "accuracy"], rows)})


def _numbers(result: Result) -> Iterator[tuple[str, Any]]:
    for name in Sizes.__annotations__:
        yield size_key(name), result["parameters"]["backbone"] if name == "parameters" else result[name]
    yield "parameters/total", result["parameters"]["total"]
    for place in result.get("triangle", []):
        factor = place["context"] // result["context"]
        yield from ((place_key(factor, name), value) for name, value in place.items() if _is_number(value))


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _curves(result: Result) -> dict[str, list[tuple[int, float]]]:
    """Slice key -> its values with the test accuracy at each, in order; a score that is no number is left out."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for name, accuracy in result["test"].items():
        kind, _, where = name.partition("/")
        if kind == "accuracy" and where and accuracy == accuracy:
            slice_key, _, value = where.partition("=")
            curves.setdefault(slice_key, []).append((int(value), accuracy))
    return {slice_key: sorted(points) for slice_key, points in curves.items()}
