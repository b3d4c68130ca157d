"""The commands that README and docs show are commands that work, links lead somewhere, and the tree is the tree."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from hybrids import cli
from hybrids.config.build import build_run
from hybrids.config.compose import spell_overrides
from hybrids.config.schema import store_schemas
from hybrids.model.measure import measure_step
from hybrids.training.train import build_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text() for path in PAGES if path.name not in ("mixers.md", "tasks.md", "atlas.md"))
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
TRAIN = [command for command in COMMANDS if command.startswith("python train.py") and "trainer=gpu" not in command]
PATTERNS = re.findall(r"hybrids patterns [^`\n]*", TEXT)
SHOWN = [
    command
    for command in COMMANDS
    if re.match(r"hybrids (state|triangle|task|atlas|doctor|plugins)\b", command) and "plugins=" not in command
]
"""Those with a plugin file are run by test_examples.py, beside the file."""


@pytest.mark.parametrize("command", TRAIN)
def test_a_training_command_describes_a_model(command):
    overrides = [arg for arg in spell_overrides(shlex.split(command)[2:]) if arg != "-m"]
    first_cell = [re.sub(r"(=[^,\[]+),.*", r"\1", override) for override in overrides]
    store_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_module("hybrids_conf", version_base="1.3"):
        run = build_run(compose("train", first_cell))
    assert build_model(run, run.task.build()).backbone.pattern == run.pattern


def test_the_table_of_the_demo_says_what_its_model_carries_and_costs(make_run_in, tmp_path):
    run = make_run_in(tmp_path, "arch=hybrid", "pattern=LLLA", base=())
    cost = measure_step(build_model(run, run.task.build()).backbone, run.model.d_model, 64)
    assert f"│ {cost.state_bits:,} bits " in README and f"│ {cost.flops:,} FLOPs " in README
    assert f"run {run.folder.path.name}\n" in README


@pytest.mark.parametrize("command", PATTERNS)
def test_a_pattern_command_prints_layers(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", shlex.split(command.partition("  #")[0]))
    assert cli.main() == 0
    assert "in other notations" in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(set(SHOWN)))
def test_a_command_that_trains_nothing_answers(command, hybrids):
    assert hybrids(*shlex.split(command)[1:]).code == 0


def test_there_are_commands_to_test():
    assert len(TRAIN) >= 6 and len(PATTERNS) >= 2 and len(SHOWN) >= 6


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_to_files(path):
    for link in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert link.startswith("http") or (path.parent / link).exists(), f"{path.name} links to {link}"


def test_the_readme_fits_two_hundred_lines():
    assert len(README.splitlines()) <= 200


def test_the_tree_names_every_module():
    tree = next(block for block in BLOCKS if block.startswith("train.py eval.py"))
    for path in (ROOT / "hybrids").iterdir():
        if path.name.endswith(".py") and path.name != "__init__.py":
            assert path.name in tree, f"{path.name} is missing in the README's tree"
        elif (path / "__init__.py").exists():
            assert f"{path.name}/" in tree


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)) <= targets
