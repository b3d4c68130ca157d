"""The plugin files that docs/extend.md shows are complete: its commands check, train and evaluate them."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import run_folder

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))
PAGE = (ROOT / "docs" / "extend.md").read_text()
COMMANDS = [line.partition("  #")[0].strip() for line in PAGE.splitlines() if line.startswith("hybrids ")]
ON_RUNS = [command for command in COMMANDS if "runs/<id>" in command]


@pytest.fixture
def beside(hybrids, tmp_path):
    """Run a command of the page in a folder with the files of the page."""
    for path in EXAMPLES:
        shutil.copy(path, tmp_path)
    return lambda command, *further: hybrids(*shlex.split(command)[1:], *further)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_page_shows_the_tested_file(path):
    assert path.read_text().strip() in PAGE
    assert f"Write `{path.name}`" in PAGE


def test_the_page_has_commands_of_each_kind():
    assert {shlex.split(command)[1] for command in COMMANDS} == {
        *("check", "state", "train", "plugins", "task", "eval", "bits")
    }


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ON_RUNS and " train " not in c])
def test_a_command_of_the_page_answers(own_plugins, beside, command):
    assert beside(command).said()


SHORT = ("trainer.max_steps=4", "trainer.val_every=2")


@pytest.mark.parametrize("command", [c for c in COMMANDS if " train " in c])
def test_a_training_command_of_the_page_trains(own_plugins, beside, tiny, command):
    sizes = [text for text in tiny if not (text.startswith("task.") and "task=last_token" in command)]
    assert beside(command, *sizes, *SHORT).said()
    assert list(Path("runs").glob("*/result.json"))


def test_the_commands_on_a_run_measure_what_was_trained(own_plugins, beside, tiny):
    (train,) = (c for c in COMMANDS if " train " in c and "horizon" in c)
    beside(train, *tiny, *SHORT).said()
    smaller = {"eval": ("sizes.length=[16]", "sizes.num_pairs=[2]", "num_examples=8"), "bits": ("num_examples=8",)}
    for command in ON_RUNS:
        kind = shlex.split(command)[1]
        assert beside(re.sub("runs/<id>", str(run_folder()), command), *smaller[kind]).said()
    assert {path.name for path in run_folder().glob("eval/*.csv")} == {"grid.csv", "effective_bits.csv"}


def test_an_example_task_is_learned(own_plugins, beside, tiny):
    sizes = [text for text in tiny if not text.startswith("task.")]
    given = ("task=last_token", "task.length=16", "pattern=LA", "plugins=last_token.py", "optim.lr=0.03")
    beside("hybrids train", *sizes, *given, "trainer.max_steps=200").said()
    assert json.loads((run_folder() / "result.json").read_text())["test"]["accuracy"] > 0.9
