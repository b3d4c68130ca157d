"""Write docs/mixers.md, every registered mixer with what it carries and how fast it learns: python docs/mixers.py

The learning tables are docs/mixers.csv and docs/mixers_behind_conv.csv (docs/learning.py), the figure is drawn by
benchmarks/mixer_lengths.py.
"""

import csv
import inspect
from collections.abc import Sequence
from pathlib import Path

from hybrids import registry

DOCS = Path(__file__).parent

HEAD = """\
# Mixers

Written by `python docs/mixers.py`. `hybrids state pattern=L mixer@mixers.L=<name>` measures what one carries and costs,
`hybrids check mixer=<name>` holds it to its contract.

## How fast they learn

Each mixer as `LL`, and with attention as `LA`, on MQAR: 64 tokens, 8 pairs, 8,192 tokens in the vocabulary, width 64,
batches of 64 examples, at most 1,000 steps, one seed, one thread. Steps until the validation accuracy is 0.95, looked
at every 50 steps; rates are tried in the order 0.003, 0.01, 0.001 until one gets there, and in brackets is the best
accuracy where none did. So this says which mixers learn to recall at all, and roughly how soon; one seed and three
rates are no comparison of architectures. Trained by `python docs/learning.py mixers`: every trial is in
[mixers.csv](mixers.csv).

"""

CAUSES = {
    "attention": "Two layers of attention stay on a plateau until one finds the token before.",
    "short_conv": "As `LL` its two layers see six tokens: a limit of the family, since the pairs lie further back.",
}

CONV = """
Mixers that never get there as `LL` have one thing in common. To answer, a value must be stored under the key that
stands before it, so that some layer has to look one token back. Attention does it by its positions, and most recurrent
mixers have a short convolution (or a token shift) for it; those here have neither, as their authors' layers, whose
models put it elsewhere. Behind one layer of `short_conv` (`CL`), the same mixers, at the same rates:

"""

LENGTHS = """
## Time and memory against the length

![Time of a forward and backward pass per token against the length of the sequence, for every mixer](mixer_lengths.png)

*Recurrent mixers grow in proportion to the length, attention with its square; the legend says where each becomes
cheaper than attention. By `python benchmarks/mixer_lengths.py`, numbers in [mixer_lengths.csv](mixer_lengths.csv), the
hardware in [benchmarks/README.md](../benchmarks/README.md).*
"""


def page() -> str:
    """The whole of docs/mixers.md."""
    rows, behind = _read("mixers.csv"), _read("mixers_behind_conv.csv")
    names = registry.names("mixer")
    text = HEAD + _table(["mixer", "LL", "LA", ""], [_summary(name, rows) for name in names])
    text += _coverage(rows, names)
    if behind:
        mixers = list(dict.fromkeys(row["mixer"] for row in behind))
        columns = ["mixer", "LL", "CL"]
        cells = [[f"`{m}`", _cell(_trials(rows, m, "LL")), _cell(_trials(behind, m, "CL"))] for m in mixers]
        text += CONV + _table(columns, cells)
    return text + LENGTHS + "\n## What they are\n\n" + "\n".join(_section(name) for name in names)


def _read(name: str) -> list[dict[str, str]]:
    path = DOCS / name
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _trials(rows: Sequence[dict[str, str]], mixer: str, pattern: str) -> list[dict[str, str]]:
    return [row for row in rows if row["mixer"] == mixer and row["pattern"] == pattern]


def _cell(trials: Sequence[dict[str, str]]) -> str:
    """`300 at 0.003`, or the best accuracy in brackets."""
    if not trials:
        return "not trained"
    for row in trials:
        if row["steps to target"]:
            return f"{int(row['steps to target']):,} at {row['learning rate']}"
    best = max(trials, key=lambda row: float(row["best accuracy"]))
    return f"({float(best['best accuracy']):.2f} at {best['learning rate']}, of {len(trials)} rates)"


def _summary(name: str, rows: Sequence[dict[str, str]]) -> list[str]:
    return [f"`{name}`", *(_cell(_trials(rows, name, p)) for p in ("LL", "LA")), CAUSES.get(name, "")]


def _coverage(rows: Sequence[dict[str, str]], names: Sequence[str]) -> str:
    done = {(row["mixer"], row["pattern"]) for row in rows}
    return f"\n{len(done)} of {2 * len(names)} cells trained, {len(rows)} trials.\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _section(name: str) -> str:
    """The equations of a mixer's file, and the docstring of its class."""
    entry = registry.get("mixer", name)
    module = inspect.getmodule(entry.cls)
    equations = inspect.cleandoc((module and module.__doc__) or "")
    return f"### {name}\n\n```\n{equations}\n```\n\n```\n{inspect.cleandoc(entry.cls.__doc__ or '')}\n```\n"


if __name__ == "__main__":
    registry.load_plugins()
    (DOCS / "mixers.md").write_text(page())
