"""The report as a reader sees it: in a browser, from disk, without a network."""

import base64
import io
from itertools import pairwise

import matplotlib.image
import numpy
import pytest
from chromium import PROGRAM, open_page
from report_runs import write_effective, write_run, write_search, write_trajectories

from hybrids.report.page.collect import collect

FIGURES = {
    "triangle_pairs": 3 * (3 + 3),  # in each panel a trace for each context, and a path
    "spokes": 3 * 8,  # a triangle for each context of each pattern
    "recalled_by_state": 4 + 8 + 1 + 2 * 3,  # lines of utilisation, patterns, what breaks the law, effective bits
    "effective_bits": 3,  # one run for each of three patterns
    "capacity": 3 * 2,  # facts, rates and window of two patterns
    "accuracy_by_facts": 2 * 8,  # each pattern with its band
    "growth": 2 * 4,  # placements of equal size are one curve
    "learning_rates": 2 * 8,
    "placement": 2,
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    pytest.importorskip("plotly")
    from hybrids.report.page.page import write_report

    folder = tmp_path_factory.mktemp("report")
    write_trajectories(folder)
    for pattern in ("LLLL", "LLLA", "AAAA"):
        write_effective(folder / f"mqar-{pattern}-0.003-0")
    write_search(folder, {"LLLL": {"facts": None, "interval": None}, "LLLA": {"reasons": ("few rates",)}})
    (write_run(folder, "LA", name="cut") / "result.json").write_text('{"version": 1, "id')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybrids.report.page.figure.Figure.save_stills", lambda *_: None)  # which no browser shows
        report = write_report(collect(folder))
    with open_page(tmp_path_factory.mktemp("profile")) as page:
        page.open(report.page)
        page.wait_for(f"document.querySelectorAll('.plotly-graph-div .main-svg').length >= {len(FIGURES)}")
        yield page


def test_no_error_and_no_request_leaves_the_page(page):
    page.evaluate("1")  # collects what was still on its way
    assert page.reported("Runtime.exceptionThrown") == []
    assert [entry for entry in page.reported("Log.entryAdded") if entry["entry"]["level"] == "error"] == []
    said = page.reported("Runtime.consoleAPICalled")
    assert [call for call in said if call["type"] in ("error", "warning", "assert")] == []
    requests = [request["request"]["url"] for request in page.reported("Network.requestWillBeSent")]
    assert requests and all(url.startswith(("file:", "data:", "blob:")) for url in requests)


def test_every_figure_is_drawn_below_the_other(page):
    traces = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.plotly-graph-div')].map(d => [d.id, d.data.length]))"
    )
    assert traces == FIGURES
    edges = page.evaluate(
        "[...document.querySelectorAll('h2, .plotly-graph-div')].map(e => e.getBoundingClientRect())"
        ".map(r => [r.top, r.bottom, r.left, r.right])"
    )
    for (_, bottom, *_), (top, *_) in pairwise(edges):
        assert bottom <= top + 1
    assert all(left >= 0 and right <= 1280 for _, _, left, right in edges)


def test_every_figure_has_ink_and_colour(page):
    for name in FIGURES:
        picture = screenshot(page, name)
        assert (picture < 0.9).any(axis=2).mean() > 0.005, f"{name} is empty"
        assert (picture.max(axis=2) - picture.min(axis=2) > 0.3).sum() > 100, f"{name} has no colour"


@pytest.mark.parametrize(
    ("figure", "point", "told"),
    [
        ("triangle_pairs", ".trace.scatter .points path", ("context", "recall: ")),
        ("spokes", ".trace.scatter .points path", ("context", "efficiency: ")),
        ("recalled_by_state", ".trace.scatter .points path", ("state bits: ", "utilisation: ")),
        ("effective_bits", ".trace.scatter .points path", ("share kept: ", "bits per element: ")),
        ("capacity", ".trace.scatter .points path", ("facts: 5", "window decades: ")),
        ("accuracy_by_facts", ".trace.scatter .points path", ("accuracy: ", "seeds: 3")),
    ],
)
def test_hovering_over_a_point_shows_its_row(page, figure, point, told):
    x, y = page.evaluate(f"""(() => {{
        const figure = document.getElementById('{figure}');
        figure.scrollIntoView({{block: 'center'}});
        const points = [...figure.querySelectorAll('{point}')].filter(p => p.getBoundingClientRect().width > 5);
        const box = points[points.length - 1].getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
    }})()""")
    for step in (3, 0):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
    label = page.wait_for(f"document.querySelector('#{figure} .hoverlayer .hovertext')?.textContent")
    assert all(part in label for part in told), label


@pytest.mark.parametrize("figure", ["growth", "accuracy_by_facts"])
def test_a_click_in_the_legend_hides_a_curve_in_every_panel_with_its_band(page, figure):
    shown = f"document.getElementById('{figure}').querySelectorAll('.trace.scatter').length"
    before = page.evaluate(shown)
    x, y = page.evaluate(f"""(() => {{
        const figure = document.getElementById('{figure}');
        figure.scrollIntoView({{block: 'center'}});
        const box = figure.querySelector('.legendtoggle').getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
    }})()""")
    for hidden in (2, 0):  # a second click brings it back
        for kind in ("mousePressed", "mouseReleased"):
            page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        assert page.wait_for(f"{shown} === {before - hidden}")


def test_what_is_missing_can_be_read(page):
    assert "damaged" in page.evaluate("document.getElementById('not-shown').textContent")


def screenshot(page, figure):
    """The pixels of one figure, 0 to 1."""
    left, top, width, height = page.evaluate(
        f"(r => [r.left + scrollX, r.top + scrollY, r.width, r.height])"
        f"(document.getElementById('{figure}').getBoundingClientRect())"
    )
    clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
    shot = page.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    return numpy.asarray(matplotlib.image.imread(io.BytesIO(base64.b64decode(shot["data"]))))[..., :3]
