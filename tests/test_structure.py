"""Imports go one way, and no plugin knows another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = [
    {"types", "pattern", "registry", "rng", "search", "host"},
    {"provenance"},
    {"notation", "ops"},
    {"mixer", "channel", "task"},
    {"question"},
    {"block"},
    {"backbone"},
    {"model"},
    {"measure", "optim", "data", "generate"},
    {"lit", "logs", "checks", "record", "doctor", "decode"},
    {"run"},
    {"triangle"},
    {"assess", "summary"},
    {"training"},
    {"evaluate", "trials"},
    {"effective"},
    {"report"},
    {"explain", "resolve"},
    {"config"},
    {"sweep"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
HYDRA_KNOWN_BY = {"config", "explain", "sweep", "cli"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module] if node.module != "hybrids" else (f"hybrids.{a.name}" for a in node.names)


def part_of(path):
    return path.relative_to(ROOT / "hybrids").parts[0].removesuffix(".py")


MODULES = [path for path in sorted((ROOT / "hybrids").rglob("*.py")) if part_of(path) != "__init__"]
PLUGINS = [path for path in sorted((ROOT / "plugins").rglob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_below_it(path):
    own = part_of(path)
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] != "hybrids_plugins"
        if parts[0] in ("hydra",):
            assert own in HYDRA_KNOWN_BY
        if parts[0] == "hybrids" and len(parts) > 1 and parts[1] != own:
            assert LEVEL[parts[1]] < LEVEL[own], f"{own} imports {parts[1]}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_plugin_imports_the_framework_and_no_other_plugin(path):
    ours = [name for name in imported(path) if name.split(".")[0] in ("hybrids", "hybrids_plugins")]
    assert not [name for name in ours if name.startswith("hybrids_plugins")]
    allowed = {"types", "registry", "rng", "search", "ops", "mixer", "channel", "task", "question"}
    assert {name.split(".")[1] for name in ours} <= allowed


@pytest.mark.parametrize("module", ["pattern", "registry", "notation", "search"])
def test_grammar_registry_and_search_need_no_torch(module):
    paths = [path for path in MODULES if part_of(path) == module]
    assert paths
    assert not {name.split(".")[0] for path in paths for name in imported(path)} & {"torch", "hydra", "lightning"}


@pytest.mark.parametrize("name", ["train.py", "eval.py"])
def test_entry_points_are_thin(name):
    assert len((ROOT / name).read_text().splitlines()) <= 60
