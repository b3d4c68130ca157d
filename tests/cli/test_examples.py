"""Every example that the help of a command shows is a call that works."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from hybrids.cli.commands import COMMANDS, read_examples
from hybrids.training.train import train as train_run

EXAMPLES = [
    pytest.param(name, example, marks=[pytest.mark.slow] if example.startswith("-m ") else [])
    for name in COMMANDS
    for example in read_examples(name)
]
SHORTENED = {"train": ["task.length=32"], "capacity": ["--budget=0"]}
"""What makes a training short: the settings of a tiny run, and no run at all."""


@pytest.fixture(scope="module")
def trained(make_run_in, tmp_path_factory):
    """Two runs that have finished, which are not those that an example trains."""
    folder = tmp_path_factory.mktemp("trained")
    for pattern in ("LLLA", "LL"):
        train_run(make_run_in(folder, f"pattern={pattern}", "seed=1"))
    return folder


@pytest.fixture
def folder(hybrids, trained):
    """The folder that an example is called in: its runs, and a sweep of them."""
    shutil.copytree(trained, "runs/sweeps/2026-12-01_10-00-00")
    for run in trained.iterdir():
        shutil.copytree(run, Path("runs", run.name))
    return Path()


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=str)
def test_an_example_works(hybrids, train, folder, nobody, no_network, name, example):
    if name == "dashboard":  # on runs that W&B has seen
        logged = "logger=wandb", "logger.wandb_mode=offline", "logger.group=a"
        assert train(*logged, "runs_dir=runs/sweeps/2026-12-01_10-00-00").code == 0
    ids = iter(sorted(path.name for path in folder.glob("runs/mqar-*")))
    call = re.sub("<id>", lambda _: next(ids), example.replace("<date>", "2026-12-01_10-00-00"))
    program = train if name == "train" else lambda *arguments: hybrids(name, *arguments)
    assert program(*shlex.split(call, posix="'" in call), *SHORTENED.get(name, ())).code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_its_help_fits_a_terminal_and_shows_the_examples(hybrids, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    out = hybrids(name, "--help").said()
    for example in read_examples(name):
        assert f"    hybrids {name} {example}".rstrip() in out.splitlines()
    told = out.partition("\n== Settings")[0]
    assert max(map(len, told.splitlines())) <= 88
