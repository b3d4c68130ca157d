"""Tables for the terminal."""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hybrids.training.evaluate import GridCell, decoded_scores
from hybrids.training.record import Result
from hybrids.triangle.place import Place

_FILE_WIDTH = 240
_FORCED = ", teacher-forced"
_DECODED_COLUMNS = {
    "accuracy": "decoded",
    "accuracy_strict": "undecided wrong",
    "undecided": "undecided",
    "searches": "searches",
    "tokens": "tokens",
    "oracle/accuracy": "decoded, oracle",
}
"""Scores of decoding that the table of an evaluation shows, and their titles there; grid.csv has all."""


def print_result(result: Result, folder: str) -> None:
    """The numbers of one finished run."""
    parameters = result["parameters"]
    test = {name: math.nan if score is None else score for name, score in result["test"].items()}  # null: diverged
    how = _FORCED if "decoded" in result else ""
    sliced = {name.removeprefix("accuracy/"): value for name, value in test.items() if name.startswith("accuracy/")}
    trained = f"{result['steps']:,} steps, {result['examples']:,} examples, stopped at {result['stopped']}"
    rows = [
        *describe_decoding(result.get("decoded", {})),
        (f"test accuracy{how}", f"{test['accuracy']:.4f}  (chance {result['chance_accuracy']:.1g})"),
        (f"test exact match{how}", f"{test['exact_match']:.4f}"),
        *((f"  {name}", f"{value:.4f}") for name, value in sliced.items()),
        ("parameters", f"{parameters['total']:,}  (backbone {parameters['backbone']:,})"),
        (f"state after {result['context']} tokens", f"{result['state_bits']:,} bits"),
        ("one decode step", f"{result['step_flops']:,} FLOPs  (+ {result['head_flops']:,} for the head)"),
        *(row for place in result.get("triangle", []) for row in describe_place(place)),
        ("training", trained),
        ("time", f"{result['seconds']:.1f} s"),
        ("examples also in training", ", ".join(f"{split} {share:.2%}" for split, share in result["overlap"].items())),
        ("folder", folder),
    ]
    print_rows(f"run {result['id']}", ["measure", "value"], rows)


def describe_place(place: Place) -> Iterator[tuple[str, str]]:
    """Rows on the coordinates and recalled bits at one context; a broken law is an error."""
    title = f"triangle at {place['context']}"
    coordinates = f"Efficiency {place['efficiency']:.2f}  Compactness {place['compactness']:.2f}"
    recall, bits, held = place["recall"], place["recalled_bits"], place["facts_state_bits"]
    if recall is None or bits is None or held is None:
        yield title, f"{coordinates}  (no Recall)"
        return
    yield title, f"{coordinates}  Recall {recall:.2f}"
    interval = f"95 % interval {place['recalled_low']:.1f} to {place['recalled_high']:.1f}"
    yield "  recalled", f"{bits:.1f} of {place['offered_bits']:.1f} bits  ({interval})"
    error = "; ERROR: more than it holds" if place["law_broken"] else ""
    yield "  from a state of", f"{held:,} bits, {bits / held if held else 0:.2g} of it used{error}"


def describe_decoding(scores: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Rows on what a model wrote by itself, and on what it wrote with an oracle in place of its searches."""
    for prefix, title in (("", "decoded accuracy"), ("oracle/", "decoded, searches by oracle")):
        score = {name.removeprefix(prefix): value for name, value in scores.items() if name.startswith(prefix)}
        if score:
            low, high, strict = score["accuracy_low"], score["accuracy_high"], score["accuracy_strict"]
            how = f"95 % interval {low:.4f} to {high:.4f}, {score['examples']:.0f} examples, undecided counts 0.5"
            yield title, f"{score['accuracy']:.4f}  ({how})"
            yield "  undecided", f"{score['undecided']:.4f}  (counted as wrong, accuracy is {strict:.4f})"
            yield "  written", f"{score['tokens']:.1f} tokens, {score['searches']:.1f} searches per example"


def print_grid(cells: Sequence[GridCell], folder: str) -> None:
    """The scores of an evaluation, for the combinations of sizes that fit."""
    how = _FORCED if decoded_scores(cells) else ""
    shown = [name for name in _DECODED_COLUMNS if name in decoded_scores(cells)]
    columns = [*(_DECODED_COLUMNS[name] for name in shown), f"accuracy{how}", f"exact match{how}"]
    rows = []
    for cell in (cell for cell in cells if not cell.reason):
        scores = (*(cell.decoded[name] for name in shown), cell.accuracy, cell.exact_match)
        rows.append([*cell.sizes.values(), *("" if score is None else f"{score:.4f}" for score in scores)])
    print_rows(f"evaluation of {folder}", [*cells[0].sizes, *columns], rows)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Any table; columns of numbers stand to the right.

    On a terminal at its width; into a file or a pipe wide enough to be searched line by line.
    """
    table = Table(title=escape(title), title_justify="left")
    for i, column in enumerate(columns):
        is_numeric = all(re.fullmatch(r"[-+.,\dexn]*", str(row[i])) for row in rows)
        table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)
