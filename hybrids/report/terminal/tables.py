"""Tables for the terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence

from hybrids.report.terminal.table import print_meanings, print_rows
from hybrids.task import Task
from hybrids.training.curriculum import describe_stages
from hybrids.training.grid import GridCell, decoded_scores
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
    stages = result.get("curriculum", [])
    longest = max(result["context"], *(stage["length"] for stage in stages), 0)
    rows = [
        *describe_decoding(result.get("decoded", {})),
        (f"test accuracy{how}", f"{test['accuracy']:.4f}  (chance {result['chance_accuracy']:.1g})"),
        (f"test exact match{how}", f"{test['exact_match']:.4f}"),
        *((f"  {name}", f"{value:.4f}") for name, value in sliced.items()),
        ("parameters", f"{parameters['total']:,}  (backbone {parameters['backbone']:,})"),
        (f"state after {result['context']:,} tokens", f"{result['state_bits']:,} bits"),
        ("one decode step", f"{result['step_flops']:,} FLOPs  (+ {result['head_flops']:,} for the head)"),
        *(row for place in result.get("triangle", []) for row in describe_place(place, longest)),
        ("training", trained),
        *([("curriculum", describe_stages(stages))] if stages else []),
        ("time", f"{result['seconds']:.1f} s"),
        ("examples also in training", ", ".join(f"{split} {share:.2%}" for split, share in result["overlap"].items())),
        ("folder", folder),
    ]
    print_rows(f"run {result['id']}", ["measure", "value"], rows)
    print_meanings(MEANINGS)


MEANINGS = {
    "Efficiency": "1 - log2 of how many times a step costs more after 2n tokens than after n; 1: it costs the same",
    "Compactness": "1 - log2 of how many times the state is larger after 2n tokens than after n; 1: it does not grow",
    "Recall": "recalled bits over all bits that the facts of the task have; chance gives 0",
    "recalled": "bits of the facts that the answers prove to have been kept (mutual information), r",
    "from a state of": "bits carried after the last fact and before any query, s; by the law, r <= s. How much of s "
    "can be seen to be used is limited by the facts of the task",
    "beyond training": "at a context that the model was not trained at",
}
"""Of the words in the table of a run, for `--explain`."""


def describe_place(place: Place, trained: int | None = None) -> Iterator[tuple[str, str]]:
    """Rows on the coordinates and recalled bits at one context; a broken law is an error.

    `trained` is the context of training.
    """
    beyond = "  (beyond training)" if trained is not None and place["context"] > trained else ""
    title = f"triangle at {place['context']:,} tokens"
    coordinates = f"Efficiency {place['efficiency']:.2f}  Compactness {place['compactness']:.2f}"
    recall, bits, held, offered = (
        place[key] for key in ("recall", "recalled_bits", "facts_state_bits", "offered_bits")
    )
    if recall is None or bits is None or held is None or offered is None:
        yield title, f"{coordinates}  no Recall: {place.get('no_recall') or 'it was not measured'}{beyond}"
        return
    yield title, f"{coordinates}  Recall {recall:.2f}{beyond}"
    num_examples, facts_end = place.get("num_examples"), place.get("facts_end")
    examples = f" over {num_examples:,} examples" if num_examples else ""
    interval = f"95 % interval{examples}: {place['recalled_low']:.1f} to {place['recalled_high']:.1f}"
    yield "  recalled", f"{bits:.1f} of {offered:.1f} bits  ({interval})"
    after = f" after {facts_end:,} tokens, the last fact" if facts_end else ""
    most = f"; all facts would be {_share(offered / held)} of it" if held else ""
    error = "; ERROR: more than it holds" if place["law_broken"] else ""
    yield "  from a state of", f"{held:,} bits{after}{most}{error}"


def _share(value: float) -> str:
    return f"{value:.1g}" if value < 0.01 else f"{value:.2f}"


def describe_decoding(scores: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Rows on what a model wrote by itself, and on what it wrote with an oracle in place of its searches.

    What was undecided stands first: its half is in the accuracy, which says nothing of a model that decides nothing.
    """
    for prefix, title in (("", "decoded"), ("oracle/", "decoded, searches by oracle")):
        score = {name.removeprefix(prefix): value for name, value in scores.items() if name.startswith(prefix)}
        if score:
            low, high, strict = score["accuracy_low"], score["accuracy_high"], score["accuracy_strict"]
            yield title, f"{score['undecided']:.2%} undecided of {score['examples']:.0f} examples"
            yield "  accuracy", f"{strict:.4f}  (undecided is wrong)"
            how = f"95 % interval over examples: {low:.4f} to {high:.4f}"
            yield "  or", f"{score['accuracy']:.4f}  (undecided counts 0.5; {how})"
            yield "  written", f"{score['tokens']:.1f} tokens, {score['searches']:.1f} searches per example"


def print_grid(cells: Sequence[GridCell], folder: str, task: Task, trained: Sequence[Task]) -> None:
    """The scores of an evaluation, for the combinations of sizes that fit.

    `task` is the one that was evaluated; `trained` is it at every size of training.
    """
    how = _FORCED if decoded_scores(cells) else ""
    shown = [name for name in _DECODED_COLUMNS if name in decoded_scores(cells)]
    columns = [*(_DECODED_COLUMNS[name] for name in shown), f"accuracy{how}", f"exact match{how}", "chance", "trained"]
    rows = []
    for cell in (cell for cell in cells if not cell.reason):
        scores = (*(cell.decoded[name] for name in shown), cell.accuracy, cell.exact_match)
        told = ["" if score is None else f"{score:.4f}" for score in scores]
        is_trained = any(all(getattr(one, name) == cell.sizes[name] for name in cell.sizes) for one in trained)
        chance = task.resize(**cell.sizes).chance_accuracy
        rows.append([*cell.sizes.values(), *told, f"{chance:.2g}", "yes" if is_trained else ""])
    print_rows(f"evaluation of {folder}", [*cells[0].sizes, *columns], rows)
