"""Commands that measure a stack without training it."""

import sys
from collections.abc import Callable

from hybrids.cli.programs import COMMANDS, run_program
from hybrids.config.compose import compose
from hybrids.model.backbone import Backbone
from hybrids.report.terminal import growth, state
from hybrids.report.terminal.tables import print_rows
from hybrids.training.files import write_file
from hybrids.training.memory import check_stack
from hybrids.training.run import Run


def run_state() -> int:
    """`hybrids state`: what every layer of a stack carries and costs. Takes Hydra's arguments and context=<n>."""
    return _run_at_context(_show_state, "state")


def run_triangle() -> int:
    """`hybrids triangle`: how state and cost grow with the context. Takes Hydra's arguments and context=<n>."""
    return _run_at_context(_show_triangle, "triangle")


def _run_at_context(show: Callable[[Run, Backbone, int], None], name: str) -> int:
    def program() -> None:
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(f"{COMMANDS[name]}\nSettings are those of a run: hybrids train --help")
            return
        given = [argument for argument in sys.argv[1:] if argument.startswith("context=")]
        context = state.read_context(given)
        run = compose([argument for argument in sys.argv[1:] if argument not in given])
        check_stack(run.pattern, run.letters, run.model.d_model, context)
        show(run, Backbone(run.model.d_model, run.pattern, run.letters), context)

    return run_program(program, name)


def _title(run: Run, context: int) -> str:
    return (
        f"pattern={run.pattern.compact()} context={context} model.d_model={run.model.d_model}, one sequence, backbone"
    )


def _show_state(run: Run, backbone: Backbone, context: int) -> None:
    parts = state.measure_parts(backbone, context)
    print_rows(_title(run, context), state.COLUMNS, state.table_rows(parts))
    for note in state.notes(parts):
        print(note)


def _show_triangle(run: Run, backbone: Backbone, context: int) -> None:
    growths = growth.measure_growth(backbone, growth.contexts_around(context))
    print_rows(f"{_title(run, context)}; n = {context}", growth.COLUMNS, growth.table_rows(growths, context))
    folder = run.runs_dir / "triangle"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{run.pattern.compact().replace(':', '~')}-d{run.model.d_model}-n{context}"
    table, picture = folder / f"{stem}.csv", folder / f"{stem}.png"
    write_file(table, growth.growth_csv(growths))
    for path in (picture, picture.with_suffix(".svg")):
        growth.draw_growth(growths, context, path, title=_title(run, context))
    print(f"table and pictures: {table}, {picture}, {picture.with_suffix('.svg')}")
