"""Train a table of small runs for the documentation, each at one learning rate after another until one gets there.

    python docs/learning.py mixers        every mixer as LL and LA on MQAR: docs/mixers.csv
    python docs/learning.py behind_conv   mixers without a token shift of their own, behind a short convolution
    python docs/learning.py mixed         those that stayed on the plateau there, on 1 to 16 pairs in one training
    python docs/learning.py tasks         three stacks of two layers on six tasks: docs/tasks_learning.csv and pictures

Every trial is an ordinary run in `runs/learning`, so the table goes on where it was interrupted. Rates are tried in
the order given until one reaches the target; `accuracy` is the best one seen in validation. With a number of minutes as
second argument no trial starts after them, and the rows that are missing are those that were not trained.
"""

import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from hybrids.config.build import build_run
from hybrids.config.schema import store_schemas
from hybrids.registry import load_plugins, names
from hybrids.training.files import write_file
from hybrids.training.metrics import read_metrics
from hybrids.training.train import train

QUIET = ("logger=csv", "trainer.progress_bar=false", "trainer.threads=1", "runs_dir=runs/learning")
COUNTS = ("learning rate", "steps to target", "best accuracy", "steps trained")
DOCS = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """One entry of a table: what it is called, and the overrides that make it."""

    labels: tuple[str, ...]
    overrides: tuple[str, ...]
    rates: tuple[float, ...] = ()
    """Learning rates in place of those of the table."""


@dataclass(frozen=True)
class Table:
    """Cells that share a target, and what their runs have in common."""

    file: str
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    common: tuple[str, ...]
    rates: tuple[float, ...]
    target: float | None
    """Where training stops, and what the table asks for; None to train as a run does by default."""
    scores: dict[str, str] = field(default_factory=dict)
    """Further columns: scores of the test, `decoded/...` where a task is decoded."""


@dataclass(frozen=True)
class Trial:
    """A cell at one learning rate."""

    cell: Cell
    rate: float
    accuracy: dict[int, float]
    """In validation, by steps trained."""
    target: float | None
    scores: tuple[float | None, ...]
    """Of the test, those that the table asks for."""

    @property
    def steps_to_target(self) -> int | None:
        if self.target is None:
            return None
        return next((step for step, value in self.accuracy.items() if value >= self.target), None)

    def row(self) -> list[object]:
        reached = self.steps_to_target
        best = f"{max(self.accuracy.values()):.3f}"
        scores = ["" if score is None else f"{score:.3f}" for score in self.scores]
        return [*self.cell.labels, self.rate, "" if reached is None else reached, best, max(self.accuracy), *scores]


def mixers() -> Table:
    """Every mixer as LL and, with attention, as LA, on MQAR of length 64 with 8 pairs."""
    cells = [
        Cell((mixer, pattern), (f"mixer@mixers.L={mixer}", f"pattern={pattern}"))
        for mixer in names("mixer")
        for pattern in ("LL", "LA")
    ]
    common = ("task=mqar", "trainer.max_steps=1000", "trainer.val_every=50")
    return Table("mixers.csv", ("mixer", "pattern"), tuple(cells), common, (3e-3, 1e-2, 1e-3), 0.95)


SHIFTLESS = ("based", "mlstm", "gla", "retention", "linear_attention", "hgrn2")
"""Mixers that read neither the token before nor positions of which a learned function can make it."""


def behind_conv() -> Table:
    """The same, with a short convolution as the first layer, as zoology has it in its figure."""
    cells = [
        Cell((mixer, "CL"), ("+mixer@mixers.C=short_conv", f"mixer@mixers.L={mixer}", "pattern=CL"))
        for mixer in SHIFTLESS
    ]
    return replace(mixers(), file="mixers_behind_conv.csv", cells=tuple(cells))


def mixed() -> Table:
    """Mixers that do not leave the plateau at 8 pairs, where 1, 2, 4, 8 and 16 pairs come in one training."""
    behind = [Cell((m, "CL"), ("+mixer@mixers.C=short_conv", f"mixer@mixers.L={m}", "pattern=CL")) for m in SHIFTLESS]
    own = [Cell((m, "LL"), (f"mixer@mixers.L={m}", "pattern=LL"), (3e-3, 1e-2)) for m in ("mamba", "mamba2")]
    cells = [*behind, *own]
    slow = ("mixers.L.lower_bound=0.98",)
    cells = [replace(c, overrides=c.overrides + slow) if "hgrn2" in c.labels else c for c in cells]
    segments = ",".join(f"[64,{num},1]" for num in (1, 2, 4, 8, 16))
    task = ("task=mqar", "task.vocab_size=256", "task.num_pairs=16", f"task.segments=[{segments}]")
    size = ("task.distinct_values=false", "data.num_test_examples=1024", "data.num_val_examples=512")
    steps = ("trainer.max_steps=1200", "trainer.val_every=200")
    scores = {f"{num} pairs": f"accuracy/num_pairs={num}" for num in (8, 16)}
    common = (*task, *size, *steps)
    return Table("mixers_mixed.csv", ("mixer", "pattern"), tuple(cells), common, (3e-3,), None, scores)


STACKS = {
    "transformer": ("arch=transformer", "pattern=AA"),
    "mamba2": ("arch=mamba2", "pattern=MM"),
    "hybrid": ("arch=hybrid", "pattern=LA"),
}

SIZES = {
    "function_composition": ("task.start_size=4", "task.fan_outs=[2]", "trainer.max_steps=1500"),
    "position_retrieval": ("task.num_tokens=30", "trainer.max_steps=1500"),
    "is_tree vanilla": ("task.mode=vanilla", "task.num_nodes=8", "trainer.max_steps=500"),
    "is_tree cot": ("task.mode=cot", "task.num_nodes=8", "trainer.max_steps=1000"),
    "is_tree retrieval": ("task.mode=retrieval", "task.num_nodes=8", "trainer.max_steps=300"),
    "ngram_retrieval": ("task.max_length=50", "trainer.max_steps=1500"),
}


def tasks() -> Table:
    """Two layers of each kind on six tasks, at the size in `SIZES`."""
    cells = [
        Cell((task, stack), (f"task={task.split()[0]}", *size, *layers))
        for task, size in SIZES.items()
        for stack, layers in STACKS.items()
    ]
    common = ("trainer.val_every=50", "data.num_val_examples=512", "data.num_decoded_examples=64")
    scores = {"decoded": "decoded/accuracy"}
    return Table("tasks_learning.csv", ("task", "stack"), tuple(cells), common, (3e-3, 1e-2, 1e-3), 0.95, scores)


TABLES = {"mixers": mixers, "behind_conv": behind_conv, "mixed": mixed, "tasks": tasks}


def trials_of(table: Table, deadline: float) -> Iterator[Trial]:
    """The trials of every cell, until one gets there; none starts after `deadline` (monotonic seconds)."""
    for cell in table.cells:
        for rate in cell.rates or table.rates:
            target = [] if table.target is None else [f"trainer.target={table.target}"]
            overrides = [*QUIET, *table.common, *cell.overrides, f"optim.lr={rate}", *target]
            run = build_run(compose("train", overrides))
            if time.monotonic() > deadline and not run.folder.result_file.exists():
                break
            result = train(run)
            tested = result["test"] | {f"decoded/{name}": score for name, score in result.get("decoded", {}).items()}
            accuracy = read_metrics(run.folder.metrics_file)["val/accuracy"]
            by_step = {step + 1: value for step, value in accuracy.items()}
            scores = tuple(tested.get(name) for name in table.scores.values())
            trial = Trial(cell, rate, by_step, table.target, scores)
            yield trial
            if trial.steps_to_target is not None:
                break


def main(name: str, minutes: float = float("inf")) -> None:
    """Train what is missing of a table, writing it anew after every trial."""
    load_plugins()
    store_schemas()
    GlobalHydra.instance().clear()
    done: list[Trial] = []
    with initialize_config_module("hybrids_conf", version_base="1.3"):
        table = TABLES[name]()
        for trial in trials_of(table, time.monotonic() + 60 * minutes):
            done.append(trial)
            print(*trial.row(), flush=True)
            _write(DOCS / table.file, [*table.columns, *COUNTS, *table.scores], [one.row() for one in done])
    if name == "tasks":
        for task in {trial.cell.labels[0].split()[0] for trial in done}:
            draw([trial for trial in done if trial.cell.labels[0].split()[0] == task], DOCS / f"learning_{task}.png")


def draw(trials: Sequence[Trial], path: Path) -> None:
    """Validation accuracy against steps, a panel per mode of the task, a colour per stack, a style per rate."""
    panels = list(dict.fromkeys(trial.cell.labels[0] for trial in trials))
    figure = Figure(figsize=(0.8 + 5.0 * len(panels), 3.2), layout="constrained")
    colours = dict(zip(STACKS, ("tab:orange", "tab:blue", "tab:green"), strict=True))
    styles = {3e-3: "-", 1e-2: "--", 1e-3: ":"}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for trial in (one for one in trials if one.cell.labels[0] == panel):
            stack = trial.cell.labels[1]
            label = f"{stack}, {trial.rate:g}"
            axes.plot(
                list(trial.accuracy),
                list(trial.accuracy.values()),
                styles[trial.rate],
                color=colours[stack],
                label=label,
            )
        axes.set_title(panel, fontsize=9)
        axes.set_xlabel("training step (64 examples each)")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.supylabel("validation accuracy, teacher-forced", fontsize=9)
    figure.savefig(path, dpi=130)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_file(path, text.getvalue())


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
