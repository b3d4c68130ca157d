"""Write docs/mixers.md, every registered mixer with what it carries and how fast it learns: python docs/mixers.py

The learning tables are docs/mixers.csv, docs/mixers_behind_conv.csv and docs/mixers_mixed.csv (docs/learning.py), the
figure is drawn by benchmarks/mixer_lengths.py.
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
    "mamba2": "As `LL` still rising at the end: 0.01 at step 700, 0.21 at 1,000 (rate 0.01).",
    "short_conv": "As `LL` it sees six tokens back: a limit of the family, for the pairs lie further back.",
    "sliding_attention": "Its window, 64, is the whole sequence here: the same numbers as attention.",
}

CONV = """
To answer, a value must be stored under the key that stands before it, so that some layer has to look one token back.
Attention does it by its positions, and most recurrent mixers have a short convolution or a token shift for it. Those
below have neither: their authors' layers leave it out, or their models put it elsewhere. So the first thing to try is
one layer of `short_conv` before them (`CL`), at the same rates: `python docs/learning.py behind_conv`. That is enough
for `based` and `linear_attention`.

The second is the plateau. At a fixed number of pairs a model first learns to answer with any value of the context,
right 1 time in 8, and then has little to learn from until it binds keys to values. With 1, 2, 4, 8 and 16 pairs in one
training (256 tokens in the vocabulary, at most 1,200 steps at rate 0.003, `python docs/learning.py mixed`) there is
less to be waited for: the columns "8 mixed" and "16 mixed" are the accuracy on the test examples with 8 and with 16
pairs. `mamba` and `mamba2`, which have a convolution of their own, stay on the plateau at 0.003 and leave it at 0.01,
still rising at the end. So what kept `gla`, `mlstm`, `retention`, `mamba` and `mamba2` down was the training, neither a
mistake in the mixer nor a limit of what it holds.

The third is memory. `hgrn2` stays at chance on both counts, because its forget gates start at 1/2: a token later half
of what was written is gone. Its authors let a lower bound of the gates rise from 0 in the first layer towards 1 in the
last of many; two layers have no place for that, and `lower_bound` is 0 unless it is set. On the first task, behind the
convolution at rate 0.003 for 1,000 steps, `mixers.L.lower_bound=0.9` reaches 0.11, the plateau, and
`mixers.L.lower_bound=0.98` reaches 0.94, so the row below has 0.98 in the last two columns.

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
    columns = ["mixer", "LL", "CL", "8 mixed", "16 mixed", "as", "rate"]
    text += CONV + _table(columns, [_slow(row, rows, behind) for row in _read("mixers_mixed.csv")])
    return text + LENGTHS + "\n## What they are\n\n" + "\n".join(_section(name) for name in names)


def _read(name: str) -> list[dict[str, str]]:
    path = DOCS / name
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
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


def _slow(mixed: dict[str, str], alone: Sequence[dict[str, str]], behind: Sequence[dict[str, str]]) -> list[str]:
    """A mixer alone, behind a convolution where it has none, and on mixed numbers of pairs."""
    name, pattern = mixed["mixer"], mixed["pattern"]
    cells = [_cell(_trials(alone, name, "LL")), _cell(_trials(behind, name, "CL")) if pattern == "CL" else ""]
    return [f"`{name}`", *cells, mixed["8 pairs"], mixed["16 pairs"], f"`{pattern}`", mixed["learning rate"]]


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
    (DOCS / "mixers.md").write_text(page(), encoding="utf-8")
