"""Plugins as their sources announce them are the plugins that are registered."""

from importlib.metadata import EntryPoint

import pytest

from hybrids import outline, registry


def test_sources_announce_what_is_registered():
    registered = [outline.Announced(e.kind, e.name, e.origin, e.source) for e in registry.entries()]
    assert outline.read_plugins() == registered
    assert outline.names("channel") == registry.names("channel")
    assert "builtin = hybrids_plugins" in outline.places()


PLUGIN = """
import broken_beyond_import
from hybrids.registry import register

NAME = "ema"

@register("mixer", {name}, source="a paper")
class Ema:
    pass
"""


@pytest.fixture
def announced(tmp_path, monkeypatch):
    """A package below the test's folder is all that is announced."""
    (tmp_path / "strange" / "mixers").mkdir(parents=True)
    (tmp_path / "strange" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("mine", "strange", registry.GROUP)]
    monkeypatch.setattr(outline, "entry_points", lambda group: points)
    return tmp_path / "strange" / "mixers" / "ema.py"


def test_nothing_is_imported(announced):
    announced.write_text(PLUGIN.format(name='"ema"'))
    assert outline.read_plugins() == [("mixer", "ema", "strange.mixers.ema.Ema", "a paper")]


@pytest.mark.parametrize("text", [PLUGIN.format(name="NAME"), "def broken(:"])
def test_what_cannot_be_read_is_left_to_the_registry(announced, text):
    announced.write_text(text)
    assert len(outline.read_plugins()) == len(registry.entries())
