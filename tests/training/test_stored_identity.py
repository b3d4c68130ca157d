"""A folder is a run's own by what is stored in it, not by its name; what was changed in it is refused."""

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from damage import change_digit

from hybrids.config.build import build_run, open_run
from hybrids.errors import UserError
from hybrids.training.evaluate import load_model
from hybrids.training.identity import seal
from hybrids.training.record import RunFolder
from hybrids.training.train import train


@pytest.fixture
def make_run(make_run):
    return functools.partial(make_run, "pattern=A")


@pytest.fixture(scope="module")
def both(make_run_in, tmp_path_factory):
    """Two finished runs that differ in their seed."""
    place = tmp_path_factory.mktemp("both")
    runs = [make_run_in(place, "pattern=A", "trainer.max_steps=4", f"seed={seed}") for seed in (0, 1)]
    for run in runs:
        train(run)
    return runs


@pytest.fixture
def run(both, make_run):
    """The first of them, in a folder of the test."""
    run = make_run("trainer.max_steps=4")
    shutil.copytree(both[0].folder.path, run.folder.path)
    return run


def as_version_01(folder, name):
    """What version 0.1 would have left: 8 digits, no digests, no marks."""
    folder.path.rename(folder.path.with_name(name))
    folder = RunFolder(folder.path.with_name(name))
    result = folder.read_result()
    if result is not None:
        plain = {name: value for name, value in result.items() if name not in ("digest", "files", "rows")}
        folder.result_file.write_text(json.dumps(plain))
    for path in folder.checkpoints():
        content = torch.load(path, weights_only=True)
        del content["hybrids"]
        torch.save(content, path)
    return folder


def former_name(run):
    return run.id[: -len("0123456789abcdef") + 8]


def test_a_new_run_has_a_digest_of_16_digits(both):
    digest = both[0].id.rpartition("-")[2]
    assert len(digest) == 16 and int(digest, 16) >= 0


@pytest.mark.parametrize("is_finished", [True, False])
def test_two_runs_that_share_8_digits_are_not_taken_for_each_other(run, both, make_run, capsys, is_finished):
    """The folder has the name that version 0.1 would have given to both."""
    if not is_finished:
        run.folder.result_file.unlink()
    former = as_version_01(run.folder, former_name(run))
    assert run.folder.path == former.path
    other = make_run("trainer.max_steps=4", "seed=1")
    former.path.rename(former.path.with_name(former_name(other)))
    assert other.folder.path.name == other.id
    assert train(other)["identity"]["seed"] == 1
    assert "finished" not in capsys.readouterr().out


def test_a_run_of_version_01_goes_on_in_its_folder(run):
    run.folder.result_file.unlink()
    former = as_version_01(run.folder, former_name(run))
    assert train(run)["id"] == former.path.name
    assert not (former.path.parent / run.id).exists()
    assert former.read_result()["digest"]


def test_rerun_sets_a_run_of_version_01_aside_under_its_new_name(run, make_run):
    former = as_version_01(run.folder, former_name(run))
    train(make_run("trainer.max_steps=4", "rerun=true"))
    assert not former.path.exists()
    assert {path.name for path in former.path.parent.iterdir()} == {run.id, f"{run.id}~1"}


def test_a_renamed_folder_is_refused(run, make_run):
    other = make_run("trainer.max_steps=4", "seed=1")
    run.folder.path.rename(other.folder.path)
    for use in (train, lambda run: open_run(run.folder.path)[1].read_result()):
        with pytest.raises(UserError, match=f"{other.id} has been renamed: its run would be named ...-{run.id[-16:]}"):
            use(other)


def test_a_renamed_folder_of_an_unfinished_run_is_refused_with_both_values(run, make_run):
    run.folder.result_file.unlink()
    other = make_run("trainer.max_steps=4", "seed=1")
    run.folder.path.rename(other.folder.path)
    with pytest.raises(
        UserError, match=r"step=00000004.ckpt is of another run: seed is 0 there and 1 here; rerun=true"
    ):
        train(other)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_checkpoint_of_another_seed_is_refused(run, both, is_finished):
    shutil.copy(both[1].folder.checkpoints()[0], run.folder.checkpoints()[0])
    if not is_finished:
        run.folder.result_file.unlink()
        with pytest.raises(UserError, match="of another run: seed is 1 there and 0 here"):
            train(run)
    with pytest.raises(UserError, match="of another run: seed is 1 there and 0 here"):
        load_model(run, run.folder, run.task.build())


def test_a_checkpoint_that_does_not_say_of_which_run_it_is_is_refused(run):
    path = run.folder.checkpoints()[0]
    content = torch.load(path, weights_only=True)
    del content["hybrids"]
    torch.save(content, path)
    run.folder.result_file.unlink()
    with pytest.raises(UserError, match="does not say of which run it is"):
        train(run)


def cut(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        (
            "config.yaml",
            change_digit,
            r"config.yaml was changed since the run ended, as result.json shows; rerun=true",
        ),
        (
            "result.json",
            change_digit,
            r"result.json was changed after it was written: its digest is that of another content",
        ),
        ("metrics.csv", change_digit, "metrics.csv was changed since the run ended"),
        ("metrics.csv", cut, r"metrics.csv has \d+ rows of \d+ since the run ended"),
        ("metrics.csv", Path.unlink, "metrics.csv is gone"),
    ],
)
def test_a_finished_run_that_was_changed_is_refused(run, name, edit, reason):
    edit(run.folder.path / name)
    with pytest.raises(UserError, match=reason):
        train(run)


def test_one_changed_digit_of_a_result_is_noticed_wherever_it_stands(run):
    result = json.loads(run.folder.result_file.read_text())
    result["test"]["accuracy"] += 1e-9
    run.folder.result_file.write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"result.json was changed after it was written"):
        run.folder.read_result()
    run.folder.result_file.write_text(json.dumps(seal(result)))
    assert run.folder.read_result() == seal(result)


@pytest.mark.parametrize(
    ("edit", "reason"), [(change_digit, "was changed"), (cut, "has lost rows"), (Path.unlink, "has lost")]
)
def test_rows_that_an_unfinished_run_has_lost_are_noticed(run, edit, reason):
    run.folder.result_file.unlink()
    edit_start = run.folder.metrics_file.read_bytes()
    saved = torch.load(run.folder.checkpoints()[0], weights_only=True)["hybrids"]["bytes"]
    run.folder.metrics_file.write_bytes(edit_start[:saved])  # as a kill just after the checkpoint leaves it
    edit(run.folder.metrics_file)
    with pytest.raises(UserError, match=f"metrics.csv {reason}.* since the last checkpoint was saved"):
        train(run)


def test_a_config_with_another_width_is_refused_by_evaluation(run):
    run.folder.result_file.unlink()
    text = run.folder.config_file.read_text()
    run.folder.config_file.write_text(text.replace("d_model: 16", "d_model: 32"))
    edited = build_run(run.folder.read_config())
    with pytest.raises(UserError, match=r"of another run: model.d_model is 16 there and 32 here; or config.yaml was"):
        load_model(edited, run.folder, edited.task.build())
