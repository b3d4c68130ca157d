"""The command `hybrids`, and what train.py and eval.py run."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybrids import notation, registry
from hybrids.backbone import Backbone
from hybrids.checks import run_checks
from hybrids.config import EvalConfig, build_run, open_run, spell_overrides, store_schemas
from hybrids.doctor import examine
from hybrids.evaluate import evaluate_grid, share_of_none, write_grid
from hybrids.explain import USER_ERRORS, explain
from hybrids.logs import silence_foreign_messages
from hybrids.pattern import Pattern
from hybrids.report import examples, state
from hybrids.report.heatmap import draw_heatmap
from hybrids.report.tables import print_grid, print_result, print_rows
from hybrids.run import Run
from hybrids.sweep import RememberSweep, run_cell, summarise
from hybrids.training import is_child, train

_HYDRA = {"version_base": "1.3", "config_path": "pkg://hybrids_conf"}

_WANTS_TRACEBACK = "HYBRIDS_TRACEBACK"
"""Environment variable: 1 shows the traceback of every error."""

_given: list[str] = []
"""The command line as it was typed, while Hydra sees its own part of it."""


def _reported(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """End the program where a job fails by its user's fault: Hydra would print a line of its own before ours."""

    @wraps(job)
    def run(config: DictConfig) -> None:
        if _given:
            sys.argv = list(_given)  # Lightning starts further ranks with it
        try:
            job(config)
        except USER_ERRORS as error:
            sys.exit(_report(error))

    return run


@hydra.main(**_HYDRA, config_name="train")
@_reported
def _train(config: DictConfig) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_cell(config)
    run = build_run(config)
    result = train(run)
    if not is_child():
        print_result(result, str(run.folder.path))


@hydra.main(**_HYDRA, config_name="eval")
@_reported
def _eval(config: DictConfig) -> None:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, EvalConfig)
    if settings.run is None:
        raise ValueError("run is not set; give the folder of a run: run=runs/<id>")
    run, folder = open_run(Path(str(settings.run)))
    cells = evaluate_grid(
        run,
        folder,
        settings.sizes,
        num_examples=settings.num_examples,
        batch_size=settings.batch_size,
        num_decoded_examples=settings.num_decoded_examples,
        accelerator=settings.accelerator,
        backend=settings.backend,
        threads=settings.threads,
    )
    place = folder.path / "eval"
    place.mkdir(exist_ok=True)
    write_grid(cells, place / "grid.csv")
    task = run.task.build()
    trained = {name: getattr(task, name) for name in task.sizes}
    draw_heatmap(cells, trained, place / "grid.png", title=folder.path.name)
    print_grid(cells, str(folder.path))
    if task.alternatives:
        none = [[*others.values(), f"{share:.4f}"] for others, share in share_of_none(cells, task.alternatives)]
        others = [name for name in cells[0].sizes if name != task.alternatives]
        print_rows(f"answers that no {task.alternatives} above has", [*others, "share"], none)
    skipped = sum(bool(cell.reason) for cell in cells)
    if skipped:
        print(f"{skipped} of {len(cells)} combinations do not fit; grid.csv says why")
    print(f"table and picture: {place / 'grid.csv'}, {place / 'grid.png'}")


def run_train() -> int:
    """`hybrids train` and train.py: one run, or with -m a sweep. Exit code."""
    RememberSweep.folder = None
    code = _run_program(_train, "train")
    sweep = RememberSweep.folder
    if code == 0 and sweep is not None and not summarise(sweep):
        return 1
    return code


def run_eval() -> int:
    """`hybrids eval` and eval.py. Exit code."""
    return _run_program(_eval, "eval")


def run_state() -> int:
    """`hybrids state`: what every layer of a stack carries and costs. Takes Hydra's arguments and context=<n>."""
    return _run_program(_show_state, "state")


def _show_state() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{_COMMANDS['state']}\nSettings are those of a run: hybrids train --help")
        return
    given = [argument for argument in sys.argv[1:] if argument.startswith("context=")]
    overrides = [argument for argument in sys.argv[1:] if argument not in given]
    context = state.read_context(given)
    run = _compose(overrides)
    parts = state.measure_parts(Backbone(run.model.d_model, run.pattern, run.letters), context)
    title = (
        f"pattern={run.pattern.compact()} context={context} model.d_model={run.model.d_model}, one sequence, backbone"
    )
    print_rows(title, state.COLUMNS, state.table_rows(parts))
    for note in state.notes(parts):
        print(note)


def _compose(overrides: list[str]) -> Run:
    """The run that these overrides describe."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("hybrids_conf", version_base="1.3"):
        return build_run(hydra.compose("train", overrides))


def run_task() -> int:
    """`hybrids task`: examples of a task, and what it states. Exit code."""
    return _run_program(_show_task, "task")


def _show_task() -> None:
    args = examples.read_arguments(sys.argv[1:], _COMMANDS["task"])
    settings = [f"task.{setting.removeprefix('task.')}" for setting in args.settings]
    task = _compose([f"task={args.task}", *settings]).task.build()
    examples.show(task, args)


def _run_program(program: Callable[[], None], name: str) -> int:
    """Run a Hydra program; what its user can mend is one line on stderr and exit code 1, the rest a traceback."""
    silence_foreign_messages()
    try:
        store_schemas()
        with _hydra_arguments(name):
            program()
    except USER_ERRORS as error:
        return _report(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _report(error: BaseException) -> int:
    if os.environ.get(_WANTS_TRACEBACK) == "1":
        raise error
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1


@contextmanager
def _hydra_arguments(name: str) -> Iterator[None]:
    """Give Hydra its part of the command line, and its errors to us."""
    _given[:] = sys.argv
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints errors itself and exits
    try:
        sys.argv = [sys.argv[0], *spell_overrides(sys.argv[2 if sys.argv[1:2] == [name] else 1 :])]
        yield
    finally:
        sys.argv = list(_given)
        os.environ["HYDRA_FULL_ERROR"] = full_error


def _show_plugins(args: argparse.Namespace) -> int:
    store_schemas()  # finds the plugins whose settings no configuration can hold
    rows = [[entry.kind, entry.name, entry.origin, entry.source] for entry in registry.entries()]
    print_rows("plugins", ["kind", "name", "class", "source"], rows)
    for failure in registry.failures():
        print(f"cannot be imported: {failure}", file=sys.stderr)
    return 1 if registry.failures() else 0


def _show_doctor(args: argparse.Namespace) -> int:
    store_schemas()  # finds the plugins whose settings no configuration can hold
    report = examine()
    if args.json:
        print(json.dumps(report, indent=2))
        return 1 if report["failed_plugins"] else 0
    versions = [[name, found or "not installed"] for name, found in report["versions"].items()]
    print_rows("versions", ["", "version"], versions)
    print_rows("devices", ["device"], [[device] for device in report["devices"]])
    columns = ["op", "backend", "usable", "why", "what would make it so"]
    rows = [
        [row["op"], row["backend"], "yes" if row["usable"] else "no", row["why"], "; ".join(row["commands"])]
        for row in report["backends"]
    ]
    print_rows("backends", columns, rows)
    for failure in report["failed_plugins"]:
        print(f"plugin cannot be used: {failure}", file=sys.stderr)
    return 1 if report["failed_plugins"] else 0


def _show_pattern(args: argparse.Namespace) -> int:
    if args.source:
        converted = notation.parse_notation(args.source, args.pattern)
        pattern = converted.pattern
        for note in converted.notes:
            print(f"note: {note}")
    else:
        pattern = Pattern.parse(args.pattern)
    print_rows(
        f"pattern {pattern.compact()}", ["layer", "letters"], [[i, str(p)] for i, p in enumerate(pattern.layers)]
    )
    print_rows("in other notations", ["notation", "spelling"], notation.describe(pattern))
    return 0


def _check_plugin(args: argparse.Namespace) -> int:
    kind, equals, name = args.plugin.partition("=")
    if not equals:
        raise ValueError(f"{args.plugin!r} names no plugin; write {', '.join(f'{k}=<name>' for k in registry.KINDS)}")
    results = run_checks(kind, name)
    print_rows(f"checks of {args.plugin}", ["check", "result"], [[r.check, r.message or "passed"] for r in results])
    return 0 if all(result.passed for result in results) else 1


def main() -> int:
    """The console command; train, eval, state and task take Hydra's arguments."""
    programs = {"train": run_train, "eval": run_eval, "state": run_state, "task": run_task}
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in programs:
        return programs[command]()
    try:
        if command and not command.startswith("-") and command not in _COMMANDS:
            raise ValueError(f"unknown command {command!r}; {registry.suggest(command, _COMMANDS)}")
        args = _parser().parse_args()
        return args.run(args)
    except USER_ERRORS as error:
        return _report(error)


_COMMANDS = {
    "train": "train a run: hybrids train arch=hybrid pattern=LLLA (Hydra arguments; -m sweeps)",
    "eval": "evaluate a run: hybrids eval run=runs/<id> (Hydra arguments)",
    "state": "what each layer carries and costs per step: hybrids state pattern=LLLA context=1024 (Hydra arguments)",
    "task": "decoded examples of a task, chance, bits and sizes: hybrids task mqar num_pairs=4 length=32",
    "doctor": "what runs on this machine: each op and backend, why not, and the command that would make it so",
    "plugins": "list what is registered, and from where",
    "patterns": "show a pattern's layers, and convert it to and from other notations",
    "check": "run the conformance checks on a plugin",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybrids", description="Train, evaluate and inspect hybrid stacks.")
    parser.set_defaults(run=lambda args: parser.print_help() or 2)
    commands = parser.add_subparsers(metavar="command")
    add = {name: commands.add_parser(name, help=text, description=text) for name, text in _COMMANDS.items()}
    add["plugins"].set_defaults(run=_show_plugins)
    add["doctor"].add_argument("--json", action="store_true", help="the same as JSON")
    add["doctor"].set_defaults(run=_show_doctor)
    patterns = add["patterns"]
    patterns.add_argument("pattern", help="such as LLLAx2; with --from, the text in that notation")
    patterns.add_argument(
        "--from", dest="source", metavar="NOTATION", help="megatron, nemotron_h, layer_types, fla or mamba"
    )
    patterns.set_defaults(run=_show_pattern)
    add["check"].add_argument("plugin", help="mixer=<name>, channel=<name> or task=<name>")
    add["check"].set_defaults(run=_check_plugin)
    return parser


if __name__ == "__main__":
    sys.exit(main())
