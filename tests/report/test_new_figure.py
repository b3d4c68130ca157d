"""A further figure of the page: one file, found by its place in the tree."""

import json
import sys

import pytest
from dashboards import named
from report_runs import table, write_run

from hybrids.report.page.collect import collect

pytest.importorskip("plotly")

MODULE = '''
"""Seconds that runs took."""

import plotly.graph_objects as go
from matplotlib.figure import Figure as Still

from hybrids.report.page.figure import Drawing, Figure, Series


def tabulate(comparison):
    rows = [{"run": run.name, "seconds": run.result["seconds"]} for run in comparison.runs]
    return Series("Time", "How long it took.", ("run", "seconds"), rows, ["on one machine"])


def draw_still(rows):
    figure = Still()
    figure.subplots().plot([row["seconds"] for row in rows])
    return figure


def draw_interactive(rows):
    return go.Figure(go.Scatter(y=[row["seconds"] for row in rows])).update_layout(height=333)


FIGURE = Figure("time", 15, tabulate, {"time_taken": Drawing(draw_still, draw_interactive)})
'''


@pytest.fixture
def with_time(tmp_path, monkeypatch):
    """The module of a figure in a folder beside those of the tree."""
    from hybrids.report.page import figures

    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "seconds.py").write_text(MODULE)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path / "figures")])
    yield
    sys.modules.pop(f"{figures.__name__}.seconds")
    del figures.seconds


def test_a_figure_in_a_file_of_its_own_is_on_the_page_and_in_files(tmp_path, with_time):
    from hybrids.report.page.page import write_report

    write_run(tmp_path / "runs", "LA", seconds=7.5)
    report = write_report(collect(tmp_path / "runs"))
    assert [row["seconds"] for row in table(tmp_path / "runs", "time")] == ["7.5"]
    assert {path.name for path in report.page.parent.glob("time*")} == {
        "time.csv",
        "time_taken.png",
        "time_taken.svg",
    }
    page = report.page.read_text()
    assert 'id="time_taken"' in page and "height:333px" in page and "Note: on one machine." in page
    titles = [page.index(f"<h2>{title}") for title in ("Efficiency", "Time", "Recalled bits")]
    assert titles == sorted(titles)  # by its number between those of the others


def test_a_dashboard_shows_it_too(tmp_path, with_time):
    pytest.importorskip("wandb_workspaces")
    from hybrids.report.wandb.dashboard import Scope, build_report, build_workspace
    from hybrids.report.wandb.definition import Definition

    scope = Scope("p")
    Definition(build_workspace(scope), build_report(scope)).write(tmp_path / "file")
    assert "figures/time_taken" in named(json.loads((tmp_path / "file").read_text()))["figures"]


def test_every_figure_has_a_name_and_a_place_of_its_own():
    from hybrids.report.page.figure import find_figures

    figures = find_figures()
    files = [name for figure in figures for name in figure.drawings]
    assert len(files) == len(set(files)) >= len(figures) > 5
    for key in ("name", "order"):
        assert len({getattr(figure, key) for figure in figures}) == len(figures)
