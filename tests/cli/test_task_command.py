"""`hybrids task`: what is shown is what the task draws, asks and states; what a search returned is told apart."""

import io
import json
import re
import sys
from typing import ClassVar

import pytest
import torch
from rich.console import Console

from hybrids import cli, registry
from hybrids.report.terminal import examples
from hybrids.task import Batch, DecodedTask, Episode, Split
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

ASK = 9
"""Token that asks the search of `Lookup`."""


class Lookup(DecodedTask):
    """Prompt 1 2; the model writes 9, a search returns 3 4, the model writes 5 and then 6."""

    vocab_size, length, num_targets, max_new_tokens, stop_tokens = 10, 8, 3, 3, (6,)
    chance_accuracy, facts, bits, slice_values, sizes = 0.5, None, None, {"length": (8,)}, {}

    choices: ClassVar = {"mode": ("left", "right")}

    def __init__(self, *, mode: str = "left"):
        self.mode = mode

    def sample(self, index, *, seed, split):
        def row(*numbers):
            return torch.tensor([numbers] * len(index))

        valid = torch.ones(len(index), 3, dtype=torch.bool)
        tokens, positions, targets = row(1, 2, 9, 3, 4, 5, 6, 0), row(1, 4, 5), row(9, 5, 6)
        return Batch(tokens, positions, targets, valid, {"length": torch.full_like(index, 8)})

    def solve(self, tokens, positions):
        return torch.tensor([[9, 5, 7]] * len(tokens))

    def spell(self, token):
        return f"t{token}"

    def recalled_bits(self, errors):
        return None

    def resize(self, **sizes):
        return self.replace(**sizes)

    def at_context(self, context):
        return self

    def episodes(self, index, *, seed, split):
        return [Episode([1, 2], [9, 3, 4, 5, 6], [[3, 4]]) for _ in index]

    def search(self, tokens):
        return [3, 4] if tokens[-1] == ASK else None

    def judge(self, episode, written):
        return None


@pytest.fixture
def hybrids(monkeypatch, capfd):
    """Code, output and errors of `hybrids task` with these arguments."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hybrids", "task", *arguments])
        capfd.readouterr()
        return (cli.main(), *capfd.readouterr())

    return run


def test_answers_stand_beside_those_of_the_oracle(hybrids):
    code, out, err = hybrids(
        "mqar", "num_pairs=4", "--count", "2", "--seed", "3", "length=32", "--split=val", "--index=5"
    )
    assert (code, err) == (0, "")
    task = MultiQueryAssociativeRecall(num_pairs=4, length=32)
    batch = task.sample(torch.tensor([5, 6]), seed=3, split=Split.VAL)
    shown = dict(re.findall(r"example (\d+):(.*?)\n\n", out, re.DOTALL))
    assert list(shown) == ["5", "6"]
    for text, tokens, positions, targets in zip(shown.values(), *(x.tolist() for x in batch[:3]), strict=True):
        words = re.search(r"tokens\n(.*)  answers", text, re.DOTALL)[1].split()
        asked = {place for place, word in enumerate(words) if word.endswith("?")}
        assert [word.rstrip("?") for word in words] == [task.spell(token) for token in tokens]
        assert asked == set(positions)
        answers = re.findall(r"\[(\d+)\] (\S+)\? (\S+), oracle (\S+);", text)
        assert [int(place) for place, *_ in answers] == sorted(positions)
        for place, token, target, oracle in answers:
            right = task.spell(targets[positions.index(int(place))])
            assert (token, target, oracle) == (task.spell(tokens[int(place)]), right, right)


def test_what_the_task_states_is_a_table(hybrids):
    out = hybrids("mqar", "num_pairs=4", "length=32")[1]
    rows = dict(re.findall(r"^│ (\S.*?) +│ (.*?) +│$", out, re.MULTILINE))
    assert rows["chance accuracy"] == "0.0002441"
    assert (rows["facts"], rows["vocabulary"], rows["length"], rows["targets"]) == ("4", "8,192", "32", "4")
    assert rows["bits"] == "48.0"
    assert rows["slices"] == "num_pairs 4; length 32"
    assert rows["sizes"] == "length 16 32 64 128 256; num_pairs 2 4 8 16 32"


def test_a_pipe_gets_no_colours_and_a_settings_prefix_is_taken(hybrids):
    assert "\x1b" not in hybrids("mqar", "task.num_pairs=2")[1]
    assert "num_pairs=2 " in hybrids("mqar", "task.num_pairs=2")[1]


def test_json_has_all_that_is_shown(hybrids):
    shown = json.loads(hybrids("mqar", "num_pairs=2", "length=16", "--json", "--count=1")[1])
    assert (shown["name"], shown["settings"]["num_pairs"], shown["facts"]) == ("mqar", 2, 2)
    (example,) = shown["examples"]
    assert len(example["tokens"]) == 16
    assert all(answer["target"] == answer["oracle"] for answer in example["answers"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mqr"], "unknown task 'mqr'; did you mean 'mqar'? allowed: "),
        (["mqar", "num_pair=4"], "unknown setting 'task.num_pair'; did you mean 'num_pairs'? allowed: "),
        (["mqar", "num_pairs=x"], "task.num_pairs=x is not a whole number"),
        (["mqar", "num_pairs=40"], "num_pairs=40 do not fit into length=64: at most 16 do"),
        (["mqar", "4"], "'task.4' is not an argument; write key=value"),
        (["mqar", "--split=vl"], "unknown split 'vl'; did you mean 'val'? allowed: train, val, test"),
        (["mqar", "--count=0"], "--count=0 must be at least 1"),
        (["mqar", "--count=many"], "argument --count: invalid int value: 'many'; see hybrids task --help"),
        ([], "the following arguments are required: task"),
    ],
)
def test_bad_arguments_are_one_sentence(hybrids, arguments, sentence):
    code, out, err = hybrids(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"error: {sentence}")


def test_help(hybrids):
    code, out, _ = hybrids("--help")
    assert code == 0
    assert "usage: hybrids task" in out and "--split" in out and " mqar, " in " ".join(out.split())
    code, out, _ = hybrids("copying", "--help")
    assert code == 0 and "\n  delay=11" in out and "\n  num_pairs" not in out


def printed(task):
    console = Console(width=60, record=True, force_terminal=True, file=io.StringIO())
    examples.print_examples(examples.read_examples(task, [0], seed=0, split=Split.TRAIN), console)
    return console


def test_what_a_search_returned_is_told_apart():
    (example,) = examples.read_examples(Lookup(), [0], seed=0, split=Split.TRAIN)
    assert example.decoded.prompt == ["t1", "t2"]
    assert example.decoded.trace == ["t9", "t3", "t4", "t5", "t6"]
    assert example.decoded.returned == [False, True, True, False, False]
    lines = [line.strip() for line in printed(Lookup()).export_text().splitlines()]
    assert lines[lines.index("trace") + 1] == "t9 {t3 t4} t5 t6"
    assert lines[lines.index("oracle") + 1] == "agrees with 2 of the 3 tokens that a model has to write"


def test_a_wrong_oracle_is_red_and_a_terminal_has_colours():
    class Wrong(MultiQueryAssociativeRecall):
        def solve(self, tokens, positions):
            return torch.full_like(positions, 8191)

    assert "1;31m" in printed(Wrong(num_pairs=1)).export_text(styles=True)
    right = printed(MultiQueryAssociativeRecall(num_pairs=1)).export_text(styles=True)
    assert "1;31m" not in right and "1;33m" in right and "32m" in right


def test_equal_tokens_at_the_end_are_shown_once():
    task = MultiQueryAssociativeRecall(num_pairs=1, length=64, random_fillers=False)
    (example,) = examples.read_examples(task, [0], seed=0, split=Split.TRAIN)
    run = 63 - example.answers[0].position
    assert f". ({run} times)" in " ".join(printed(task).export_text().split())


def test_modes_are_those_that_the_task_declares():
    assert examples.modes_of(Lookup) == ["left", "right"]
    assert examples.modes_of(MultiQueryAssociativeRecall) == []


@pytest.mark.parametrize("name", registry.names("task"))
def test_every_task_can_be_shown(hybrids, name):
    code, out, err = hybrids(name, "--count=1")
    assert (code, err) == (0, "")
    assert "what the task states" in out
