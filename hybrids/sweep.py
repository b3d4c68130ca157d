"""A sweep: every cell an ordinary run, a failed cell does not stop the others, one table at the end."""

import csv
import json
import subprocess
import sys
import traceback
from io import StringIO
from pathlib import Path
from typing import Any, TypedDict

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from hybrids.config import build_run
from hybrids.explain import USER_ERRORS, explain
from hybrids.record import Result, RunFolder, write_file
from hybrids.report.tables import print_rows
from hybrids.training import train


class Cell(TypedDict):
    """What one cell leaves in the folder of its sweep."""

    overrides: list[str]
    folder: str | None
    error: str | None


class RememberSweep(Callback):
    """Hydra callback that notes the folder of the sweep, where its cells are to be found at the end."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        RememberSweep.folder = Path(config.hydra.sweep.dir)


def run_cell(config: DictConfig) -> None:
    """Train one cell and note its run folder, or why it failed."""
    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    cell = Cell(overrides=overrides, folder=None, error=None)
    try:
        run = build_run(config)
        if run.trainer.devices > 1:
            _train_alone(overrides)
        else:
            train(run)
        cell["folder"] = str(run.folder.path)
    except Exception as error:  # one failed cell must not cost the others
        cell["error"] = explain(error)
        if not isinstance(error, USER_ERRORS):
            traceback.print_exc()
        _finish_wandb()
        print(f"sweep cell {hydra.job.num} failed: {cell['error']}", file=sys.stderr)
    place = Path(hydra.runtime.output_dir)
    place.mkdir(parents=True, exist_ok=True)
    write_file(place / "cell.json", json.dumps(cell, indent=2))


def _finish_wandb() -> None:
    """End the W&B log of a cell that failed, or the next cell would write into it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=1)


def _train_alone(overrides: list[str]) -> None:
    """Train in a process of its own: the further ranks that Lightning starts would repeat the sweep."""
    done = subprocess.run([sys.executable, "-m", "hybrids.cli", "train", *overrides], check=False)
    if done.returncode:
        raise ChildProcessError(f"its process ended with exit code {done.returncode}; what it said stands above")


def summarise(folder: Path) -> bool:
    """Print the table of a sweep, write it to summary.csv in its folder; True if no cell failed."""
    paths = sorted(folder.glob("*/cell.json"), key=lambda path: int(path.parent.name))
    cells: list[Cell] = [json.loads(path.read_text()) for path in paths]
    shared = set.intersection(*(set(cell["overrides"]) for cell in cells)) if len(cells) > 1 else set()
    results = [_read_result(cell) for cell in cells]
    columns = ["cell", *(["decoded"] if any("decoded" in result for result in results if result) else []), *COLUMNS[1:]]
    rows = []
    for cell, result in zip(cells, results, strict=True):
        values = _values(cell, result) | {"cell": " ".join(text for text in cell["overrides"] if text not in shared)}
        rows.append([values.get(column, "") for column in columns])
    print_rows(f"sweep {folder}", columns, rows)
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_file(folder / "summary.csv", text.getvalue())
    return all(cell["folder"] is not None for cell in cells)


COLUMNS = ("cell", "accuracy", "exact match", "steps", "seconds", "state bits", "step FLOPs", "run")


def _read_result(cell: Cell) -> Result | None:
    """The result of a cell; None if it has failed."""
    return None if cell["folder"] is None else RunFolder(Path(cell["folder"])).read_result()


def _values(cell: Cell, result: Result | None) -> dict[str, Any]:
    """One line of the table by column; for a failed cell the reason stands in place of the run."""
    if result is None:
        return {"accuracy": "failed", "run": cell["error"]}
    decoded = {"decoded": f"{result['decoded']['accuracy']:.4f}"} if "decoded" in result else {}
    return decoded | {
        "accuracy": f"{result['test']['accuracy']:.4f}",
        "exact match": f"{result['test']['exact_match']:.4f}",
        "steps": result["steps"],
        "seconds": result["seconds"],
        "state bits": result["state_bits"],
        "step FLOPs": result["step_flops"],
        "run": cell["folder"],
    }
