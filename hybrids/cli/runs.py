"""The commands `train` and `eval`, which train.py and eval.py run too."""

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybrids.cli.programs import HYDRA, reported, run_program
from hybrids.cli.sweep import DIVERGED, RememberSweep, run_cell, summarise
from hybrids.config.build import build_run, open_run
from hybrids.config.schema import EvalConfig
from hybrids.errors import UserError, printable
from hybrids.report.terminal.heatmap import draw_heatmap
from hybrids.report.terminal.table import print_rows
from hybrids.report.terminal.tables import print_grid, print_result
from hybrids.task import Task
from hybrids.training.curriculum import Curriculum
from hybrids.training.evaluate import evaluate_grid
from hybrids.training.files import obstacle_to_writing
from hybrids.training.grid import GridCell, share_of_none, write_grid
from hybrids.training.ranks import find_ranks
from hybrids.training.record import RunFolder
from hybrids.training.train import train
from hybrids.triangle.place import check_places


@hydra.main(**HYDRA, config_name="train")
@reported
def _train(config: DictConfig) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_cell(config)
    run = build_run(config)
    result = train(run)
    if find_ranks(run.trainer.devices, run.trainer.num_nodes).is_first:
        print_result(result, str(run.folder.path))
        check_places(result.get("triangle", []))
        if result["stopped"] == "diverged":
            sys.exit(DIVERGED)


@hydra.main(**HYDRA, config_name="eval")
@reported
def _eval(config: DictConfig) -> None:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, EvalConfig)
    if settings.run is None:
        raise UserError("run is not set; give the folder of a run: run=runs/<id>")
    run, folder = open_run(Path(str(settings.run)))
    place = folder.path / "eval"
    obstacle = obstacle_to_writing(place)
    if obstacle:
        print(f"{obstacle}: the scores are printed and not kept", file=sys.stderr)
    cells = evaluate_grid(run, folder, settings)
    task = run.task.build()
    _print_cells(cells, task, Curriculum.of(run, task).tasks, folder)
    if not obstacle:
        place.mkdir(exist_ok=True)
        write_grid(cells, place / "grid.csv")
        trained = {name: getattr(task, name) for name in task.sizes}
        draw_heatmap(cells, trained, place / "grid.png", title=printable(folder.path.name))
        print(f"table and picture: {place / 'grid.csv'}, {place / 'grid.png'}")


def _print_cells(cells: Sequence[GridCell], task: Task, trained: Sequence[Task], folder: RunFolder) -> None:
    print_grid(cells, str(folder.path), task, trained)
    if task.alternatives:
        none = [[*others.values(), f"{share:.4f}"] for others, share in share_of_none(cells, task.alternatives)]
        others = [name for name in cells[0].sizes if name != task.alternatives]
        print_rows(f"answers that no {task.alternatives} above has", [*others, "share"], none)
    skipped = sum(bool(cell.reason) for cell in cells)
    if skipped:
        first = next(cell.reason for cell in cells if cell.reason)
        print(f"{skipped} of {len(cells)} combinations do not fit; grid.csv says why, the first: {first}")


def run_train() -> int:
    """`hybrids train` and train.py: one run, or with -m a sweep. Exit code."""
    RememberSweep.folder = None
    code = run_program(_train, "train")
    sweep = RememberSweep.folder
    if sweep is not None and (code == 0 or code > 128):  # of one that a signal has stopped, what it has so far
        summary = summarise(sweep)
        return code or summary
    return code


def run_eval() -> int:
    """`hybrids eval` and eval.py. Exit code."""
    return run_program(_eval, "eval")
