"""The notebook in docs is the text file that it is made from, and runs."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def load(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load("notebook")
NOTEBOOK = json.loads((DOCS / "tour.ipynb").read_text(encoding="utf-8"))


def cells_of(notebook):
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def printed(cell):
    return "".join(line for output in cell["outputs"] for line in output.get("text", []))


def test_text_in_percent_format_is_cells():
    text = "# a comment\n# %% [markdown]\n# # Title\n#\n# - point\n\n# %%\nx = 1\n\n# not a mark\ny = 2\n\n# %%\nz\n"
    assert MAKER.read_cells(text) == [
        ("markdown", "# Title\n\n- point"),
        ("code", "x = 1\n\n# not a mark\ny = 2"),
        ("code", "z"),
    ]


def test_the_notebook_is_the_text():
    """Where this fails: python docs/notebook.py."""
    assert cells_of(NOTEBOOK) == MAKER.read_cells((DOCS / "tour.py").read_text(encoding="utf-8"))


def test_the_notebook_is_of_format_4_5():
    """As its schema has it: https://github.com/jupyter/nbformat/blob/main/nbformat/v4/nbformat.v4.5.schema.json"""
    assert NOTEBOOK.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        of_code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | of_code


def test_it_shows_a_table_and_one_figure():
    outputs = [output for cell in NOTEBOOK["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert any("accuracy" in printed(cell) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")


def test_it_uses_what_a_user_has():
    imported = {
        alias.name
        for node in ast.walk(ast.parse((DOCS / "tour.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"hybrids", "matplotlib.pyplot"}


@pytest.mark.slow
def test_every_cell_runs_and_finds_what_the_text_says(tmp_path):
    made = tmp_path / "made.ipynb"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(DOCS / "notebook.py"), str(made)], check=True, env=environment, cwd=tmp_path)
    notebook = json.loads(made.read_text(encoding="utf-8"))
    assert cells_of(notebook) == cells_of(NOTEBOOK)
    kinds = [[output["output_type"] for output in cell.get("outputs", [])] for cell in notebook["cells"]]
    assert kinds == [[output["output_type"] for output in cell.get("outputs", [])] for cell in NOTEBOOK["cells"]]
    (table,) = (
        printed(cell) for cell in notebook["cells"] if "hy.runs()" in "".join(cell["source"]) and cell.get("outputs")
    )
    accuracy = {line.split()[0]: float(line.split()[1]) for line in table.splitlines()[1:]}
    assert accuracy["LA"] > accuracy["LL"] > 0.5 and 0.15 < accuracy["AA"] < 0.35, (
        "one of four values, as the text says"
    )
    assert list(tmp_path.iterdir()) == [made]
