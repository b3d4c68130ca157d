"""Runs under a curriculum: where they end, that they go on as they were, and what they say of it."""

import functools
import re

import pytest
import torch
from curricula import STAGES

from hybrids.training import callbacks
from hybrids.training.curriculum import describe_stages
from hybrids.training.evaluate import load_model
from hybrids.training.lit import LitModel
from hybrids.training.metrics import read_metrics
from hybrids.training.train import train


@pytest.fixture
def make_run(make_run):
    return functools.partial(make_run, "pattern=LA")


def test_a_target_ends_no_run_before_a_step_of_the_last_stage(make_run, monkeypatch):
    """The target is met at every validation: after steps 2, 4, 6 and 8, and the last stage begins with step 4."""
    monkeypatch.setattr(callbacks, "scores_of", lambda metrics, split: {"loss": 0.0, "accuracy": 1.0})
    asked = ("trainer.target=0.5", "trainer.val_every=2")
    stages = ("++curriculum.sizes.num_pairs=[1]", "curriculum.steps=[4]")
    assert (train(make_run(*asked))["steps"], train(make_run(*asked, *stages))["steps"]) == (2, 6)


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def unbroken(make_run_in, tmp_path_factory):
    """A run under a curriculum that nothing has interrupted."""
    run = make_run_in(tmp_path_factory.mktemp("unbroken"), "pattern=LA", *STAGES, "trainer.val_every=2")
    train(run)
    return run


@pytest.mark.parametrize("step", [3, 6, 8])
def test_a_run_that_goes_on_ends_bit_for_bit_like_an_unbroken_one(make_run, monkeypatch, unbroken, step):
    run, original, left = make_run(*STAGES, "trainer.val_every=2"), LitModel.training_step, [step]

    def die(self, batch, batch_idx):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LitModel, "training_step", die)
    with pytest.raises(Killed):
        train(run)
    result, expected = train(run), unbroken.folder.read_result()
    assert read_metrics(run.folder.metrics_file) == read_metrics(unbroken.folder.metrics_file)
    weights = [torch.load(one.folder.checkpoints()[0], weights_only=True)["state_dict"] for one in (run, unbroken)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert (result["val"], result["test"]) == (expected["val"], expected["test"])


def test_a_run_says_what_it_trained_on_and_is_validated_at_the_sizes_of_its_task(make_run):
    run = make_run(*STAGES, "data.seed=1")
    result = train(run)
    metrics = read_metrics(run.folder.metrics_file)
    assert list(metrics["train/stage"].values()) == [1, 1, 2, 2, 2, 3, 3, 3]
    assert list(metrics["train/length"].values()) == [8, 8, 12, 12, 12, 16, 16, 16]
    pairs = list(metrics["train/num_pairs"].values())
    assert pairs[:2] == [1, 1] and set(pairs[2:5]) <= {1, 2} and pairs[5:] == [2, 2, 2]
    assert {name for name in metrics if "=" in name and name.startswith("val")} == {
        "val/accuracy/num_pairs=2",
        "val/accuracy/length=16",
    }
    assert result["curriculum"] == [
        {"start": 0, "sizes": [{"num_pairs": 1, "length": 8}], "length": 8},
        {"start": 2, "sizes": [{"num_pairs": 1, "length": 12}, {"num_pairs": 2, "length": 12}], "length": 12},
        {"start": 5, "sizes": [{"num_pairs": 2, "length": 16}], "length": 16},
    ]
    told = "num_pairs=1 length=8; from step 2 num_pairs=1,2 length=12; from step 5 num_pairs=2 length=16"
    assert describe_stages(result["curriculum"]) == told
    assert run.notes == (f"curriculum: {told}",)
    assert run.folder.read_config()["curriculum"]["steps"] == [2, 5]
    assert load_model(run, run.folder, run.task.build()).model.embedding.num_embeddings == 64


def test_a_run_without_a_curriculum_has_none_in_its_identity_record_and_metrics(make_run):
    run = make_run()
    assert "curriculum" not in run.identity and "curriculum" not in train(run)
    assert run.notes == () and "train/stage" not in read_metrics(run.folder.metrics_file)


def test_the_command_takes_a_curriculum_and_shows_it(hybrids, tiny):
    reply = hybrids("train", *tiny, "pattern=LA", "curriculum.sizes.length=32", "curriculum.steps=2")
    assert reply.code == 0
    assert reply.out.startswith("curriculum: length=32; from step 2 length=16\n")
    assert re.search(r"│ curriculum +│ length=32; from step 2 length=16 ", reply.out)
    assert re.search(r"triangle at 32 tokens.*Compactness [-\d.]+ +Recall [-\d.]+ +│", reply.out)
    assert re.search(r"triangle at 64 tokens [^\n]*\n?[^\n]*\(beyond training\)", reply.out)
    again = hybrids("train", *tiny, "pattern=LA", "curriculum.sizes.length=[32,16]", "curriculum.steps=[2]")
    assert "has finished; nothing is done" in again.out
    (folder,) = {line.split()[1] for line in again.out.splitlines() if line.startswith("run runs/")}
    grid = hybrids("eval", f"run={folder}", "sizes.length=[16,32,64]", "sizes.num_pairs=2", "num_examples=8")
    trained = [line.split("│")[1].strip() for line in grid.out.splitlines() if line.rstrip("│ ").endswith("yes")]
    assert trained == ["16", "32"]
