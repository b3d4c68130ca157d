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
    "block_sparse_attention": "Finds the right block and then guesses: 1/2 is one of the 2 values in 4 tokens. "
    "It stays there with all blocks selected, too (0.49 after 500 steps); with `block_size=8` at 0.23, and with "
    "`block_size=2` it is at 0.998 after 100 steps (rate 0.01). A shortcut of training, not of the selection.",
    "mamba": "As `LL` tried at one rate only.",
    "mamba2": "As `LL` still rising at the end: 0.01 at step 700, 0.21 at 1,000 (rate 0.01).",
    "short_conv": "As `LL` it sees six tokens back: a limit of the family, for the pairs lie further back.",
    "sliding_attention": "Its window, 64, is the whole sequence here: the same numbers as attention.",
}

CONV = """
To answer, a value must be stored under the key that stands before it, so that some layer has to look one token back.
Attention does it by its positions, and most recurrent mixers have a short convolution or a token shift for it. Those
below have neither: their authors' layers leave it out, or their models put it elsewhere. If that is what keeps them
from 0.95 as `LL`, they get there behind one layer of `short_conv` (`CL`), at the same rates. So it is for `based`. It
is not for `hgrn2`, which stays at chance, nor so far for `mlstm`: why these two do not learn is not known yet.

"""

NOT_YET = """
To answer, a value must be stored under the key that stands before it, so that some layer has to look one token back.
Attention does it by its positions, and most recurrent mixers have a short convolution or a token shift for it; `based`,
`gla`, `hgrn2`, `linear_attention`, `mlstm` and `retention` have neither. That this is what keeps them from 0.95 as `LL`
is an explanation that was not tested yet: `python docs/learning.py behind_conv` trains them behind a `short_conv`.
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
    else:
        text += NOT_YET
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
