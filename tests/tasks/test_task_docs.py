"""docs/tasks.py shows every registered task, by a command that is one."""

import importlib.util
import re
from pathlib import Path

import pytest

from hybrids import registry
from hybrids.report.terminal.examples import read_examples
from hybrids.task import Split
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("docs_tasks", DOCS / "tasks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_task_has_a_section_with_an_example_and_what_it_states(script):
    page = script.page()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == registry.names("task")
    for name, text in sections.items():
        assert f"hybrids task {name}" in text and "example 0" in text
        assert "| chance accuracy | " in text and "Settings and defaults: `" in text
        assert registry.get("task", name).source in text
    assert script.page() == page


def test_the_command_draws_the_example_below_it(script):
    text = script.section("mqar", [])
    settings = re.search(r"hybrids task mqar (.*)", text)[1].split()
    task = MultiQueryAssociativeRecall(**{key: int(value) for key, _, value in (s.partition("=") for s in settings)})
    (example,) = read_examples(task, [0], seed=0, split=Split.TRAIN)
    shown = re.search(r"tokens\n(.*)\n  answers", text, re.DOTALL)[1].split()
    assert [word.rstrip("?") for word in shown] == example.tokens


def test_what_was_learned_stands_below_its_task(script, tmp_path):
    path = tmp_path / "tasks_learning.csv"
    assert script.read_curves(path) == {}
    path.write_text("task,arch,accuracy\nmqar power=1,hybrid,0.9\nother,mamba2,0.5\n")
    curves = script.read_curves(path)
    assert sorted(curves) == ["mqar", "other"]
    assert "| mqar power=1 | hybrid | 0.9 |" in script.section("mqar", curves["mqar"])
