"""A W&B workspace and a W&B report that compare hybrids: which panels, over which of the keys that runs log.

Both choose runs by project and group and tell them apart by their settings, never by their ids: they can be made before
a run has reached W&B, and show whatever is synchronised later.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws

from hybrids.errors import UserError
from hybrids.report.page.figure import find_figures
from hybrids.report.page.figures.triangle import PAIRS
from hybrids.training import wandb_result
from hybrids.training.wandb_result import place_key, score_key, size_key
from hybrids.triangle.place import FACTORS

Panel = (
    wr.LinePlot | wr.ScatterPlot | wr.BarPlot | wr.ParallelCoordinatesPlot | wr.WeavePanelSummaryTable | wr.MediaBrowser
)

RATE, PATTERN, SEED, WIDTH = "optim.lr", "pattern", "seed", "model.d_model"
"""Settings of a run as W&B has them."""

_shown = wr.SummaryMetric

_UNUSABLE = re.compile(r"[/\\#?%:\"']")


@dataclass(frozen=True)
class Scope:
    """The runs to be shown: those of some groups of a project; of no group in particular, all of the project."""

    project: str
    groups: tuple[str, ...] = ()
    facts: str | None = None
    """Slice of the test scores that counts facts; None leaves its section out."""
    entity: str = ""
    """Empty: the default of the user who uploads it."""

    def __post_init__(self) -> None:
        if not self.project:
            raise UserError("project= is empty; give the W&B project of the runs")
        names = {"project": [self.project], "entity": [self.entity], "group": self.groups}
        for setting, values in names.items():
            for value in values:
                if found := _UNUSABLE.search(value):
                    raise UserError(f"{setting}={value} cannot hold {found[0]}, which W&B does not take in names")
        if "" in self.groups:
            raise UserError("group= holds an empty name; leave it out to show all runs of the project")

    @property
    def title(self) -> str:
        shown = ", ".join(self.groups) or "all runs"
        return f"Hybrids: {shown if len(shown) <= 100 else f'{len(self.groups)} groups'}"

    def describe(self) -> str:
        """Which runs these are, in words."""
        of = f"group {', '.join(self.groups)}" if self.groups else "all groups"
        return f"the runs of project {self.project}, {of}"

    @property
    def filter(self) -> str:
        """In the notation of wandb-workspaces."""
        return f"Metric('Group') in {list(self.groups)}" if self.groups else ""


@dataclass(frozen=True)
class Section:
    """Panels that answer one question."""

    title: str
    text: str
    panels: Sequence[Panel]


def build_workspace(scope: Scope) -> ws.Workspace:
    """The panels beside the table of runs; the same for the same scope."""
    sections = [ws.Section(name=one.title, panels=list(one.panels), is_open=True) for one in build_sections(scope)]
    table = ws.RunsetSettings(
        filters=scope.filter,
        order=[ws.Ordering(ws.Summary(score_key("test")), ascending=False)],
        pinned_columns=run_columns(),
    )
    settings = ws.WorkspaceSettings(x_axis=wandb_result.STEP_KEY, max_runs=100)
    workspace = ws.Workspace(scope.entity, scope.project, scope.title, sections, settings, table)
    workspace._internal_runset_id = _name("runs")
    return workspace


def build_report(scope: Scope) -> wr.Report:
    """The same panels with what they show in words; the same for the same scope."""
    told = scope.describe()
    first = f"{told[0].upper()}{told[1:]}; bands and bars are over the runs of a pattern. {_LAW}"
    blocks = [wr.P(first), wr.TableOfContents()]
    for section in build_sections(scope):
        grid = wr.PanelGrid(runsets=[_runset(scope, section.title)], panels=list(section.panels))
        blocks += [wr.H2(section.title), wr.P(section.text), grid]
    return wr.Report(scope.project, scope.entity, scope.title, first, blocks, width="fluid")


_LAW = "No run can recall more bits than its state holds; one that does shows a leak in the task or a miscount."


def build_sections(scope: Scope) -> list[Section]:
    """The panels, with ids that depend on their place alone."""
    by_facts = [] if scope.facts is None else [_facts(scope.facts)]
    sections = [_learning(), _recall(), _triangle(), _cost(), *by_facts, _rates(), _figures()]
    for section in sections:
        for place, panel in enumerate(section.panels):
            panel._id = _name(f"{section.title} {place}")
    return sections


def _learning() -> Section:
    keys = [("Validation accuracy", score_key("val")), ("Training loss", score_key("train", "loss"))]
    return Section(
        "Learning",
        "Mean and range of the runs of each pattern, against optimiser steps.",
        [_curve(title, wandb_result.STEP_KEY, key, log_y="loss" in key) for title, key in keys],
    )


def _recall() -> Section:
    panels: list[Panel] = []
    for factor in FACTORS:
        where = "the training context" if factor == 1 else f"{factor} times that"
        title = f"Recalled bits against state bits, at {where}"
        x, y = _shown(place_key(factor, "facts_state_bits")), _shown(place_key(factor, "recalled_bits"))
        panels.append(wr.ScatterPlot(title=title, x=x, y=y, log_x=True, log_y=True))
    panels.append(_bars("Share of the state that is used", place_key(1, "utilisation")))
    text = (
        "Bits recalled against bits of the state after the last fact and before any query, one point a run, both axes "
        "logarithmic: a run that recalled nothing is not shown. Context is in multiples of that of training."
    )
    return Section("Recalled bits and state", text, panels)


def _triangle() -> Section:
    names = ("efficiency", "compactness", "recall")
    bars: list[Panel] = [_bars(name.capitalize(), place_key(1, name)) for name in names]
    pairs = [
        wr.ScatterPlot(title=f"{y.capitalize()} against {x}", x=_shown(place_key(1, x)), y=_shown(place_key(1, y)))
        for x, y in PAIRS
    ]
    columns = [
        _axis(wr.Config(PATTERN), "pattern"),
        *(_axis(_shown(place_key(1, name)), name) for name in names),
        _axis(_shown(size_key("state_bits")), "state bits", log=True),
        _axis(_shown(size_key("step_flops")), "step FLOPs", log=True),
        _axis(_shown(score_key("test")), "accuracy"),
    ]
    lines = wr.ParallelCoordinatesPlot(columns=columns, title="All at once", layout=wr.Layout(w=24, h=8))
    text = "At the training context. 1: does not grow with the context, or recalls everything; 0: grows in proportion."
    return Section("Efficiency, Compactness, Recall", text, [*bars, *pairs, lines])


def _cost() -> Section:
    panels: list[Panel] = [
        _bars("State bits", *(place_key(factor, "state_bits") for factor in FACTORS)),
        _bars("FLOPs of one step", *(place_key(factor, "step_flops") for factor in FACTORS)),
        _bars("Parameters of the backbone", size_key("parameters")),
    ]
    for title, name in (("state bits", "state_bits"), ("FLOPs of one step", "step_flops")):
        key = _shown(size_key(name))
        panels.append(wr.ScatterPlot(title=f"Accuracy against {title}", x=key, y=_shown(score_key("test")), log_x=True))
    text = "Backbone only, one sequence, at 1, 2 and 4 times the training context; mean over the runs of a pattern."
    return Section("State and step cost", text, panels)


def _facts(facts: str) -> Section:
    horizontal, vertical = wandb_result.curve_keys(facts)
    table = wr.WeavePanelSummaryTable(table_name=wandb_result.table_key(facts))
    text = f"Test accuracy against {facts}, mean and range of the runs of each pattern; the table has every run."
    panel = _curve(f"Test accuracy against {facts}", horizontal, vertical, layout=wr.Layout(w=16, h=6))
    return Section("Accuracy and number of facts", text, [panel, table])


def _rates() -> Section:
    panels: list[Panel] = [
        wr.ScatterPlot(title=f"{title} against learning rate", x=wr.Config(RATE), y=_shown(key), log_x=True)
        for title, key in (("Test accuracy", score_key("test")), ("Recall", place_key(1, "recall")))
    ]
    lines = [_axis(wr.Config(PATTERN), "pattern"), _axis(wr.Config(RATE), "learning rate", log=True)]
    lines += [_axis(wr.Config(SEED), "seed"), _axis(_shown(score_key("test")), "accuracy")]
    panels.append(wr.ParallelCoordinatesPlot(columns=lines, title="Pattern, rate, seed, accuracy"))
    text = "How wide the window of learning rates is; a failure at one rate is no limit of a pattern."
    return Section("Learning rates", text, panels)


def _figures() -> Section:
    keys = [wandb_result.figure_key(name) for figure in find_figures() for name in figure.drawings]
    panel = wr.MediaBrowser(title="hybrids report", media_keys=keys, layout=wr.Layout(w=24, h=16))
    text = "The figures of hybrids report, with seed bands and intervals, where its folder was at hand."
    return Section("Figures of the report", text, [panel])


def _curve(title: str, x: str, y: str, *, log_y: bool = False, layout: wr.Layout | None = None) -> wr.LinePlot:
    return wr.LinePlot(
        title=title,
        x=x,
        y=[y],
        log_y=log_y or None,
        groupby=wr.Config(PATTERN),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=100,
        layout=layout or wr.Layout(w=12, h=8),
    )


def _bars(title: str, *keys: str) -> wr.BarPlot:
    by = {"groupby": wr.Config(PATTERN), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    return wr.BarPlot(title=title, metrics=list(keys), max_runs_to_show=100, max_bars_to_show=50, **by)


def _axis(metric: wr.Config | wr.SummaryMetric, name: str, *, log: bool = False) -> wr.ParallelCoordinatesPlotColumn:
    return wr.ParallelCoordinatesPlotColumn(metric=metric, display_name=name, log=log or None)


_PLACE_COLUMNS = ("efficiency", "compactness", "recall", "recalled_bits", "utilisation", "law_broken")


def run_columns() -> list[str]:
    """Columns of the table of runs."""
    settings = [PATTERN, SEED, RATE, WIDTH]
    sizes = [size_key(name) for name in ("parameters", "state_bits", "step_flops", "context")]
    places = [place_key(1, name) for name in _PLACE_COLUMNS]
    shown = [f"summary:{key}" for key in (score_key("test"), *places, *sizes)]
    return ["run:displayName", *(_column(name) for name in settings), *shown, "run:group", "run:jobType"]


def _column(setting: str) -> str:
    first, dot, rest = setting.partition(".")
    return f"config:{first}.value{dot}{rest}"


def _runset(scope: Scope, title: str) -> wr.Runset:
    """Without a project of its own: that of the report."""
    order = [wr.OrderBy(wr.SummaryMetric(score_key("test")))]
    runs = wr.Runset(name="runs", filters=scope.filter, order=order, pinned_columns=run_columns())
    runs._id = _name(f"{title} runs")
    return runs


def _name(place: str) -> str:
    """An id as W&B makes them, but the same for the same place."""
    return hashlib.sha256(place.encode()).hexdigest()[:11]
