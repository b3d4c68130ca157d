"""Settings of the whole suite: one thread per process, other packages' known warnings, a tiny run."""

import copy
import functools
import importlib.util
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import kernel_stand_ins
import pytest
import torch
from commands import Reply
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from wandb_server import end_wandb

from hybrids import cli, registry
from hybrids.config.build import build_run
from hybrids.config.schema import store_schemas
from hybrids.training import train as training
from hybrids.training.process import FOREIGN_WARNINGS
from hybrids.training.run import Run

TINY = (
    "task.vocab_size=64",
    "task.length=16",
    "task.num_pairs=2",
    "model.d_model=16",
    "data.batch_size=12",
    "data.num_val_examples=24",
    "data.num_recall_examples=24",
    "data.num_test_examples=24",
    "data.eval_batch_size=12",
    "trainer.max_steps=8",
    "trainer.val_every=4",
    "trainer.log_every=1",
    "trainer.target=null",
    "trainer.progress_bar=false",
    "logger=csv",
)
"""Overrides that make a run of a second; sizes that 1, 2 and 3 ranks can share."""


# A property that holds late still holds: on a busy machine an example may take seconds.
hypothesis.settings.register_profile("hybrids", deadline=None)
hypothesis.settings.load_profile("hybrids")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # threads that wait for a busy core cost more than they bring
    for message in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Hydra gives the root logger handlers, which write to a stream that is closed once their test has ended."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """TINY, for tests that start a process."""
    return TINY


@functools.lru_cache(maxsize=1)
def _store_once(entries: tuple[registry.Entry, ...]) -> None:
    """Storing the schemas of all plugins takes a quarter of the time in which a run is composed."""
    store_schemas()


@pytest.fixture
def own_plugins(monkeypatch):
    """What a test registers, or gives as a file, is forgotten after it."""
    registry.load_plugins()
    for name in ("_entries", "_rejected", "_failures", "_files", "_loaded", "_replaced"):
        monkeypatch.setattr(registry, name, copy.copy(getattr(registry, name)))
    options = ConfigStore.instance().repo
    before = {kind: dict(options.get(kind, {})) for kind in registry.KINDS}
    yield
    options.update(before)
    _store_once.cache_clear()


@pytest.fixture(scope="session")
def make_run_in():
    """A tiny run from Hydra overrides, in a given folder of runs."""

    def make(runs: Path, *overrides: str, base: Sequence[str] = TINY) -> Run:
        _store_once(tuple(registry.entries()))
        GlobalHydra.instance().clear()
        with initialize_config_module("hybrids_conf", version_base="1.3"):
            return build_run(compose("train", [*base, f"runs_dir={runs}", *overrides]))

    return make


@pytest.fixture
def make_run(make_run_in, tmp_path: Path):
    """A tiny run from Hydra overrides, in a folder of the test."""
    return functools.partial(make_run_in, tmp_path / "runs")


@pytest.fixture
def hybrids(monkeypatch, capfd, tmp_path):
    """Run the console command in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "describe_code", lambda: {"commit": "the same"})  # someone may edit while we test

    def run(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["hybrids", *arguments])
        capfd.readouterr()
        code = cli.main()
        assert sys.argv == ["hybrids", *arguments]
        return Reply(code, *capfd.readouterr())

    return run


@pytest.fixture
def train(hybrids, tiny):
    """Run `hybrids train` on a tiny run, whose settings the arguments replace."""

    def run(*arguments):
        given = {argument.partition("=")[0] for argument in arguments}
        return hybrids("train", *(text for text in tiny if text.partition("=")[0] not in given), *arguments)

    return run


@pytest.fixture
def processes(monkeypatch) -> list[list[str]]:
    """Commands of the processes that would have been started, each of which ends with exit code 3."""
    started = []

    def start(command):
        started.append(command)
        return 3

    monkeypatch.setattr("hybrids.cli.sweep.run_and_pass_signals", start)
    return started


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without W&B key or settings, whose W&B log is ended after the test."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")  # to a server of its own
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    (tmp_path / "home").mkdir()
    yield monkeypatch
    end_wandb()


@pytest.fixture
def no_network(monkeypatch):
    """No connection is made to a network, and W&B is not asked."""
    connect = socket.socket.connect

    def refuse(*args, **kwargs):
        raise AssertionError("something was to be sent")

    def connect_here(self, address):
        return connect(self, address) if self.family == socket.AF_UNIX else refuse()

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr("wandb.Api", refuse)


@pytest.fixture(scope="session")
def fla_naive():
    """Load one of flash-linear-attention's `naive.py` by its place in the package, such as `ops/gla/naive.py`.

    By file, because importing the package itself needs triton, with which it then fails on a machine without a GPU.
    """

    def load(place: str):
        package = importlib.util.find_spec("fla")
        assert package is not None and package.origin is not None, "make setup installs flash-linear-attention"
        path = Path(package.origin).parent / place
        spec = importlib.util.spec_from_file_location("fla_" + place.replace("/", "_").removesuffix(".py"), path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def stand_ins(monkeypatch, fla_naive):
    """Modules in place of the kernel packages, and the calls of their functions."""
    return kernel_stand_ins.install(monkeypatch, fla_naive)


@pytest.fixture
def report(monkeypatch, capsys):
    """Run `hybrids report`; exit code, what it printed, what it complained of. Stills, half of its time, on request."""

    def run(*arguments, stills=False):
        if not stills:
            monkeypatch.setattr("hybrids.report.page.figure.Figure.save_stills", lambda *_: None)
        monkeypatch.setattr(sys, "argv", ["hybrids", "report", *map(str, arguments)])
        code = cli.main()
        return code, *capsys.readouterr()

    return run
