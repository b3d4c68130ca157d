"""A sweep: every cell an ordinary run, a failed cell does not stop the others, one table at the end."""

import json
import sys
import traceback
from itertools import count
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override

from hybrids.config.build import build_run
from hybrids.config.explain import explain, user_errors
from hybrids.config.quoting import quote
from hybrids.errors import UserError
from hybrids.pattern import Pattern
from hybrids.report.page.collect import Cell, read_cell
from hybrids.report.terminal.table import print_meanings, print_rows
from hybrids.report.terminal.tables import MEANINGS
from hybrids.training.files import to_csv, write_file
from hybrids.training.process import silence_foreign_messages
from hybrids.training.record import Result, RunFolder
from hybrids.training.stop import run_and_pass_signals
from hybrids.training.train import train
from hybrids.training.wandb_log import end_failed_log

DIVERGED = 4
"""Exit code of a run that ended because its loss was NaN, and of a sweep that has one and no failed cell."""


class RememberSweep(Callback):
    """Hydra callback that notes the folder of the sweep, where its cells are to be found at the end."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            _check_depths(config)
            _make_folder(config)
        except user_errors() as error:  # Hydra makes a warning of what a callback raises
            print(f"error: {explain(error)}", file=sys.stderr)
            sys.exit(1)
        RememberSweep.folder = Path(config.hydra.sweep.dir)


def _make_folder(config: DictConfig) -> None:
    """Make the folder of a sweep, under another name where a sweep that started in the same second has it.

    One that the user has named is used as it is, so that a sweep can be repeated in it.
    """
    overrides = config.hydra.overrides.hydra
    given = OmegaConf.to_container(overrides, resolve=False)  # as hydra.sweep.subdir=cell${hydra.job.num}
    assert isinstance(given, list)
    if any(text.lstrip("+").startswith("hydra.sweep.dir=") for text in given):
        return
    asked = folder = Path(config.hydra.sweep.dir)
    for number in count(2):
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            folder = asked.with_name(f"{asked.name}-{number}")
    with flag_override(config, ["struct", "readonly"], False):
        config.hydra.sweep.dir = str(folder)
        overrides.append(f"hydra.sweep.dir={quote(str(folder))}")  # the configuration of a cell is composed anew


def _check_depths(config: DictConfig) -> None:
    """UserError where the patterns of a trajectory have several depths and nothing makes them comparable."""
    if config.hydra.runtime.choices.get("sweep") != "trajectory":
        return
    given = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    parsed = OverridesParser.create().parse_overrides([*given, *config.hydra.overrides.task])
    values = {override.key_or_group: override for override in parsed}  # the last one holds
    if "match" in values and values["match"].value() is not None:
        return
    pattern = values["pattern"]
    spelt = pattern.sweep_string_iterator() if pattern.is_sweep_override() else [str(pattern.value())]
    depths = {text: len(Pattern.parse(text)) for text in spelt}
    if len(set(depths.values())) > 1:
        found = ", ".join(f"{text} has {depth} layers" for text, depth in depths.items())
        raise UserError(f"sweep=trajectory over patterns of different depth: {found}; add match=params match_to=LLLL")


def run_cell(config: DictConfig) -> None:
    """Train one cell and note its run folder, or why it failed."""
    silence_foreign_messages()  # a launcher may have started this process
    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    cell = Cell(overrides=overrides, folder=None, error=None)
    log = _log_of_sweep(config, hydra)
    try:
        run = build_run(config)
        run = run.logged_as(**{"group": run.logger.group, "job_type": run.logger.job_type} | log)
        if run.trainer.devices * run.trainer.num_nodes > 1:
            _train_alone([text for text in overrides if not text.startswith("sweep=")], log)
        else:
            train(run)
        cell["folder"] = str(run.folder.path)
    except Exception as error:  # one failed cell must not cost the others
        cell["error"] = explain(error)
        if not isinstance(error, user_errors()):
            traceback.print_exc()
        end_failed_log()
        print(f"sweep cell {hydra.job.num} failed: {cell['error']}", file=sys.stderr)
    place = Path(hydra.runtime.output_dir)
    place.mkdir(parents=True, exist_ok=True)
    write_file(place / "cell.json", json.dumps(cell, indent=2))


def _log_of_sweep(config: DictConfig, hydra: HydraConf) -> dict[str, str]:
    """Under which group and job type the cells of this sweep are logged, where the user names none."""
    sweep = hydra.runtime.choices.get("sweep") or "sweep"
    names = {"group": f"{sweep}-{Path(hydra.sweep.dir).name}", "job_type": sweep}
    return {name: value for name, value in names.items() if config.logger[name] is None}


def _train_alone(overrides: list[str], log: dict[str, str]) -> None:
    """Train in a process of its own: the further ranks that Lightning starts would repeat the sweep."""
    given = [f"logger.{name}={value}" for name, value in log.items()]
    code = run_and_pass_signals([sys.executable, "-m", "hybrids.cli", "train", *overrides, *given])
    if code not in (0, DIVERGED):
        raise ChildProcessError(f"its process ended with exit code {code}; what it said stands above")


def summarise(folder: Path) -> int:
    """Print the table of a sweep, write it to summary.csv in its folder.

    The exit code: 1 if a cell failed, else `DIVERGED` if the loss of one became NaN, else 0.
    """
    paths = sorted(folder.rglob("cell.json"), key=lambda path: (len(str(path)), path))  # by number, or by name
    cells = [read_cell(path) for path in paths]
    shared = set.intersection(*(set(cell["overrides"]) for cell in cells)) if len(cells) > 1 else set()
    folders = [RunFolder(Path(cell["folder"])) if cell["folder"] else None for cell in cells]
    results = [folder.read_result() if folder else None for folder in folders]
    columns = ["cell", *(["decoded"] if any("decoded" in result for result in results if result) else []), *COLUMNS[1:]]
    rows = []
    for cell, result in zip(cells, results, strict=True):
        values = _values(cell, result) | {"cell": " ".join(text for text in cell["overrides"] if text not in shared)}
        rows.append([values.get(column, "") for column in columns])
    print_rows(f"sweep {folder}", columns, rows)
    print_meanings({"E, C, R": "Efficiency, Compactness, Recall at the context of training", **MEANINGS})
    write_file(folder / "summary.csv", to_csv(columns, rows))
    print(f"the same as a page with figures: hybrids report {folder}")
    if any(cell["folder"] is None for cell in cells):
        return 1
    return DIVERGED if any(result["stopped"] == "diverged" for result in results if result) else 0


COLUMNS = (
    "cell",
    "accuracy",
    "chance",
    "E",
    "C",
    "R",
    "steps",
    "seconds",
    "exact match",
    "d_model",
    "parameters",
    "state bits",
    "step FLOPs",
    "run",
)
"""E, C, R: Efficiency, Compactness and Recall at the context of training. Parameters, state and step cost are of the
backbone."""


def _values(cell: Cell, result: Result | None) -> dict[str, Any]:
    """One line of the table by column; for a failed cell the reason stands in place of the run."""
    if result is None:
        return {"accuracy": "failed", "run": cell["error"]}
    decoded = {"decoded": f"{result['decoded']['accuracy']:.4f}"} if "decoded" in result else {}
    return decoded | {
        "accuracy": "diverged" if result["stopped"] == "diverged" else f"{result['test']['accuracy']:.4f}",
        "chance": f"{result['chance_accuracy']:.2g}" if "chance_accuracy" in result else "",
        **_coordinates(result),
        "exact match": f"{result['test']['exact_match']:.4f}",
        "steps": result["steps"],
        "seconds": result["seconds"],
        "d_model": RunFolder(Path(str(cell["folder"]))).read_config()["model"]["d_model"],
        "parameters": result["parameters"]["backbone"],
        "state bits": result["state_bits"],
        "step FLOPs": result["step_flops"],
        "run": cell["folder"],
    }


def _coordinates(result: Result) -> dict[str, str]:
    """Of the context of training; none in results before they were measured."""
    for place in result.get("triangle", [])[:1]:
        values = {"E": place["efficiency"], "C": place["compactness"], "R": place["recall"]}
        return {name: "" if value is None else f"{value:.2f}" for name, value in values.items()}
    return {}
