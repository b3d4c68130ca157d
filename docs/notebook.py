"""docs/tour.ipynb from docs/tour.py: the text is what is edited, and the notebook is written from it.

    python docs/notebook.py             # runs every cell, about a minute on one core, and writes the notebook
    python docs/notebook.py <file>      # writes it elsewhere

The text is in the percent format, which editors and Jupytext know: `# %%` begins a cell of code, `# %% [markdown]`
one of text, each line of which is a comment. The notebook is of format 4.5 (https://nbformat.readthedocs.io), with
what the cells printed and drew.
"""

import base64
import json
import os
import sys
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt

SOURCE = Path(__file__).with_name("tour.py")
MARK = "# %%"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Cell(NamedTuple):
    """A cell of a notebook: `code` or `markdown`, and its text."""

    kind: str
    text: str


def read_cells(source: str) -> list[Cell]:
    """The cells of a text in percent format; what stands before the first mark is none of them."""
    cells = []
    for part in f"\n{source}".split(f"\n{MARK}")[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            cells.append(Cell("markdown", text))
        else:
            assert not head.strip(), f"a cell begins with {MARK}{head}"
            cells.append(Cell("code", body.strip()))
    return cells


def run_cells(cells: list[Cell]) -> list[list[dict[str, Any]]]:
    """What each cell prints and draws, as outputs of a notebook; all share one module, and run in this folder."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for cell in cells:
        printed = StringIO()
        if cell.kind == "code":
            with redirect_stdout(printed):
                exec(compile(cell.text, str(SOURCE), "exec"), scope)
        outputs.append([*_stream(printed.getvalue()), *map(_picture, plt.get_fignums())])
        plt.close("all")
    return outputs


def to_notebook(cells: list[Cell], outputs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The notebook as JSON holds it."""
    written, count = [], 0
    for number, (cell, found) in enumerate(zip(cells, outputs, strict=True)):
        one: dict[str, Any] = {"cell_type": cell.kind, "id": f"cell-{number}", "metadata": {}}
        if cell.kind == "code":
            count += 1
            one |= {"execution_count": count, "outputs": found}
        written.append(one | {"source": cell.text.splitlines(keepends=True)})
    return {"cells": written, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def _stream(text: str) -> list[dict[str, Any]]:
    lines = text.splitlines(keepends=True)
    return [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []


def _picture(number: int) -> dict[str, Any]:
    file = BytesIO()
    plt.figure(number).savefig(file, format="png", dpi=90, metadata={"Software": None})
    data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else SOURCE.with_suffix(".ipynb")).resolve()
    mpl.use("Agg")
    cells = read_cells(SOURCE.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        os.chdir(folder)  # the runs are of no use afterwards
        notebook = to_notebook(cells, run_cells(cells))
        os.chdir(target.parent)
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
