"""Growth with the context: coordinates of stacks whose growth is known."""

import csv
import io
import math
import sys

import pytest

from hybrids import cli
from hybrids.model.backbone import Backbone
from hybrids.report.terminal.growth import COLUMNS, contexts_around, growth_csv, measure_growth, table_rows
from hybrids.report.terminal.growth_figure import draw_growth


@pytest.fixture
def growths(make_run):
    def measure(pattern, contexts):
        run = make_run(f"pattern={pattern}")
        return measure_growth(Backbone(run.model.d_model, run.pattern, run.letters), contexts)

    return measure


def test_a_recurrent_layer_stays_and_attention_doubles(growths):
    recurrent, attention, total = growths("LA", [64, 128])
    assert [growth.layer for growth in (recurrent, attention, total)] == ["0 L", "1 A", "total"]
    assert recurrent.coordinates(64) == (1.0, 1.0, None)
    assert attention.coordinates(64).compactness == 0.0
    assert attention.at(64).state_bits == 64 * 2 * 16 * 32  # keys and values of width 16 in float32
    assert 0 < total.coordinates(64).compactness < 1
    assert 0 < total.coordinates(64).efficiency < 1


def test_efficiency_of_attention_falls_as_the_context_grows(growths):
    """Of a step, the part that reads the context takes over: 0 in the limit."""
    total = growths("A", [16, 32, 256, 512, 2048, 4096])[-1]
    efficiencies = [total.coordinates(context).efficiency for context in (16, 256, 2048)]
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert efficiencies[-1] < 0.1


def test_a_window_stops_growing(make_run):
    run = make_run("pattern=S", "mixers.S.window=32")
    total = measure_growth(Backbone(run.model.d_model, run.pattern, run.letters), [8, 16, 64, 128])[-1]
    assert total.coordinates(8).compactness == 0.0
    assert total.coordinates(64) == (1.0, 1.0, None)


def test_the_total_is_the_sum_and_the_table_says_it(growths):
    found = growths("LA", [64, 128])
    rows = table_rows(found, 64)
    assert all(len(row) == len(COLUMNS) for row in rows)
    for column in range(3, 9):
        numbers = [int(row[column].replace(",", "")) for row in rows]
        assert numbers[-1] == sum(numbers[:-1])


def test_coordinates_follow_from_the_csv_alone(growths):
    found = growths("LA", [64, 128])
    rows = list(csv.DictReader(io.StringIO(growth_csv(found))))
    once, twice = (next(r for r in rows if r["layer"] == "total" and r["context"] == n) for n in ("64", "128"))
    expected = 1 - math.log2(int(twice["step_flops"]) / int(once["step_flops"]))
    assert found[-1].coordinates(64).efficiency == pytest.approx(expected)


def test_contexts_are_doubles_of_each_other():
    assert contexts_around(1024) == [64, 128, 256, 512, 1024, 2048, 4096]
    assert contexts_around(1) == [1, 2, 4]
    assert contexts_around(6) == [1, 3, 6, 12, 24]
    with pytest.raises(ValueError, match="context=0 must be at least 1"):
        contexts_around(0)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure_shows_every_layer(growths, tmp_path, suffix):
    path = tmp_path / f"growth.{suffix}"
    draw_growth(growths("LAL", [64, 128, 256]), 64, path, title="LAL")
    if suffix == "svg":
        text = path.read_text()
        assert "<!-- 0 L, 2 L -->" in text and "<!-- 1 A -->" in text and "<!-- total -->" in text
    else:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_the_table_and_keeps_table_and_pictures(tmp_path, monkeypatch, capsys):
    command = ["hybrids", "triangle", "pattern=L:A", "context=32", f"runs_dir={tmp_path}"]
    for flags, suffixes in (([], ("csv",)), (["--draw"], ("csv", "png", "svg"))):
        monkeypatch.setattr(sys, "argv", [*command, *flags])
        assert cli.main() == 0
        assert "Compactness" in capsys.readouterr().out
        names = {path.name for path in (tmp_path / "triangle").iterdir()}
        assert names == {f"L~A-d64-n32.{suffix}" for suffix in suffixes}


def test_nothing_grows_from_an_empty_context(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hybrids", "triangle", "pattern=LA", "context=0"])
    assert cli.main() == 1
    assert "error: context=0 must be at least 1" in capsys.readouterr().err
