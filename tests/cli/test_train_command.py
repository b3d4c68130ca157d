"""`hybrids train` as a user meets it: bad input is one sentence, and nothing half-written stays behind."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Reply, run_folder

from hybrids.errors import UserError
from hybrids.training import train as training
from hybrids.training.saving import CheckpointFiles

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "pattern=LLXA",
            "pattern=LLXA uses the letter X, which stands for nothing; bound letters: A, L, M, S; "
            "bind it with +mixer@mixers.X",
        ),
        ("mixers.A.num_heads=3", "mixers.A: num_heads=3 does not divide d_model=16; allowed: 1, 2, 4, 8, 16, or any"),
        ("task.num_pairs=5", "num_pairs=5 do not fit into length=16: at most 4 do, or use length=20 or more"),
        (
            "trainer=ddp_cpu trainer.devices=5",
            "data.batch_size=12 is not divisible by 5 ranks; allowed: a multiple of 5",
        ),
        (
            "mixer@mixers.L=linear_atention",
            "unknown mixer 'linear_atention'; did you mean 'linear_attention'? allowed: ",
        ),
        ("+unknown=1", "unknown setting 'unknown'; allowed: pattern, mixers, "),
        ("task=null", "task=null is not allowed"),
        ("pattern=L{A", "pattern 'L{A', column 2: '{' cannot stand here"),
        ("-m pattern=LA optim.lr=1e-3,fast", "optim.lr=fast is not a number"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(train, arguments, sentence):
    """One case for each place that finds it; test_config.py has more of them."""
    reply = train(*arguments.split())
    assert sentence in reply.complaint()
    assert not any("mqar" in path.name for path in Path().rglob("*"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("mixers.L.num_heads=3", "mixers.L: num_heads=3"),
        ("mixers.A.rope_theta=-1", "mixers.A: rope_theta=-1.0 must be positive"),
        ("channel.expansion=nan", "channel mixer of L: expansion=nan must be positive"),
        ("channel=none mixer@mixers.L=none", "layer L has neither a mixer nor a channel mixer"),
        ("task.num_pairs=-1", "num_pairs=-1 must be at least 1"),
        ("task.length=-16", "length=-16 must be even and at least 4"),
        ("model.d_model=-16", "model.d_model=-16 must be at least 1"),
        ("trainer.max_steps=-1", "trainer.max_steps=-1 must be at least 1"),
    ],
)
def test_what_no_layer_or_task_can_be_is_refused_before_there_is_a_folder(make_run, tmp_path, overrides, sentence):
    with pytest.raises(ValueError, match=r"must|num_heads|neither") as caught:
        training.train(make_run(*overrides.split()))
    assert sentence in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_traceback_is_there_for_who_wants_it_and_the_environment_is_left_as_it_was(train, monkeypatch):
    monkeypatch.setenv("HYBRIDS_TRACEBACK", "1")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(ValueError, match="the letter X"):
        train("pattern=LLXA")
    assert os.environ.get("HYDRA_FULL_ERROR", "0") == "0"


@pytest.mark.parametrize("defect", [lambda: 1 // 0, lambda: list(zip([1], [1, 2], strict=True)), lambda: int("x")])
def test_a_defect_is_not_told_as_the_users_fault(train, monkeypatch, defect):
    monkeypatch.setattr("hybrids.cli.runs.train", lambda run: defect())
    with pytest.raises((ZeroDivisionError, ValueError)) as caught:
        train()
    assert not isinstance(caught.value, UserError)


def test_a_program_of_its_own_gives_one_line_too(tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *tiny, "pattern=LLXA"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "letter X" in Reply(done.returncode, done.stdout, done.stderr).complaint()
    assert (done.stdout, list(tmp_path.iterdir())) == ("", [])


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["L", "M"])
def test_a_run_that_is_compiled_has_a_result(tiny, tmp_path, letter):
    """By the compiler that users have; in a process of its own, where no shape checks are hooked in."""
    arguments = [*tiny, f"pattern={letter}", "trainer.compile=true"]
    done = subprocess.run([sys.executable, ROOT / "train.py", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "triangle at 32" in done.stdout
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 1


def test_runs_below_a_file_are_refused(train):
    Path("file").write_text("mine")
    assert "cannot use file/" in train("runs_dir=file").complaint()
    assert "runs_dir=<folder> keeps runs in another place" in train("runs_dir=file/below").complaint()
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_takes_nothing_leaves_nothing(train, monkeypatch, code):
    def refuse(path, mode="r", *args, **kwargs):
        if mode == "xb":
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, mode, *args, **kwargs)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    assert os.strerror(code) in train().complaint()
    assert list(Path("runs").iterdir()) == []


def test_a_disk_that_fills_up_costs_no_more_than_the_steps_since_the_last_checkpoint(train, monkeypatch):
    save, saved = CheckpointFiles.save_checkpoint, []

    def fill_up(files, checkpoint, path, storage_options=None):
        if saved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        saved.append(path)
        save(files, checkpoint, path)

    monkeypatch.setattr(CheckpointFiles, "save_checkpoint", fill_up)
    assert "No space left on device" in train("pattern=A").complaint()
    assert [path.name for path in (run_folder() / "checkpoints").iterdir()] == ["step=00000004.ckpt"]
    assert not (run_folder() / "result.json").exists()
    monkeypatch.setattr(CheckpointFiles, "save_checkpoint", save)
    assert "it continues from step=00000004.ckpt" in train("pattern=A").said()


def test_a_run_prints_its_table_and_again_is_a_no_op(train):
    first = train("pattern=LA")
    assert first.code == 0
    for text in (
        "test accuracy",
        "num_pairs=2",
        "parameters",
        "bits",
        "FLOPs",
        "8 steps, 96 examples",
        "runs/mqar-LA-",
    ):
        assert text in first.out
    before = {path: path.stat().st_mtime_ns for path in run_folder().rglob("*")}
    again = train("pattern=LAx1")
    assert again.code == 0
    assert "has finished; nothing is done (rerun=true repeats it)" in again.out
    assert {path: path.stat().st_mtime_ns for path in run_folder().rglob("*")} == before
