"""A report: an HTML page that opens from disk without a network, and beside it figures, tables and what draws them."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from hybrids.errors import printable
from hybrids.report.page.collect import Collection, Missing, ReportedRun, held_bits, law_broken
from hybrids.report.page.compare import Comparison, spell_pattern
from hybrids.report.page.figure import find_figures
from hybrids.report.page.folder import open_folder, publish
from hybrids.report.page.style import spell
from hybrids.training.files import to_csv, write_file

_SETTINGS = ("run", "pattern", "model", "task", "learning_rate", "seed")
_SCORES = ("accuracy", "exact_match", "chance")
_PLACE = ("efficiency", "compactness", "recall", "recalled_bits")
"""At the context of training."""
_SIZES = ("parameters", "backbone_parameters", "context", "state_bits", "step_flops", "step_bytes")
_MEANS = ("steps", "stopped", "seconds", "backend", "device", "threads", "commit")
RUN_COLUMNS = (*_SETTINGS, *_SCORES, *_PLACE, *_SIZES, *_MEANS)


PLOTLY = "plotly.min.js"
"""What draws the figures, five megabytes: once beside the page."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    page: Path
    num_runs: int
    missing: Sequence[Missing]
    alarms: Sequence[str]
    """A sentence for each result that no state of its size can give."""
    set_aside: Sequence[str]
    """A sentence for each file that stood in the way and is not of a report."""


def write_report(collection: Collection, *, letter: str = "A", facts: str | None = None) -> Report:
    """Write <folder>/report: index.html, a PNG, an SVG and a CSV for every figure, runs.csv and missing.csv.

    `letter` and `facts` are as in `Comparison`. Of what stands there, only files of an earlier report are replaced.
    UserError where the folder cannot be written.
    """
    place = collection.folder / "report"
    open_folder(place)
    with TemporaryDirectory(prefix=".draft-", dir=place) as drafts:
        alarms = _write_files(collection, Path(drafts), letter, facts)
        set_aside = publish(Path(drafts), place, _possible_names())
    return Report(place / "index.html", len(collection.runs), collection.missing, alarms, set_aside)


def _possible_names() -> list[str]:
    figures = find_figures()
    tables = ["runs", "missing", *(figure.name for figure in figures)]
    pictures = [f"{name}.{kind}" for figure in figures for name in figure.drawings for kind in ("png", "svg")]
    return ["index.html", PLOTLY, *(f"{name}.csv" for name in tables), *pictures]


def _write_files(collection: Collection, place: Path, letter: str, facts: str | None) -> list[str]:
    """Every file of a report; the alarms."""
    comparison = Comparison(collection.runs, letter, facts=facts, searches=collection.searches)
    shown = [(figure, figure.tabulate(comparison)) for figure in find_figures()] if comparison.runs else []
    runs = [run_row(comparison, run) for run in comparison.runs]
    tables = {"runs": to_csv(RUN_COLUMNS, runs), "missing": to_csv(("run", "reason"), map(astuple, collection.missing))}
    tables |= {figure.name: series.to_csv() for figure, series in shown}
    for name, text in tables.items():
        write_file(place / f"{name}.csv", text)
    for figure, series in shown:
        if series.rows:
            figure.save_stills(series.rows, place)
    alarms = list(_alarms(collection))
    page = (
        _environment()
        .get_template("page.html")
        .render(
            title=printable(collection.folder.resolve().name),
            collection=collection,
            alarms=alarms,
            shared=comparison.shared(),
            mixed=_mixed(collection.runs),
            figures=[(one.name, series, one.to_html(series.rows) if series.rows else {}) for one, series in shown],
            columns=RUN_COLUMNS,
            runs=runs,
            tables=tables,
            plotly=PLOTLY,
        )
    )
    write_file(place / "index.html", page)
    write_file(place / PLOTLY, get_plotlyjs())
    return alarms


def run_row(comparison: Comparison, run: ReportedRun) -> dict[str, Any]:
    """A run under `RUN_COLUMNS`."""
    result, task = run.result, run.identity["task"]["name"]
    places: list[Mapping[str, Any]] = [*run.places[:1]]
    told = comparison.describe(run, task=True, without=["task.name"], named=False)
    letters = run.identity["letters"].items()
    mixers = " ".join(f"{name}={(letter.get('mixer') or {}).get('name', 'none')}" for name, letter in letters)
    return {
        "run": run.name,
        "pattern": spell_pattern(run.pattern),
        "model": comparison.describe(run, task=False, named=False) or mixers,
        "task": f"{task} {told}".strip(),
        "learning_rate": run.rate,
        "seed": run.seed,
        "accuracy": result["test"]["accuracy"],
        "exact_match": result["test"].get("exact_match"),
        "chance": result["chance_accuracy"],
        **{name: places[0][name] if places else None for name in _PLACE},
        "parameters": result["parameters"]["total"],
        "backbone_parameters": result["parameters"]["backbone"],
        **{key: result[key] for key in (*_SIZES[2:], *_MEANS[:3])},
        "backend": " ".join(f"{name}={backend}" for name, backend in result["backend"].items()),
        "device": result["hardware"].get("device"),
        "threads": result["hardware"].get("threads"),
        "commit": _commit(result["code"]),
    }


def _mixed(runs: Sequence[ReportedRun]) -> list[str]:
    """What should be one in a comparison and is not."""
    found: dict[str, set[str]] = {}
    for run in runs:
        found.setdefault("commit", set()).add(_commit(run.result["code"]))
        for key in ("device", "threads", "ranks"):
            found.setdefault(key, set()).add(str(run.result["hardware"].get(key)))
        for letter, backend in run.result["backend"].items():
            found.setdefault(f"backend of {letter}", set()).add(backend)
    return [f"{len(told)} values of {what}: {', '.join(sorted(told))}" for what, told in found.items() if len(told) > 1]


def _commit(code: Mapping[str, Any]) -> str:
    return f"{str(code.get('commit'))[:10]}{' + changes' if code.get('changes') else ''}"


def _alarms(collection: Collection) -> Iterator[str]:
    for run in collection.runs:
        for place in filter(law_broken, run.places):
            yield (
                f"{run.name} at context {place['context']}: {spell(place['recalled_bits'])} bits recalled (surely more "
                f"than {spell(place['surely'])}) through a state of {held_bits(place):,} bits"
            )
        for sentence in run.rounded.alarms if run.rounded else ():
            yield f"{run.name}, its state rounded by hybrids bits: {sentence}"
    for found in collection.searches:
        if found.law_broken:
            yield (
                f"{found.pattern} in the search {found.search}: {spell(found.facts)} facts recalled, of which its "
                f"state of {found.state_bits:,} bits holds {spell(found.bound)} at most"
            )


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["spell"] = spell
    # a file inside the page, so that it stays with the page when that is moved
    environment.filters["link"] = lambda text: f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"
    return environment
