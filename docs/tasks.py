"""Write docs/tasks.md, every registered task with an example and what it states: python docs/tasks.py

Where docs/tasks_learning.csv exists (column `task`: the name, and more words if need be; any other columns), its rows
stand below their task, and above them the picture docs/learning_<name>.png, if there is one.
"""

import csv
import inspect
import io
import re
from pathlib import Path

from rich.console import Console

from hybrids import registry
from hybrids.errors import UserError
from hybrids.report.terminal.examples import fact_rows, modes_of, print_examples, read_examples, spell_settings
from hybrids.task import Split, Task

DOCS = Path(__file__).parent
WIDTH = 110
LONGEST = 120
"""Tokens of an example that a page can hold; of a longer one, the smallest size that the task lists is shown."""

BAR = "\\|"

SETTINGS: dict[str, dict[str, object]] = {
    "mqar": {"num_pairs": 4, "length": 32},
    "mqar_updates": {"num_pairs": 4, "num_updates": 2, "length": 32},
    "mqar_two_token_keys": {"num_pairs": 4, "length": 32},
}
"""Sizes that are easier to read than the defaults."""

HEAD = """\
# Tasks

Written by `python docs/tasks.py` from the registered tasks. Behind an asked token stands `?`, its answer is read at
that position; what a search returned stands in braces. `hybrids task <name> [setting=value ...]` prints further
examples, at any size. The tables are at the defaults.

Learning curves (`python docs/learning.py tasks`, which goes on where it stopped): two layers of width 64, `AA`, `MM`
and `LA`, batches of 64, one seed, rates in the order 0.003, 0.01, 0.001 until one reaches 0.95 within 1,500 steps.
The accuracy is teacher-forced, in validation, and training stops where it reaches 0.95. Of a task that is decoded, most
of a trace is brackets and copies, so `decoded` says how often the answer is right that the model comes to on its own
(64 test examples, undecided ones counted as 0.5, searches answered by the tool): at 0.95 a trace of 100 tokens is
rarely flawless. A stack that has not reached 0.95 was given up after those steps; that is no statement about what it
can learn.

"""


def page() -> str:
    """The whole of docs/tasks.md."""
    names, curves = registry.names("task"), read_curves(DOCS / "tasks_learning.csv")
    contents = "".join(f"- [`{name}`](#{name})\n" for name in names)
    return f"{HEAD}{contents}\n" + "\n".join(section(name, curves.get(name, [])) for name in names)


def section(name: str, curves: list[dict[str, str]]) -> str:
    """One task: what it is, an example of each mode, what it states, its learning curves."""
    entry = registry.get("task", name)
    text = inspect.cleandoc(entry.cls.__doc__ or "")
    first = text.partition("\n\n")[0].rstrip(":.") + "."
    tasks = variants(entry.cls, name)
    parts = [f"## {name}\n", prose(first), f"Source: {entry.source}.\n"]
    parts += [f"```\nhybrids task {name}{given(task)}\n\n{example(task)}\n```\n" for task in tasks]
    modes = modes_of(entry.cls)
    parts += [table([entry.cls(mode=mode) for mode in modes] or [entry.cls()], modes or ["value"])]
    parts += [*paragraph(text, "Chance:"), *paragraph(text, "Bits:")]
    if curves:
        picture = DOCS / f"learning_{name}.png"
        parts += ["### Learned\n"]
        parts += [f"![{name}: accuracy against training steps]({picture.name})\n"] if picture.exists() else []
        columns = [column for column in curves[0] if any(row[column] for row in curves)]
        parts += [markdown(columns, [[row[column] for column in columns] for row in curves])]
    return "\n".join(parts)


def variants(cls: type[Task], name: str) -> list[Task]:
    """The task at a size that can be read, in each of its modes."""
    modes = [{"mode": mode} for mode in modes_of(cls)] or [{}]
    return [shrink(cls(**(SETTINGS.get(name, {}) | mode))) for mode in modes]


def shrink(task: Task) -> Task:
    """The task, or where its examples are too long, one at the smallest sizes of its grid that fit together."""
    if task.length <= LONGEST:
        return task
    smaller = task
    for size, values in task.sizes.items():
        try:
            smaller = smaller.resize(**{size: min(values)})
        except UserError:  # a size that needs another one to change along with it
            continue
    return smaller


def given(task: Task) -> str:
    """Settings that are not at their defaults, and the mode, as they are typed; a space before each."""
    defaults = spell_settings(type(task)()).split()
    settings = spell_settings(task).split()
    return "".join(f" {word}" for word in settings if word not in defaults or word.startswith("mode="))


def example(task: Task) -> str:
    """The first training example, in plain text."""
    console = Console(width=WIDTH, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        print_examples(read_examples(task, [0], seed=0, split=Split.TRAIN), console)
    return re.sub(r"[ \t]+$", "", capture.get(), flags=re.MULTILINE).strip("\n")


def table(tasks: list[Task], heads: list[str]) -> str:
    """What tasks state, one column each."""
    rows = [dict(fact_rows(task)) for task in tasks]
    settings = spell_settings(type(tasks[0])()).replace(" ", "`, `")
    stated = markdown(["", *heads], [[key, *(row[key] for row in rows)] for key in rows[0]])
    return f"{stated}\nSettings and defaults: `{settings}`.\n"


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', BAR) for cell in line)} |\n" for line in lines)


def paragraph(text: str, start: str) -> list[str]:
    """The part of a docstring that begins with `start`, up to the next such part."""
    found = re.search(rf"^{start}.*?(?=\n\n|\n[A-Z][a-z]+:|\Z)", text, re.MULTILINE | re.DOTALL)
    return [prose(found[0])] if found else []


def prose(text: str) -> str:
    """A paragraph on one line; outside code, stars are multiplication."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if place % 2 else part.replace("*", r"\*") for place, part in enumerate(parts)) + "\n"


def read_curves(path: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of the table of learning by task; none without the file."""
    curves: dict[str, list[dict[str, str]]] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                curves.setdefault(row["task"].split()[0], []).append(row)
    return curves


if __name__ == "__main__":
    (DOCS / "tasks.md").write_text(page(), encoding="utf-8")
