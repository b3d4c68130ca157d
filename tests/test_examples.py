"""The plugins that docs/extend.md shows are complete: they pass every check and train."""

import importlib
import sys
from pathlib import Path

import pytest

from hybrids import registry
from hybrids.checks import run_checks
from hybrids.config.schema import store_schemas
from hybrids.training.train import train

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))


@pytest.fixture
def registered(monkeypatch):
    """Register the examples for one test, as if their package had been installed."""
    registry.load_plugins()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.syspath_prepend(ROOT / "tests" / "examples")
    for path in EXAMPLES:
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
        importlib.import_module(path.stem)
    store_schemas()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_page_shows_the_tested_file(path):
    assert path.read_text().strip() in (ROOT / "docs" / "extend.md").read_text()


@pytest.mark.parametrize(("kind", "name"), [("mixer", "ema"), ("task", "last_token")])
def test_an_example_passes_every_check(registered, kind, name):
    results = run_checks(kind, name)
    assert results
    assert [result for result in results if not result.passed] == []


def test_examples_train(registered, make_run):
    result = train(make_run("pattern=EA", "+mixer@mixers.E=ema", "mixers.E.horizon=16"))
    assert result["identity"]["letters"]["E"]["mixer"] == {"name": "ema", "horizon": 16.0}


def test_an_example_task_trains(registered, make_run, tiny):
    base = [override for override in tiny if not override.startswith("task.")]
    run = make_run("task=last_token", "pattern=LA", "trainer.max_steps=200", "optim.lr=0.03", base=base)
    assert train(run)["test"]["accuracy"] > 0.9
