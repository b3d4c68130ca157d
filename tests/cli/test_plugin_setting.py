"""`plugins=`: a file of plugins on the command line, and a run that was made with one, which never brings it along."""

import csv
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from commands import interrupt, run_folder
from hydra.core.config_store import ConfigStore

from hybrids import registry

pytestmark = pytest.mark.usefixtures("own_plugins")

EMA = Path(__file__).parents[1] / "examples" / "ema.py"
DIGEST = sha256(EMA.read_bytes()).hexdigest()
LETTER = "+mixer@mixers.E=ema"
SHORT = ("trainer.max_steps=4", "trainer.val_every=2")


def forget():
    """Leave the process as if no file had been given to it."""
    for key in [key for key, entry in registry._entries.items() if entry.file is not None]:
        del registry._entries[key]
    registry._files.clear()
    ConfigStore.instance().repo["mixer"].pop("ema.yaml")


@pytest.fixture
def alone(tmp_path):
    """Run a command in a process of its own. Exit code and the errors that it tells."""

    def run(*arguments):
        command = [sys.executable, "-m", "hybrids.cli", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("error: ")]

    return run


@pytest.fixture
def trained(train, tmp_path):
    """The folder of a run whose letter E comes from ema.py, beside it in the folder of the test."""
    shutil.copy(EMA, tmp_path)
    train("pattern=EA", LETTER, "mixers.E.horizon=16", "plugins=ema.py", *SHORT).said()
    return run_folder()


def test_a_run_remembers_the_file_by_name_and_content_and_not_by_place(trained, tmp_path):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["plugins"] == [{"file": "ema.py", "sha256": DIGEST}]
    identity = json.loads((trained / "result.json").read_text())["identity"]
    assert identity["letters"]["E"]["mixer"] == {"name": "ema", "horizon": 16.0, "file_sha256": DIGEST}
    assert identity["letters"]["A"]["mixer"] == {"name": "attention"}
    written = [file.read_text(errors="replace") for file in trained.rglob("*") if file.suffix in (".yaml", ".json")]
    assert len(written) == 2 and not any(str(tmp_path) in text for text in written)


def test_a_changed_file_makes_another_run_and_the_same_content_does_not(trained, train):
    given = ("pattern=EA", LETTER, "mixers.E.horizon=16", *SHORT)
    assert "has finished; nothing is done" in train(*given, "plugins=./ema.py").said()
    Path("ema.py").write_text(EMA.read_text() + "# changed\n")
    assert "has finished" not in train(*given, "plugins=ema.py").said()
    assert len(list(Path("runs").glob("*/result.json"))) == 2


def test_a_moved_file_makes_the_same_run_and_opens_it(trained, train, hybrids, tmp_path):
    forget()
    (tmp_path / "my files").mkdir()
    (tmp_path / "ema.py").rename(tmp_path / "my files" / "it's ema.py")
    given = ("pattern=EA", LETTER, "mixers.E.horizon=16", *SHORT, "plugins=my files/it's ema.py")
    assert "has finished; nothing is done" in train(*given).said()
    forget()
    small = ("sizes.length=16", "sizes.num_pairs=2", "num_examples=8")
    assert "grid.csv" in hybrids("eval", f"run={trained}", given[-1], *small).said()


def test_a_run_that_does_not_use_the_file_is_the_run_without_it(train, tmp_path):
    shutil.copy(EMA, tmp_path)
    train("pattern=LA", *SHORT).said()
    before = (run_folder() / "config.yaml").read_text()
    assert "plugins" not in before
    assert "has finished; nothing is done" in train("pattern=LA", *SHORT, "plugins=ema.py").said()
    assert "has finished; nothing is done" in train("pattern=LA", LETTER, *SHORT, "plugins=ema.py").said()


OPENING = (("eval", "run={run}"), ("bits", "{run}"), ("compare", "{run}", "elsewhere"))


@pytest.mark.parametrize("command", OPENING, ids=" ".join)
def test_what_opens_a_run_asks_for_its_file_and_imports_none_by_itself(trained, hybrids, command, tmp_path):
    forget()
    command = [part.format(run=trained) for part in command]
    needed = f"the plugin file ema.py (SHA-256 {DIGEST[:16]}...)"
    assert hybrids(*command).complaint() == (  # though ema.py lies in the working folder
        f"{trained}/config.yaml cannot be used: the run was made with {needed}, which is never found by itself; "
        "give it: plugins=<path of ema.py>"
    )
    (tmp_path / "ema.py").write_text(EMA.read_text() + "# changed\n")
    changed = sha256((tmp_path / "ema.py").read_bytes()).hexdigest()[:16]
    error = hybrids(*command, "plugins=ema.py").complaint()
    assert f"{needed}, and ema.py has another content (SHA-256 {changed}...); give it as it was then" in error


def test_an_interrupted_run_goes_on_with_the_same_command_and_not_without_the_file(trained, train):
    forget()
    whole = (trained / "metrics.csv").read_text()
    interrupt(trained)
    (trained / "checkpoints" / "step=00000004.ckpt").unlink()
    given = ("pattern=EA", LETTER, "mixers.E.horizon=16", *SHORT)
    error = train(*given).complaint()
    assert (
        error.startswith("unknown mixer 'ema'; allowed: attention, ") and ", sliding_attention, none; looked" in error
    )
    assert error.endswith("(entry points hybrids.plugins) and in files given with plugins=<file.py>")
    assert "it continues from step=00000002.ckpt" in train(*given, "plugins=ema.py").said()
    assert (trained / "metrics.csv").read_text() == whole


EVIL = "import pathlib\npathlib.Path('imported').touch()\n" + EMA.read_text()


@pytest.mark.parametrize("form", ["path", "paths", "record", "setting", "letter"])
@pytest.mark.parametrize("command", [("eval", "run={run}"), ("bits", "{run}"), ("report", "runs"), ("runs",)])
def test_a_run_folder_that_names_a_file_does_not_get_it_imported(make_run, hybrids, tmp_path, form, command):
    """Neither one at the path that it names, nor one of that name in the working folder, nor one in the folder."""
    run = make_run("pattern=LA")
    run.folder.create(run.config)
    folder, evil = run_folder(), tmp_path / "ema.py"
    for place in (tmp_path, folder):
        (place / "ema.py").write_text(EVIL)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    record = {"file": str(evil), "sha256": sha256(EVIL.encode()).hexdigest()}
    named = {"path": str(evil), "paths": [str(evil), "ema.py"], "record": [record], "setting": [], "letter": [record]}
    config["plugins"] = named[form]
    if form == "setting":
        config["runs_dir"] = f"runs plugins={evil}"
    if form == "letter":
        config["mixers"]["E"] = {"name": "ema", "horizon": 8.0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    reply = hybrids(*(part.format(run=folder) for part in command))
    assert "Traceback" not in reply.err
    if command[0] in ("eval", "bits") and form != "setting":
        reason = {"record": "the run was made with", "letter": "the run was made with"}.get(
            form, "plugins is no list of"
        )
        assert f"config.yaml cannot be used: {reason}" in reply.complaint()
    assert not list(tmp_path.rglob("imported"))


def test_the_file_of_that_test_would_show_that_it_was_imported(hybrids, tmp_path):
    (tmp_path / "ema.py").write_text(EVIL)
    assert hybrids("plugins").code == 0 and not (tmp_path / "imported").exists()
    assert hybrids("plugins", "plugins=ema.py").code == 0 and (tmp_path / "imported").exists()


def test_no_file_is_found_by_itself(hybrids, tmp_path, monkeypatch):
    (tmp_path / "ema.py").write_text(EVIL)
    for name in ("PLUGINS", "HYBRIDS_PLUGINS", "plugins"):
        monkeypatch.setenv(name, str(tmp_path / "ema.py"))
    assert hybrids("state", "pattern=EA", LETTER).complaint().startswith("unknown mixer 'ema'; allowed: attention, ")
    assert not (tmp_path / "imported").exists()


def test_every_cell_of_a_sweep_has_the_files_which_are_no_axis_of_it(train, tmp_path):
    for file in EMA.parent.glob("*.py"):
        shutil.copy(file, tmp_path)
    train("-m", "pattern=EA,E", LETTER, "plugins=ema.py,last_token.py", *SHORT).said()
    (summary,) = Path("runs/sweeps").glob("*/summary.csv")
    with summary.open(newline="") as rows:
        assert [row["cell"] for row in csv.DictReader(rows)] == ["pattern=EA", "pattern=E"]


def test_a_cell_in_a_process_of_its_own_is_given_the_files(train, processes, tmp_path):
    shutil.copy(EMA, tmp_path / "my ema.py")
    train("-m", "pattern=EA", LETTER, "plugins=my ema.py", "trainer=ddp_cpu")
    assert "plugins=['my ema.py']" in processes[0]


@pytest.mark.slow
def test_ranks_and_workers_of_the_loader_have_the_files(alone, tiny, tmp_path):
    shutil.copy(EMA, tmp_path)
    given = ("pattern=EA", LETTER, "plugins=ema.py", "trainer=ddp_cpu", "data.num_workers=1")
    assert alone("train", *tiny, *SHORT, *given) == (0, [])
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["hardware"]["ranks"] == 2


def test_a_search_for_a_capacity_takes_files(hybrids, tmp_path):
    shutil.copy(EMA, tmp_path)
    search = ("max_facts=2", "steps=2", "seeds=1", "rates=1e-3", "min_utilisation=0", "logger=csv")
    hybrids("capacity", "--smoke", "pattern=EA", LETTER, "plugins=ema.py", *search).said()
    (trial,) = Path("runs").glob("mqar-EA-*/config.yaml")
    assert yaml.safe_load(trial.read_text())["plugins"] == [{"file": "ema.py", "sha256": DIGEST}]


def test_the_list_names_the_file_and_help_shows_what_it_registers(hybrids, tmp_path):
    shutil.copy(EMA, tmp_path)
    assert "and in files given with plugins=<file.py>: none" in hybrids("plugins").said()
    listed = hybrids("plugins", "plugins=ema.py").said()
    assert any("ema.py:MovingAverage" in line and "mixer" in line for line in listed.splitlines())
    assert f"ema.py (SHA-256 {DIGEST})" in listed and "entry points of the group hybrids.plugins" in listed
    assert (
        "attention, based, block_sparse_attention, delta_net, ema," in hybrids("train", "plugins=ema.py", "-h").said()
    )


@pytest.mark.parametrize("command", [("train",), ("eval", "run=runs/x"), ("state",), ("capacity",), ("bits", "runs/x")])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["plugins=gone.py"], "plugins=gone.py does not exist"),
        (["plugins=bad.py"], "plugins=bad.py cannot be used: line 2: ZeroDivisionError: division by zero"),
        (["plugins="], "plugins= is empty; give a file, such as plugins=my_layer.py"),
        (["plugins=bad.py", "plugins=[worse.py]"], "plugins= is given twice; write plugins=bad.py,worse.py"),
    ],
)
def test_a_wrong_file_is_one_sentence(hybrids, tmp_path, command, given, sentence):
    (tmp_path / "bad.py").write_text("\n1 / 0\n")
    assert hybrids(*command, *given).complaint().startswith(sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "plugins=gone.py"], "hybrids check takes one plugin, not 0; write one of mixer=<name>, "),
        (["check", "mixer=ema", "task=mqar"], "hybrids check takes one plugin, not 2; "),
        (["check", "mixer=ema", "plugins=gone.py"], "plugins=gone.py does not exist"),
        (["plugins", "mixer=ema"], "'mixer=ema' is no argument of hybrids plugins; allowed: plugins=<file.py>"),
        (["task", "mqar", "plugins=gone.py", "--help"], "plugins=gone.py does not exist"),
    ],
)
def test_commands_with_arguments_of_their_own(hybrids, arguments, sentence):
    assert hybrids(*arguments).complaint().startswith(sentence)
