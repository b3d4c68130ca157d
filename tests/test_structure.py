"""Imports go one way, and no plugin knows another."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from hybrids import registry

ROOT = Path(__file__).parent.parent
RULE = (
    "errors < types registry rng pattern < notation ops outline plugin_files < doctor mixer channel task < tasks < "
    "model < checks triangle < training < studies < report < config < api cli"
)
LEVELS = [level.split() for level in RULE.split("<")]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
HYDRA_KNOWN_BY = {"config", "cli"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module] if node.module != "hybrids" else (f"hybrids.{a.name}" for a in node.names)


def part_of(path):
    return path.relative_to(ROOT / "hybrids").parts[0].removesuffix(".py")


MODULES = [path for path in sorted((ROOT / "hybrids").rglob("*.py")) if part_of(path) != "__init__"]
PLUGINS = [path for path in sorted((ROOT / "plugins").rglob("*.py")) if len(path.relative_to(ROOT).parts) > 2]


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


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_the_framework_and_no_other_plugin(path):
    ours = {name for name in imported(path) if name.split(".")[0] == "hybrids"}
    assert {LEVEL[name.split(".")[1]] for name in ours} <= set(range(LEVEL["model"]))
    own = ".".join(("hybrids_plugins", *path.relative_to(ROOT / "plugins").parts[:2])).removesuffix(".py")
    others = {name for name in imported(path) if name.split(".")[0] == "hybrids_plugins"}
    assert all(name.startswith(f"{own}.") for name in others)  # a plugin may be a package


WORDS = {"attention", "based", "copying", "counting", "index", "induction", "retention"}
"""Names of plugins that are words of English as well."""
NAMED_ELSEWHERE = {"ops", "notation", "doctor"}
"""Rooms where such a name means something else: an op, a word of another project, a package."""


def spoken(path):
    """String constants that are no docstrings, and attributes."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield from re.findall(r"\w+", node.value)
        elif isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_framework_knows_no_plugin_by_name_or_setting(path):
    plugins = {entry.name for entry in registry.entries()} - WORDS
    tasks = [entry.cls for entry in registry.entries() if entry.kind == "task"]
    counts = {name for task in tasks for name in registry.defaults_of(task) if name.startswith("num_")}
    counts -= {"num_symbols", "num_nodes"}  # of the bound, and machines of the trainer, too
    if part_of(path) not in NAMED_ELSEWHERE:
        assert not plugins & set(spoken(path))
    if part_of(path) != "tasks":
        assert not counts & set(spoken(path))


def test_every_folder_of_modules_is_installed():
    folders = {path.parent.relative_to(ROOT).parts for path in (*MODULES, *PLUGINS)}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {".".join(parts).replace("plugins", "hybrids_plugins", 1) for parts in folders} <= set(known)


@pytest.mark.parametrize("module", ["pattern", "registry", "notation"])
def test_grammar_and_registry_need_no_torch(module):
    paths = [path for path in MODULES if part_of(path) == module]
    assert paths
    assert not {name.split(".")[0] for path in paths for name in imported(path)} & {"torch", "hydra", "lightning"}


@pytest.mark.parametrize("name", ["train.py", "eval.py"])
def test_entry_points_are_thin(name):
    assert len((ROOT / name).read_text().splitlines()) <= 60
