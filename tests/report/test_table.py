"""Any table at any width: no number is broken, nothing is left out in silence, programs read it too."""

import csv
import io
import json
import re

import pytest

from hybrids.errors import UserError
from hybrids.report.terminal import table

COLUMNS = ("layer", "what it is", "elements", "bits", "zoology")
LONG = "a mixer with a long description of itself"
ROWS = [["0 L", LONG, "12,345,678", "395,061,696", "8"], ["1 A", "b", "1", "2", ""]]


@pytest.fixture
def shown(capsys, monkeypatch):
    """What is printed on a terminal of some width, with some flags."""

    def show(width, *flags):
        table.take_flags(flags)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        table.print_rows("some [title]", COLUMNS, ROWS)
        table.take_flags([])
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)

    return show


def test_a_wide_terminal_shows_all(shown):
    out = shown(120)
    assert "zoology" in out and "left out" not in out and "some [title]" in out


@pytest.mark.parametrize("width", [28, 29, 30, 40, 42, 43, 50, 56, 57, 58, 60, 80])
def test_no_number_is_broken(shown, width):
    out = shown(width)
    table = [line for line in out.splitlines() if line[0] in "┏┃┡│└"]
    assert {len(line) for line in table} == {len(table[0])} and len(table[0]) <= width
    for i, number in ((2, "12,345,678"), (3, "395,061,696")):
        assert (number in out) != (COLUMNS[i] in out.partition("left out")[2])
    assert ("left out for want of width: " in out) == (width < 59)


def test_wide_shows_all_on_lines_as_long_as_they_are(shown):
    out = shown(40, "--wide")
    assert any(
        "a mixer with a long description of itself" in line and "395,061,696" in line for line in out.splitlines()
    )


def test_programs_read_it(shown):
    assert list(csv.reader(io.StringIO(shown(40, "--format=csv")))) == [list(COLUMNS), *ROWS]
    read = json.loads(shown(40, "--format=json"))
    assert read["title"] == "some [title]"
    assert read["rows"][0] == dict(zip(COLUMNS, ["0 L", LONG, 12345678, 395061696, 8], strict=True))
    assert read["rows"][1]["zoology"] == ""


def test_other_formats_are_refused():
    with pytest.raises(UserError, match="--format='xml' is unknown"):
        table.take_flags(["--format=xml"])
    with pytest.raises(UserError, match="--format=<format>; allowed: text"):
        table.take_flags(["--format"])


def test_what_is_no_table_goes_to_stderr_where_a_program_reads(hybrids):
    reply = hybrids("state", "pattern=L", "context=8", "model.d_model=16", "--format=json")
    (line,) = reply.said().splitlines()
    assert json.loads(line)["rows"][-1]["layer"] == "total"


def test_words_are_explained_on_request(hybrids):
    command = ("triangle", "pattern=L", "context=8", "model.d_model=16")
    assert "Compactness: 1 - log2" not in hybrids(*command).said()
    assert "Compactness: 1 - log2 of how many times the state is larger" in hybrids(*command, "--explain").said()
