"""The table behind every figure of a report. A figure is drawn from its table alone, and the table is its CSV."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from statistics import fmean
from typing import Any

from hybrids.report.page.collect import Place, ReportedRun
from hybrids.report.page.compare import Comparison, Model

Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """A figure as numbers."""

    name: str
    """Of its files."""
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What is not drawn, and why."""

    def to_csv(self) -> str:
        text = StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def triangle(comparison: Comparison) -> Series:
    """Places of the models, and the vertices of the paths between them: the mean of those with as many letters."""
    rows, notes, seen = [], [], set()
    for family, models in comparison.families().items():
        places = list(_seen_places(comparison, family, models))
        for _, at in groupby(sorted(places, key=lambda row: row["context"]), key=lambda row: row["context"]):
            here = list(at)
            rows += here + list(_path(here))
        seen |= {row["label"] for row in places}
    unmeasured = [model.label for model in comparison.models() if model.label not in seen]
    if not seen:
        notes.append("no result.json holds coordinates")
    elif unmeasured:
        notes.append(f"without coordinates in result.json: {', '.join(unmeasured)}")
    without = sorted({row["label"] for row in rows if row["kind"] == "model" and row["recall"] is None})
    if without:
        notes.append(
            f"Recall not measured, so not in the panels and the ternary plot that need it: {', '.join(without)}"
        )
    unplaced = sorted({row["label"] for row in rows if row["kind"] == "model" and _has_no_shares(row)})
    if unplaced:
        notes.append(f"a coordinate below 0, or all three 0, has no place in the ternary plot: {', '.join(unplaced)}")
    depths = {len(run.pattern) for run in comparison.runs}
    if len(depths) > 1 and not all(run.config.get("matched") for run in comparison.runs):
        notes.append(f"patterns of {', '.join(map(str, sorted(depths)))} layers are not matched, so no path joins them")
    caption = (
        f"Efficiency E, Compactness C and Recall R of each model at its contexts; a path joins the models of one "
        f"family at one context by their number of layers with {comparison.letter}, in the direction of the arrow, "
        "through the mean of those with equally many. Mean over the seeds; the range of R is in the table. E and C say "
        "how things grow, not how large they are: state and cost themselves are below."
    )
    columns = (
        "kind",
        "family",
        "context",
        "label",
        "pattern",
        "letters",
        "depth",
        "efficiency",
        "compactness",
        "recall",
    )
    return Series(
        "triangle",
        "Efficiency, Compactness, Recall",
        caption,
        (*columns, "recall_low", "recall_high", "total", "learning_rate", "seeds"),
        tuple(rows),
        tuple(notes),
    )


def _seen_places(comparison: Comparison, family: str, models: Sequence[Model]) -> Iterator[Row]:
    for model in models:
        for context, places in _by_context(model):
            recalls = [place.recall for place in places if place.recall is not None]
            yield _point(
                kind="model",
                family=family,
                context=context,
                label=model.label,
                pattern=model.pattern,
                letters=comparison.count(model.first),
                depth=len(model.first.pattern),
                efficiency=fmean(place.efficiency for place in places),
                compactness=fmean(place.compactness for place in places),
                recall=fmean(recalls) if recalls else None,
                recall_low=min(recalls, default=None),
                recall_high=max(recalls, default=None),
                learning_rate=model.rate,
                seeds=len(places),
            )


def _path(here: Sequence[Row]) -> Iterator[Row]:
    """One vertex for each number of letters; nothing where all have the same."""
    groups = [(count, list(rows)) for count, rows in groupby(here, key=lambda row: row["letters"])]
    for count, rows in groups if len(groups) > 1 else []:
        recalls = [row["recall"] for row in rows if row["recall"] is not None]
        yield _point(
            kind="path",
            family=rows[0]["family"],
            context=rows[0]["context"],
            label=rows[0]["label"] if len(rows) == 1 else f"{len(rows)} with {count}",
            pattern=rows[0]["pattern"] if len(rows) == 1 else f"{len(rows)} with {count}",
            letters=count,
            depth=rows[0]["depth"],
            efficiency=fmean(row["efficiency"] for row in rows),
            compactness=fmean(row["compactness"] for row in rows),
            recall=fmean(recalls) if recalls else None,
        )


def _point(**values: Any) -> Row:
    parts = (values["efficiency"], values["compactness"], values["recall"])
    return values | {"total": None if None in parts else sum(parts)}


def _has_no_shares(row: Row) -> bool:
    parts = (row["efficiency"], row["compactness"], row["recall"])
    return row["total"] is not None and (min(parts) < 0 or row["total"] == 0)


def _by_context(model: Model) -> Iterator[tuple[int, list[Place]]]:
    places = sorted((place for run in model.runs for place in run.places), key=lambda place: place.context)
    return ((context, list(group)) for context, group in groupby(places, key=lambda place: place.context))


def recalled_by_state(comparison: Comparison) -> Series:
    """Every run at every context; what recalled nothing has no place on a logarithmic axis and stands at its edge."""
    rows = []
    for group in comparison.groups():
        for run in group.runs:
            for place in run.places:
                if place.recalled_bits is not None:
                    rows.append(
                        _effective(run, place.context)
                        | {
                            "label": group.label,
                            "context": place.context,
                            "learning_rate": group.rate,
                            "seed": run.seed,
                            "state_bits": place.held_bits,
                            "recalled_bits": place.recalled_bits,
                            "recalled_low": place.recalled_low,
                            "recalled_high": place.recalled_high,
                            "offered_bits": place.offered_bits,
                            "utilisation": place.recalled_bits / place.held_bits if place.held_bits else None,
                            "law_broken": place.breaks_law,
                            "run": run.name,
                        }
                    )
    positive = [row["recalled_bits"] for row in rows if row["recalled_bits"] > 0]
    edge = 10.0 ** math.floor(math.log10(min(positive, default=1.0)) - 0.5)
    for row in rows:
        row["drawn_at"] = row["recalled_bits"] if row["recalled_bits"] > 0 else edge
    caption = (
        "Bits recalled through the state against the bits of the state after the last fact, every run at every "
        "context, with its 95 % interval. No model can stand above the line r = s; the lines below it are of constant "
        "utilisation r / s. Where hybrids bits has measured a run, a thin line leads to a cross at its effective bits."
    )
    columns = ("label", "context", "learning_rate", "seed", "state_bits", "recalled_bits", "recalled_low")
    further = ("recalled_high", "offered_bits", "utilisation", "law_broken", "drawn_at", "run", *_EFFECTIVE)
    none = len(rows) - len(positive)
    notes = (f"{none} of {len(rows)} points recalled nothing; they are hollow, at the lower edge",) if none else ()
    return Series("recalled_by_state", "Recalled bits and state", caption, columns + further, tuple(rows), notes)


_EFFECTIVE = ("effective_bits", "effective_recalled", "effective_utilisation")


def _effective(run: ReportedRun, context: int) -> Row:
    """The smallest rounded state that keeps what is recalled, where it was measured at this context."""
    rounded = run.rounded if run.rounded is not None and run.rounded.context == context else None
    best = rounded and rounded.smallest
    if rounded is None or best is None:
        return dict.fromkeys(_EFFECTIVE)
    return dict(zip(_EFFECTIVE, (best.total, best.recalled.bits, rounded.utilisation), strict=True))


def accuracy_by_facts(comparison: Comparison, facts: str) -> Series:
    key = f"accuracy/{facts}="
    found: dict[tuple[str, int], list[float]] = {}
    for model in comparison.models():
        task = comparison.describe(model.first, task=True, without=[f"task.{facts}"])
        label = " · ".join(part for part in (model.pattern, model.setting, task) if part)
        for run in model.runs:
            for name, score in run.result["test"].items():
                if name.startswith(key) and score is not None:
                    found.setdefault((label, int(name.removeprefix(key))), []).append(score)
    rows = [{"label": label, "facts": count, **_band(scores)} for (label, count), scores in found.items()]
    slices = sorted(
        {name[9:].partition("=")[0] for run in comparison.runs for name in run.result["test"] if "/" in name}
    )
    notes = () if rows else (f"no test score is split by {facts}; there are {', '.join(slices) or 'no slices'}",)
    caption = (
        f"Test accuracy against the number of facts ({facts}), mean and range over the seeds, each model at the "
        "learning rate with the best mean validation accuracy."
    )
    return Series(
        "accuracy_by_facts", "Accuracy and number of facts", caption, ("label", "facts", *_BAND), tuple(rows), notes
    )


_BAND = ("accuracy", "low", "high", "seeds")


def _band(scores: Sequence[float]) -> Row:
    return {"accuracy": fmean(scores), "low": min(scores), "high": max(scores), "seeds": len(scores)}


def growth(comparison: Comparison) -> Series:
    columns = ("label", "context", "state_bits", "step_flops", "step_bytes")
    rows = {}
    for model in comparison.models():
        label = " · ".join(part for part in (model.pattern, model.setting) if part)
        for sizes in [vars(place) for place in model.first.places] or [model.first.result]:
            rows[label, sizes["context"]] = {"label": label, **{key: sizes[key] for key in columns[1:]}}
    caption = "State, and cost of one decode step, against the tokens seen: backbone only, one sequence."
    return Series("growth", "State and step cost", caption, columns, tuple(rows.values()))


def rates(comparison: Comparison) -> Series:
    chosen = {id(model.first) for model in comparison.models()}
    rows = []
    for group in comparison.groups():
        scores = [run.result["test"]["accuracy"] for run in group.runs]
        if group.rate is not None:
            band = _band([0.0 if score is None else score for score in scores])
            is_chosen = id(group.first) in chosen
            rows.append({"label": group.label, "learning_rate": group.rate, **band, "chosen": is_chosen})
    if len({row["learning_rate"] for row in rows}) < 2:
        note = (
            "all runs have one learning rate; nothing says how wide a window is, and a failure at one rate is no limit"
        )
        rows, notes = [], (note,)
    else:
        notes = ()
    caption = (
        "Test accuracy against the learning rate, mean and range over the seeds (a diverged run counts as 0); the "
        "filled marker is the rate that the other figures show, chosen by validation accuracy."
    )
    columns = ("label", "learning_rate", *_BAND, "chosen")
    return Series("learning_rates", "Learning-rate windows", caption, columns, tuple(rows), notes)


def placement(comparison: Comparison) -> Series:
    """Layer by layer, of models whose compared letter stands in some layers but not in all."""
    models = [model for model in comparison.models() if any(comparison.holds_letter(model.first))]
    models = [model for model in models if not all(comparison.holds_letter(model.first))]
    rows = []
    for model in models:
        scores = [run.result["test"]["accuracy"] or 0.0 for run in model.runs]
        recalls = [run.places[0].recall for run in model.runs if run.places and run.places[0].recall is not None]
        for layer, holds in enumerate(comparison.holds_letter(model.first)):
            rows.append(
                {
                    "label": model.label,
                    "layer": layer,
                    "holds_letter": holds,
                    "accuracy": fmean(scores),
                    "recall": fmean(recalls) if recalls else None,
                    "seeds": len(scores),
                }
            )
    letter = comparison.letter
    notes: tuple[str, ...] = ()
    if len({model.pattern for model in models}) < 2:
        rows, notes = [], (f"fewer than two patterns have {letter} in some of their layers but not in all",)
    caption = f"Where {letter} stands, and the test accuracy and Recall (at the training context) that come of it."
    columns = ("label", "layer", "holds_letter", "accuracy", "recall", "seeds")
    return Series("placement", f"Placement of {letter}", caption, columns, tuple(rows), notes)
