"""Checkpoints: how many are kept, where they are drafted, and what is taken from one that somebody else has made."""

import errno
import functools
import os
import shutil
import tempfile

import pytest
import torch

from hybrids.errors import UserError
from hybrids.training import files
from hybrids.training.evaluate import load_model
from hybrids.training.train import train


@pytest.fixture(scope="module")
def finished(make_run_in, tmp_path_factory):
    """A run that has finished."""
    run = make_run_in(tmp_path_factory.mktemp("finished"), "pattern=A")
    train(run)
    return run


@pytest.fixture
def make_run(make_run):
    return functools.partial(make_run, "pattern=A")


@pytest.fixture
def interrupted(make_run, finished):
    """The same run, stopped after step 4."""
    run = make_run()
    shutil.copytree(finished.folder.path, run.folder.path)
    run.folder.result_file.unlink()
    run.folder.checkpoints()[0].unlink()
    return run


def change(run, edit):
    """Edit what the newest checkpoint holds."""
    path = run.folder.checkpoints()[0]
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)
    return path


def names(run):
    return sorted(path.name for path in run.folder.checkpoint_dir.iterdir())


def test_two_checkpoints_are_left_after_every_interruption(make_run, monkeypatch):
    run = make_run("trainer.max_steps=12", "trainer.val_every=2")
    replace = os.replace
    moved = []

    def killed(draft, target):
        replace(draft, target)
        moved.append(target)
        if len(moved) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.os.replace", killed)
    for _ in range(12):
        try:
            train(run)
            break
        except (KeyboardInterrupt, SystemExit):
            assert len(names(run)) <= 3  # the third was to be removed next
    assert run.folder.read_result() is not None
    assert names(run) == ["step=00000010.ckpt", "step=00000012.ckpt"]


def test_a_checkpoint_is_drafted_beside_its_place(make_run, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    train(make_run("trainer.max_steps=4"))


def test_drafts_of_killed_processes_are_removed_by_the_next_start(interrupted):
    for folder in (interrupted.folder.path, interrupted.folder.checkpoint_dir):
        (folder / ".step=00000008.ckpt.4194305").write_bytes(b"half")
    train(interrupted)
    assert names(interrupted) == ["step=00000004.ckpt", "step=00000008.ckpt"]
    assert not list(interrupted.folder.path.glob(".step*"))


def test_a_full_disk_is_named_and_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "kept").write_text("before")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device on the file system /.*kept'"):
        files.write_file(tmp_path / "kept", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "before"


def test_files_that_the_state_of_a_callback_names_are_left_alone(interrupted, tmp_path):
    """Lightning's ModelCheckpoint would remove the worst of `best_k_models` when it saves the next."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "work").write_text("hours")
    paths = {str(outside): torch.tensor(1), str(interrupted.folder.path / "config.yaml"): torch.tensor(2)}
    key = "ModelCheckpoint{'monitor': 'step', 'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
    state = {
        "monitor": "step",
        "dirpath": str(interrupted.folder.checkpoint_dir),
        "best_k_models": paths,
        "kth_best_model_path": str(outside),
        "best_model_path": str(outside),
        "last_model_path": str(outside),
        "kth_value": torch.tensor(1),
        "best_model_score": torch.tensor(2),
        "current_score": torch.tensor(2),
    }
    change(interrupted, lambda content: content["callbacks"].update({f"{key}'train_time_interval': None}}": state}))
    train(interrupted)
    assert (outside / "work").read_text() == "hours"
    assert interrupted.folder.config_file.exists()


def test_checkpoints_behind_a_link_are_left_alone(interrupted, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    interrupted.folder.checkpoint_dir.rename(elsewhere)
    interrupted.folder.checkpoint_dir.symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"checkpoints is a link to .*elsewhere; a run writes into its own folder only"):
        train(interrupted)
    assert [path.name for path in elsewhere.iterdir()] == ["step=00000004.ckpt"]


@pytest.mark.parametrize("name", [".lock", "config.yaml", "metrics.csv", "result.json"])
def test_nothing_is_written_through_a_link(interrupted, tmp_path, name):
    (tmp_path / "other").write_text("hours")
    (interrupted.folder.path / name).unlink(missing_ok=True)
    (interrupted.folder.path / name).symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match=r"other; a run writes into its own folder only|result.json is damaged"):
        train(interrupted)
    assert (tmp_path / "other").read_text() == "hours"


def test_a_checkpoint_that_is_a_link_is_none(interrupted, tmp_path):
    (newest,) = interrupted.folder.checkpoints()
    other = newest.rename(tmp_path / "other.ckpt")
    newest.symlink_to(other)
    assert interrupted.folder.checkpoints() == []
    train(interrupted)
    assert other.exists() and not newest.is_symlink()


def widen(content):
    name = "model.norm.weight"
    content["state_dict"][name] = torch.ones(len(content["state_dict"][name]) + 1)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda c: c.pop("global_step"), "it has no usable global_step"),
        (lambda c: c.update(global_step=2), "it was saved after 2 steps and is named step=00000004.ckpt"),
        (lambda c: c.update(global_step=True), "it has no usable global_step"),
        (lambda c: c.pop("state_dict"), "it has no usable state_dict"),
        (lambda c: c["state_dict"].popitem(), r"its weights are of another model \(Missing key"),
        (lambda c: c["state_dict"].update(more=torch.ones(1)), r"of another model \(Unexpected key.* \"more\""),
        (lambda c: c["state_dict"].update(more="text"), "its weights more are no tensor of real numbers"),
        (widen, r"its weights are of another model \(size mismatch for model.norm.weight"),
        (lambda c: c.update(optimizer_states=[]), "it has no usable state$|it has no usable state;"),
        (lambda c: c["optimizer_states"][0]["state"].update({99: {}}), "its optimiser has .* parameters there and"),
        (
            lambda c: c["optimizer_states"][0]["state"][0].update(exp_avg=torch.ones(1)),
            r"exp_avg of parameter 0 is float32\[1\] there and float32\[",
        ),
        (lambda c: c["optimizer_states"][0]["state"][0].pop("step"), "it has no usable step"),
        (lambda c: c["callbacks"].update(StopEarly={"reason": "x" * 99}), "it stopped for an unknown reason, xxx"),
        (lambda c: c["callbacks"].update(Clock={"seconds": float("nan")}), "it has trained for nan seconds"),
        (lambda c: c.pop("callbacks"), "it has no usable seconds"),
    ],
)
def test_a_checkpoint_that_is_not_of_this_run_is_one_sentence(interrupted, edit, reason):
    path = change(interrupted, edit)
    with pytest.raises(UserError, match=reason) as error:
        train(interrupted)
    assert str(error.value).startswith(f"checkpoint {path} is not of this run: ")
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 400
    assert path.exists()


def test_what_follows_from_the_step_is_not_taken_from_the_file(interrupted, finished):
    """Other rates and another progress of the loops in the file change nothing."""

    def edit(content):
        content["optimizer_states"][0]["param_groups"][0] |= {"lr": 1e9, "betas": (0.0, 0.0), "weight_decay": 1e9}
        content["lr_schedulers"][0] |= {"base_lrs": [1e9, 1e9], "last_epoch": 10**9}
        content["loops"] = {"fit_loop": {"epoch_loop.batch_progress": {"total": {"increment_ready": 1}}}}
        content |= {"pytorch-lightning_version": "nonsense", "hyper_parameters": {"lr": 1}, "MixedPrecision": [1]}

    change(interrupted, edit)
    train(interrupted)
    mine, theirs = (torch.load(run.folder.checkpoints()[0], weights_only=True) for run in (interrupted, finished))
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in mine["state_dict"].items())
    assert interrupted.folder.metrics_file.read_bytes() == finished.folder.metrics_file.read_bytes()


def test_a_kill_before_the_result_leaves_no_row_twice(make_run, finished):
    """Resumed after its last step, a run tests again: at the same step, in the place of what stood there."""
    run = make_run()
    shutil.copytree(finished.folder.path, run.folder.path)
    before = run.folder.metrics_file.read_bytes()
    run.folder.result_file.unlink()
    train(run)
    assert run.folder.metrics_file.read_bytes() == before


def test_evaluation_of_another_model_is_one_sentence(interrupted):
    change(interrupted, widen)
    with pytest.raises(UserError, match=r"is not of this run: its weights are of another model \(size mismatch"):
        load_model(interrupted, interrupted.folder, interrupted.task.build())
