"""Measure and draw what docs/triangle/README.md shows, from the runs of train.sh.

    python docs/triangle/evidence.py recall         recall.csv, effective.csv, recall.png
    python docs/triangle/evidence.py interference   interference.csv, interference.png
    python docs/triangle/evidence.py table          the table of README.md, from the CSV files

The trajectory is drawn by `hybrids report`. Runs that are missing are left out.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from hybrids.config.build import open_run
from hybrids.config.schema import store_schemas
from hybrids.model.model import Model
from hybrids.registry import load_plugins, name_of
from hybrids.report.page.style import UTILISATIONS, marks
from hybrids.task import Task
from hybrids.training.evaluate import load_model
from hybrids.training.files import write_file
from hybrids.training.run import Run
from hybrids.triangle.quantise import METHOD
from hybrids.triangle.recall import effective_bits, measure_recall, smallest_sufficient

HERE = Path(__file__).parent
RUNS = Path("runs/triangle")
FACTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1023)
"""Up to all keys that there are, far more than were trained."""

TRAINED = (64, 256)
"""Longest contexts in training of the two sets of runs whose interference is measured."""

LENGTHS = (32, 64, 128, 256, 512, 1024)

Row = dict[str, Any]


def recall() -> None:
    """Every run at the learning rate that its search has chosen: recalled bits at each number of facts.

    Runs that the files have already are not measured again, unless they were rounded by an earlier method.
    """
    rows, effective = read(HERE / "recall.csv"), read(HERE / "effective.csv")
    effective = [row for row in effective if row["method"] == METHOD]
    known = {row["run"] for row in effective}
    rows = [row for row in rows if row["run"] in known]  # both files, or neither
    for run, folder in chosen_runs():
        if run.id in known:
            continue
        model, task = load_model(run, folder, run.task.build()).model.eval(), run.task.build()
        told = describe(run)
        curve = [{**told, **recall_at(model, sized(task, facts), run)} for facts in FACTS]
        best = max(curve, key=lambda row: row["recalled"])
        rows += curve
        effective += [{**told, **row} for row in rounded(model, sized(task, best["facts"]), run, best["recalled"])]
        print(told, best["facts"], f"{best['recalled']:.1f} of {best['offered']:.0f} bits", flush=True)
        write(HERE / "recall.csv", rows)
        write(HERE / "effective.csv", effective)
    draw_recall(rows, effective)


def interference() -> None:
    """The same 8 facts, asked anywhere in ever longer contexts: by runs trained at 64 tokens, and at up to 256."""
    rows = []
    for name, filler, length in product(interfered_runs(), ("random", "blank"), LENGTHS):
        run, folder = open_run(RUNS / name)
        task = run.task.build()
        model = load_model(run, folder, task).model.eval()
        other = task.resize(num_pairs=8, length=length).replace(power=1.0, random_fillers=filler == "random")
        told = {**describe(run), "trained": task.length, "filler": filler, "length": length}
        rows.append({**told, **recall_at(model, other, run)})
        print(told["mixer"], task.length, filler, length, f"{1 - rows[-1]['error']:.3f}", flush=True)
        write(HERE / "interference.csv", rows)
    draw_interference(rows)


def interfered_runs() -> list[str]:
    """Of each mixer the run that recalls most at 64 tokens, and the one that validates best at longer contexts."""
    most = {row["mixer"]: row["run"] for row in sorted(read(HERE / "recall.csv"), key=lambda row: row["recalled"])}
    finished = [open_run(path.parent) for path in sorted(RUNS.glob("mqar-CL-*/result.json"))]
    longer = [(run, folder) for run, folder in finished if run.task.build().length == max(TRAINED)]
    longer.sort(key=lambda one: json.loads(one[1].result_file.read_text(encoding="utf-8"))["val"]["accuracy"])
    return [*most.values(), *{describe(run)["mixer"]: run.id for run, _ in longer}.values()]


def chosen_runs() -> Iterator[tuple[Run, Any]]:
    """Runs of all seeds at the learning rate that each finished search in runs/triangle has chosen, each once."""
    found = {}
    for path in sorted((RUNS / "capacity").glob("*/capacity.json")):
        for pattern in json.loads(path.read_text(encoding="utf-8"))["patterns"]:
            trials = [] if pattern["missing"] else pattern.get("trials", [])
            found |= {trial["run"]: None for trial in trials if trial["rate"] == pattern["rate"]}
    yield from (open_run(Path(run)) for run in found)


def describe(run: Run) -> Row:
    """What tells the runs apart."""
    mixer = run.letters["L"].mixer
    assert mixer is not None
    sizes = {"d_model": run.model.d_model, "steps": run.trainer.max_steps}
    told = {"mixer": name_of(mixer.cls), **sizes, "rate": run.optim.lr, "seed": run.seed}
    return {**told, "run": run.id}


def sized(task: Task, facts: int) -> Task:
    """The task with so many facts, in the shortest context that holds them and was trained."""
    return task.resize(num_pairs=facts, length=max(64, 4 * facts))


def amounts(task: Task) -> tuple[int, int]:
    """Test examples, and how many at once: fewer where each asks for many facts."""
    facts = task.facts or 1
    return max(32, min(256, 8192 // facts)), max(4, min(64, 2048 // facts))


def recall_at(model: Model, task: Task, run: Run) -> Row:
    """Recalled bits, read through the state."""
    num, batch = amounts(task)
    found = measure_recall(model, task, seed=run.data.seed, num_examples=num, batch_size=batch)
    sizes = {"facts": task.facts, "examples": num, "state_bits": found.state_bits, "offered": found.offered}
    at = found.recalled
    return {**sizes, "recalled": at.bits, "low": at.low, "high": at.high, "surely": at.surely, "error": at.error}


def rounded(model: Model, task: Task, run: Run, recalled: float) -> Iterator[Row]:
    """Recalled bits where the state is rounded; `enough` marks the smallest state that keeps 99 %."""
    num, batch = amounts(task)
    curve = effective_bits(model, task, seed=run.data.seed, num_examples=num, batch_size=batch)
    enough = smallest_sufficient(curve, recalled)
    for entry in curve:
        bits = {"bits": entry.bits, "total": entry.total, "recalled": entry.recalled.bits}
        yield {"facts": task.facts, **bits, "enough": entry == enough, "method": METHOD}


def draw_recall(rows: Sequence[Row], effective: Sequence[Row]) -> None:
    """Recalled bits against the bits of the state, nominal and effective, and against the number of facts."""
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    nominal, rounded_, by_facts = figure.subplots(1, 3)
    look = marks(sorted({row["mixer"] for row in rows}))
    best = {row["run"]: row for row in sorted(rows, key=lambda row: row["recalled"])}
    nominal_bits = {run: row["state_bits"] for run, row in best.items()}
    enough = {row["run"]: row["total"] for row in effective if row["enough"]}
    trained_most = longest(rows)
    for axes, states, title in (
        (nominal, nominal_bits, "state at float32 (bits)"),
        (rounded_, enough, "smallest rounded state that keeps 99 % (bits)"),
    ):
        draw_law(axes)
        for run, state in states.items():
            mark, fill = look[best[run]["mixer"]], {} if run in trained_most else {"mfc": "none"}
            axes.plot(state, max(best[run]["recalled"], 0.1), mark.marker, color=mark.colour, ms=6, **fill)
        axes.set(xlabel=title, ylabel="most recalled bits", ylim=(0.5, 2e4), xlim=(5e1, 3e6))
    for run in trained_most:
        told, curve = best[run], [row for row in rows if row["run"] == run]
        mark = look[told["mixer"]]
        facts, bits = [row["facts"] for row in curve], [max(row["recalled"], 0.1) for row in curve]
        by_facts.plot(
            facts, bits, mark.line, color=mark.colour, marker=mark.marker, ms=3, lw=0.5 + told["d_model"] / 40
        )
    by_facts.plot([1, 1023], [10, 10230], color="black", lw=1)
    by_facts.axvspan(1, 16, color="0.93", zorder=0)
    by_facts.set(xscale="log", yscale="log", xlabel="facts (grey: trained)", ylabel="recalled bits", ylim=(0.5, 2e4))
    by_facts.text(300, 6000, "offered", ha="right", fontsize=8)
    for axes in (nominal, rounded_, by_facts):
        axes.grid(alpha=0.3)
    for mixer, mark in look.items():
        by_facts.plot([], [], mark.marker, color=mark.colour, label=mixer)
    by_facts.legend(fontsize=8, loc="upper left")
    figure.savefig(HERE / "recall.png", dpi=130)


def longest(rows: Sequence[Row]) -> list[str]:
    """Of the runs of one mixer and size, those with the most steps."""
    alone = [row for row in rows if row["facts"] == 1]  # where the states of one model and one size are the same
    most: dict[tuple[str, int], int] = {}
    for row in alone:
        size = row["mixer"], row["state_bits"]
        most[size] = max(row["steps"], most.get(size, 0))
    return [row["run"] for row in alone if row["steps"] == most[row["mixer"], row["state_bits"]]]


def draw_law(axes: Any) -> None:
    """r = s, and lines of constant utilisation."""
    ends = [10.0, 1e7]
    for share in UTILISATIONS:
        axes.plot(
            ends,
            [share * end for end in ends],
            color="black" if share == 1 else "0.6",
            lw=1,
            ls="-" if share == 1 else ":",
        )
        name = "r = s" if share == 1 else f"{100 * share:g} %"
        axes.text(
            1.2e4 / share if share > 0.005 else 1.5e6, 1.2e4 if share > 0.005 else 1.5e6 * share, name, fontsize=8
        )
    axes.set(xscale="log", yscale="log")


def draw_interference(rows: Sequence[Row]) -> None:
    """Accuracy on 8 facts against the length of the context, one panel for each longest context in training."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    look = marks(sorted({row["mixer"] for row in rows}))
    panels = figure.subplots(1, len(TRAINED), sharey=True)
    for axes, trained in zip(panels, TRAINED, strict=True):
        of_panel = [row for row in rows if row["trained"] == trained]
        for (mixer, mark), filler in product(look.items(), ("random", "blank")):
            curve = [row for row in of_panel if (row["mixer"], row["filler"]) == (mixer, filler)]
            lengths, right = [row["length"] for row in curve], [1 - row["error"] for row in curve]
            line, fill, label = ("-", mark.colour, mixer) if filler == "random" else (":", "none", None)
            axes.plot(lengths, right, line, color=mark.colour, marker=mark.marker, mfc=fill, label=label)
        axes.axvspan(LENGTHS[0], trained, color="0.93", zorder=0)
        axes.set(xscale="log", xlabel=f"context (tokens; grey: trained, to {trained})", ylim=(-0.02, 1.02))
        axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on 8 facts")
    panels[0].legend(fontsize=8)
    figure.savefig(HERE / "interference.png", dpi=130)


def table() -> None:
    """Every mixer, size and number of steps, each seed where it recalls most."""
    rows, effective = read(HERE / "recall.csv"), read(HERE / "effective.csv")
    best = {row["run"]: row for row in sorted(rows, key=lambda row: row["recalled"])}
    enough = {row["run"]: row for row in effective if row["enough"]}
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        if row["facts"] == 1:  # where the states of one model and one size are the same
            groups.setdefault((row["mixer"], row["state_bits"], row["steps"]), []).append(best[row["run"]])
    print("| mixer | steps | state (bits) | recalled (bits), each seed | share | rounded state (bits) | share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (mixer, _, steps), runs in sorted(groups.items()):
        told = "; ".join(
            f"{run['recalled']:.1f} ({run['low']:.1f} to {run['high']:.1f}) of {run['facts']} x 10" for run in runs
        )
        states = ", ".join(dict.fromkeys(f"{run['state_bits']:,}" for run in runs))
        share = [run["recalled"] / run["state_bits"] for run in runs]
        rounded = [enough[run["run"]] for run in runs if run["run"] in enough]
        rounded_to = ", ".join(dict.fromkeys(f"{row['total']:,}" for row in rounded)) or "none"
        kept = [row["recalled"] / row["total"] for row in rounded]
        print(f"| `{mixer}` | {steps:,} | {states} | {told} | {span(share)} | {rounded_to} | {span(kept)} |")


def span(shares: Sequence[float]) -> str:
    """From the smallest to the largest, in per cent."""
    ends = dict.fromkeys(f"{100 * end:.2g}" for end in (min(shares), max(shares))) if shares else {}
    return f"{' to '.join(ends)} %" if ends else ""


def read(path: Path) -> list[Row]:
    """Rows of a file that `write` has written, numbers as numbers; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: parse(value) for key, value in row.items()} for row in csv.DictReader(file)]


def parse(text: str) -> Any:
    """A whole number, a number, a truth value, or the text."""
    for kind in (int, float, {"True": True, "False": False}.__getitem__):
        with suppress(ValueError, KeyError):
            return kind(text)
    return text


def write(path: Path, rows: Sequence[Row]) -> None:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    write_file(path, text.getvalue())


if __name__ == "__main__":
    load_plugins()
    store_schemas()
    {"recall": recall, "interference": interference, "table": table}[sys.argv[1]]()
