"""`hybrids atlas`: the table, one row, filters, records, page and figure."""

import csv
import io
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sympy
from atlas_rows import ALL, every_row

from hybrids import cli
from hybrids.report.terminal import atlas
from hybrids.report.terminal.atlas_figure import draw_atlas
from hybrids.triangle.atlas import CONTEXT


@pytest.fixture
def rows():
    return every_row()


def run_atlas(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["hybrids", "atlas", *arguments])
    code = cli.main()
    return code, capsys.readouterr()


def test_without_a_name_every_row_is_chosen_and_shown(rows):
    assert atlas.select() == list(ALL.values())
    shown = atlas.table_rows(rows)
    assert [row[0] for row in shown] == list(ALL)
    assert all(len(row) == len(atlas.COLUMNS) for row in shown)


def test_the_command_prints_a_table(monkeypatch, capsys):
    code, shown = run_atlas(monkeypatch, capsys, "rwkv", "--measure")
    assert code == 0
    assert all(f" {name} " in shown.out for name in ("rwkv4", "rwkv6", "rwkv7"))
    assert "s 1, f 1.000" in shown.out


def test_one_name_shows_formulas_and_reasons(monkeypatch, capsys):
    code, shown = run_atlas(monkeypatch, capsys, "jamba", "--context", "1000")
    assert code == 0
    for text in ("28 M: I*(N + W - 1); 4 A: 2*G*K*n", "fails: the state takes as much as n (A: 4 of 32 layers)"):
        assert text in shown.out
    assert "arch=jamba" in shown.out and "at n = 1,000" in shown.out


def test_filters_choose_by_class_family_and_name(monkeypatch, capsys):
    shown = {}
    for key, arguments in {
        "ER": ["--class", "ER"],
        "none": ["--class", "none"],
        "hybrid EC": ["--class", "ce", "--family", "hybrid"],
        "gemma": ["gemma"],
    }.items():
        code, out = run_atlas(monkeypatch, capsys, *arguments, "--json")
        assert code == 0
        shown[key] = {row["name"] for row in json.loads(out.out)}
    assert shown["ER"] == {"retrieval_attention", "sparse_access_memory"}
    assert "hyena" in shown["none"] and "transformer" not in shown["none"]
    assert shown["hybrid EC"] == {"based", "griffin", "recurrentgemma", "samba"}
    assert shown["gemma"] == {"recurrentgemma", "gemma_2", "gemma_3"}


def test_records_hold_formulas_that_give_the_coordinates(monkeypatch, capsys):
    _, shown = run_atlas(monkeypatch, capsys, "--csv", "qwen3")
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    (row,) = rows
    assert row["name"] == "qwen3_next"
    symbols = {name: sympy.Symbol(name) for name in [*json.loads(row["sizes"]), "n"]}
    formula = sympy.sympify(row["state_formula"], locals=symbols)
    values = {symbols[name]: value for name, value in json.loads(row["sizes"]).items()}
    once, twice = (float(formula.subs(values).subs(symbols["n"], k * int(row["context"]))) for k in (1, 2))
    assert 1 - math.log2(twice / once) == pytest.approx(float(row["compactness"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jambo"], "no architecture is named 'jambo'; did you mean 'jamba'?"),
        (["--class", "EX"], "class 'EX': allowed are letters of E, C and R"),
        (["--context", "0"], "context=0 must be from 1 to 1000000000000"),
        (["jamba", "--class", "EC"], "no architecture is of that name, class and family"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(monkeypatch, capsys, arguments, message):
    code, shown = run_atlas(monkeypatch, capsys, *arguments)
    assert code == 1
    assert message in shown.err and shown.err.count("\n") == 1


def test_the_command_writes_page_and_figure(tmp_path, monkeypatch, capsys):
    code, _ = run_atlas(monkeypatch, capsys, "gemma", "--write", str(tmp_path))
    assert code == 0
    text = (tmp_path / "atlas.md").read_text()
    assert "Gemma 2 2B" in text and "arXiv:2503.19786" in text
    assert (tmp_path / "atlas.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("context", [200, CONTEXT])
def test_figure_names_every_row_where_windows_still_fill_and_later(tmp_path, rows, context):
    draw_atlas([replace(row, context=context) for row in rows], tmp_path / "atlas.svg")
    texts = " ".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "atlas.svg").read_text(), re.DOTALL))
    named = re.sub(r"\s+", " ", texts)
    assert all(one.title in named for one in ALL.values())
    numbers = {int(found) for found in re.findall(r"(?<!\S)(\d+) (?! )", texts)}
    assert set(range(1, 20)) <= numbers


def test_the_committed_page_is_what_the_command_writes(rows):
    committed = (Path(__file__).parents[2] / "docs" / "atlas.md").read_text()
    assert committed == atlas.page(rows, "hybrids atlas --write docs", "atlas.png")
    assert all(one.title in committed and one.source in committed for one in ALL.values())
