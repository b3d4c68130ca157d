"""Examples of a task as a person reads them, and what the task says of itself.

Behind an asked token stands `?`, and what a search returned stands in braces; on a terminal both have colours, too.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from hybrids import registry
from hybrids.report.terminal.table import print_rows
from hybrids.task import DecodedTask, Episode, Split, Task

ASKED, TARGET, WRONG, UNSEEN, RETURNED = "bold yellow", "green", "bold red", "dim", "magenta"

_INDENT, _PIPE_WIDTH = 4, 120
_STATED = ("chance_accuracy", "facts", "bits", "vocab_size", "length", "num_targets", "facts_end", "generated_on")
_LONGEST_RUN = 3
"""Of equal tokens at the end; a longer one is shown once, with its length."""


@dataclass(frozen=True)
class SpelledAnswer:
    """One question of an example: where it is asked, the right answer, and the oracle's; tokens as spelt."""

    position: int
    token: str
    target: str
    oracle: str


@dataclass(frozen=True)
class SpelledTrace:
    """An example as it is decoded; `returned` tells which tokens of `trace` a search gave."""

    prompt: list[str]
    trace: list[str]
    returned: list[bool]


@dataclass(frozen=True)
class SpelledExample:
    """One example, spelt; `decoded` where the task is."""

    index: int
    slices: dict[str, int]
    """Without those that differ between the answers of an example."""
    tokens: list[str]
    answers: list[SpelledAnswer]
    decoded: SpelledTrace | None


def read_examples(task: Task, indices: Sequence[int], *, seed: int, split: Split) -> list[SpelledExample]:
    """The examples `indices` of a split, with the oracle's answers; those of a decoded task with their traces."""
    index = torch.tensor(list(indices))
    batch = task.sample(index, seed=seed, split=split)
    solved = task.solve(batch.tokens, batch.positions)
    traces = [None] * len(index)
    if isinstance(task, DecodedTask):
        traces = [_spell_trace(task, episode) for episode in task.episodes(index, seed=seed, split=split)]
    examples = []
    for row, number in enumerate(indices):
        tokens = [task.spell(token) for token in batch.tokens[row].tolist()]
        asked = batch.valid[row]
        spelt = ([task.spell(token) for token in answers[row][asked].tolist()] for answers in (batch.targets, solved))
        places = batch.positions[row][asked].tolist()
        answers = [SpelledAnswer(at, tokens[at], *pair) for at, *pair in zip(places, *spelt, strict=True)]
        slices = {key: int(values[row]) for key, values in batch.slices.items() if values.dim() == 1}
        examples.append(SpelledExample(number, slices, tokens, answers, traces[row]))
    return examples


def _spell_trace(task: DecodedTask, episode: Episode) -> SpelledTrace:
    returned: list[bool] = []
    while len(returned) < len(episode.trace):
        found = task.search([*episode.prompt, *episode.trace[: len(returned)]])
        returned += [True] * len(found) if found else [False]
    prompt, trace = ([task.spell(token) for token in tokens] for tokens in (episode.prompt, episode.trace))
    return SpelledTrace(prompt, trace, returned[: len(trace)])


def describe(task: Task) -> dict[str, Any]:
    """What a task states of itself, and its settings."""
    name = registry.name_of(type(task))
    stated = {
        "name": name,
        "source": registry.get("task", name).source,
        "settings": task.settings(),
        **{name: getattr(task, name) for name in _STATED},
        "slice_values": {key: list(values) for key, values in task.slice_values.items()},
        "sizes": {key: list(values) for key, values in task.sizes.items()},
    }
    if isinstance(task, DecodedTask):
        stated["max_new_tokens"] = task.max_new_tokens
        stated["stop_tokens"] = [task.spell(token) for token in task.stop_tokens]
    return stated


def fact_rows(task: Task) -> list[tuple[str, str]]:
    """`describe` as a table of words, without name, source and settings."""
    stated = describe(task)
    rows = [
        ("chance accuracy", f"{stated['chance_accuracy']:.4g}"),
        ("facts", "no single number" if stated["facts"] is None else f"{stated['facts']:,}"),
        ("bits", "none stated" if stated["bits"] is None else f"{stated['bits']:,.1f}"),
        ("vocabulary", f"{stated['vocab_size']:,}"),
        ("length", f"{stated['length']:,}"),
        ("targets", f"{stated['num_targets']:,}"),
        ("state is read after", "no such place" if task.facts_end is None else f"{task.facts_end:,} tokens"),
        ("slices", _spell_values(stated["slice_values"])),
        ("sizes", _spell_values(stated["sizes"])),
        ("generated on", stated["generated_on"]),
    ]
    if "stop_tokens" in stated:
        rows += [("new tokens", f"{stated['max_new_tokens']:,}"), ("stop tokens", _shorten(stated["stop_tokens"]))]
    return rows


def _spell_values(values: dict[str, list[int]]) -> str:
    return "; ".join(f"{key} {_shorten(numbers)}" for key, numbers in values.items()) or "none"


def _shorten(numbers: Sequence[int] | Sequence[str]) -> str:
    if len(numbers) > 10:
        return f"{numbers[0]} ... {numbers[-1]} ({len(numbers)} values)"
    return " ".join(map(str, numbers))


def spell_settings(task: Task) -> str:
    """Settings as they are typed."""
    words = {None: "null", True: "true", False: "false"}
    given = task.settings().items()
    spelt = [(k, words[v] if v is None or isinstance(v, bool) else str(v).replace(" ", "")) for k, v in given]
    return " ".join(f"{key}={value}" for key, value in spelt)


def modes_of(cls: type[Task]) -> list[str]:
    """Words of the setting `mode`; none without this setting."""
    return list(cls.choices.get("mode", ()))


def print_examples(examples: Sequence[SpelledExample], console: Console) -> None:
    """Each example: its tokens, or prompt and trace, and its answers beside the oracle's."""
    for example in examples:
        slices = " ".join(f"{key}={value}" for key, value in example.slices.items())
        console.print(Text(f"example {example.index}: {slices}"), soft_wrap=True)
        for name, text in _parts(example):
            console.print(Text(f"  {name}"))
            for line in _wrap(text, console.width - _INDENT):
                console.print(Text(" " * _INDENT) + line, soft_wrap=True)
        console.print()


def _wrap(units: Sequence[Text], width: int) -> Iterator[Text]:
    """Lines of whole units, one space between them."""
    line = Text()
    for unit in units:
        if line and line.cell_len + 1 + unit.cell_len > width:
            yield line
            line = Text()
        line = Text.assemble(line, " " if line else "", unit)
    yield line


def _parts(example: SpelledExample) -> Iterator[tuple[str, list[Text]]]:
    wrong = [answer for answer in example.answers if answer.oracle != answer.target]
    if example.decoded is None:
        yield "tokens", _tokens_text(example)
        yield "answers", [_answer_text(answer) for answer in sorted(example.answers, key=lambda a: a.position)]
        return
    yield "prompt", [Text(word) for word in example.decoded.prompt]
    yield "trace", _trace_text(example.decoded)
    written = f"{len(example.answers) - len(wrong)} of the {len(example.answers)} tokens that a model has to write"
    yield "oracle", [Text(f"agrees with {written}", style=WRONG if wrong else TARGET)]


def _tokens_text(example: SpelledExample) -> list[Text]:
    asked = {answer.position for answer in example.answers}
    tokens, last = example.tokens, max(asked, default=0)
    run = next((n for n in range(len(tokens)) if tokens[-1 - n] != tokens[-1]), len(tokens))
    run = min(run, len(tokens) - 1 - last)
    shown = tokens if run <= _LONGEST_RUN else tokens[: len(tokens) - run + 1]
    words = [
        Text(f"{word}?", style=ASKED) if place in asked else Text(word, style=UNSEEN if place > last else "")
        for place, word in enumerate(shown)
    ]
    if len(shown) < len(tokens):
        words.append(Text(f"({run} times)", style=UNSEEN))
    return words


def _answer_text(answer: SpelledAnswer) -> Text:
    oracle = (f"oracle {answer.oracle}", UNSEEN if answer.oracle == answer.target else WRONG)
    asked, target = (f"{answer.token}?", ASKED), (answer.target, TARGET)
    return Text.assemble(f"[{answer.position}] ", asked, " ", target, ", ", oracle, ";")


def _trace_text(trace: SpelledTrace) -> list[Text]:
    words = []
    for is_returned, run in groupby(zip(trace.returned, trace.trace, strict=True), key=itemgetter(0)):
        spelt = [word for _, word in run]
        if is_returned:
            spelt[0] = "{" + spelt[0]
            spelt[-1] += "}"
        words += [Text(word, style=RETURNED if is_returned else TARGET) for word in spelt]
    return words


def to_json(task: Task, examples: Sequence[SpelledExample], *, seed: int, split: Split) -> str:
    """Everything that is printed, as one JSON object."""
    drawn = {"seed": seed, "split": split.name.lower()}
    return json.dumps({**describe(task), **drawn, "examples": [asdict(example) for example in examples]}, indent=2)


def show(task: Task, args: argparse.Namespace) -> None:
    """Print the examples that are asked for and what the task states; in colours on a terminal, at its width."""
    split = Split[args.split.upper()]
    examples = read_examples(task, range(args.index, args.index + args.count), seed=args.seed, split=split)
    if args.json:
        return print(to_json(task, examples, seed=args.seed, split=split))
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    console.print(Text(f"{registry.name_of(type(task))} {spell_settings(task)}"), soft_wrap=True)
    console.print(Text(f"split={args.split} seed={args.seed}\n"), soft_wrap=True)
    print_examples(examples, console)
    print_rows("what the task states", ["stated", "value"], fact_rows(task))
