"""Commands that measure a stack without training it."""

import sys
from collections.abc import Callable
from functools import partial

from hybrids.cli.programs import run_program
from hybrids.config.compose import compose, spell_flags
from hybrids.model.backbone import Backbone
from hybrids.report.terminal import growth, state
from hybrids.report.terminal.table import print_meanings, print_rows
from hybrids.report.terminal.tables import MEANINGS
from hybrids.training.files import write_file
from hybrids.training.memory import check_stack
from hybrids.training.run import Run

_DRAW = "draw=true"


def run_state() -> int:
    """`hybrids state`: what every layer of a stack carries and costs. Takes Hydra's arguments and context=<n>."""
    return _run_at_context(_show_state, "state")


def run_triangle() -> int:
    """`hybrids triangle`: how state and cost grow with the context. Takes Hydra's arguments, context=<n>, --draw."""
    return _run_at_context(_show_triangle, "triangle")


def _run_at_context(show: Callable[[Run, Backbone, int], None], name: str) -> int:
    def program() -> None:
        given = [argument for argument in sys.argv[1:] if argument.startswith("context=") or argument == _DRAW]
        context = state.read_context([argument for argument in given if argument != _DRAW])
        run = compose([argument for argument in sys.argv[1:] if argument not in given])
        check_stack(run.pattern, run.letters, run.model.d_model, context)
        show(run, Backbone(run.model.d_model, run.pattern, run.letters), context)

    flags = {"--draw": _DRAW} if name == "triangle" else {}
    return run_program(program, name, spell=partial(spell_flags, flags=flags), config_name="train", header=_HELP[name])


_CONTEXT = "  context=<tokens>   tokens of one sequence before the step that is counted (1024)"
_HELP = {
    "state": f"{_CONTEXT}\nThe rest is as of a run.",
    "triangle": f"{_CONTEXT}\n  --draw             pictures (PNG, SVG) beside the table\nThe rest is as of a run.",
}


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
    print_meanings({name: MEANINGS[name] for name in ("Efficiency", "Compactness")})
    folder = run.runs_dir / "triangle"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{run.pattern.compact().replace(':', '~')}-d{run.model.d_model}-n{context}"
    table = folder / f"{stem}.csv"
    write_file(table, growth.growth_csv(growths))
    if _DRAW not in sys.argv:
        print(f"table: {table} (--draw adds pictures)")
        return
    from hybrids.report.terminal.growth_figure import draw_growth  # matplotlib, which a table does without

    pictures = [table.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in pictures:
        draw_growth(growths, context, path, title=_title(run, context))
    print(f"table and pictures: {', '.join(map(str, [table, *pictures]))}")
