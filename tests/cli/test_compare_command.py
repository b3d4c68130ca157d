"""`hybrids compare`: two runs, what differs and every number."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from hybrids.training.train import train


@pytest.fixture(scope="module")
def trained(train_runs):
    """A run that has learned its task, one at another learning rate that has not, one of other data, and a mixture."""
    return train_runs(
        learned=["trainer.max_steps=150"],
        unlearned=["optim.lr=0.01", "trainer.max_steps=2"],
        elsewhere=["optim.lr=0.01", "trainer.max_steps=2", "data.seed=7", "data.batch_size=32"],
        mixture=["trainer.max_steps=2", "task.segments=[[16,1,1],[16,2,1]]"],
    )


@pytest.fixture
def command(hybrids, trained):
    """Run `hybrids compare` beside a copy of the runs."""
    shutil.copytree(trained, "runs")
    return partial(hybrids, "compare")


def tables(reply):
    return {table["title"]: table["rows"] for table in map(json.loads, reply.said().splitlines())}


def limits(row):
    low, high = row["95 % interval of B - A"].split(" to ")
    return float(low), float(high)


def result(name):
    return json.loads(Path("runs", name, "result.json").read_text())


def test_every_number_of_two_runs(command):
    told = tables(command("runs/learned", "runs/unlearned", "--format=json"))
    settings = {row["setting"]: (row["A"], row["B"]) for row in told["what differs"]}
    assert settings == {"optim.lr": (0.02, 0.01), "trainer.max_steps": (150, 2)}
    rows = {row["measure"]: row for row in told["numbers"]}
    recorded = result("learned"), result("unlearned")
    for measure, name in (
        ("test accuracy", "accuracy"),
        ("test exact match", "exact_match"),
        ("test loss (nats)", "loss"),
    ):
        row = rows[measure]
        assert [row["A"], row["B"]] == pytest.approx([one["test"][name] for one in recorded], abs=1e-4)
        low, high = limits(row)
        assert low < row["B - A"] < high and (low > 0 or high < 0)  # one has learned, the other has not
        assert row["over examples"] == 64
    recalled = rows["recalled bits at 16 tokens"]
    assert recalled["A"] == pytest.approx(recorded[0]["triangle"][0]["recalled_bits"], abs=1e-4)
    assert limits(recalled)[1] < 0 and recalled["over examples"] == 128
    assert rows["state bits at 16 tokens"]["A"] == recorded[0]["triangle"][0]["state_bits"]
    assert rows["training steps"]["B - A"] == -148
    assert rows["training steps"]["95 % interval of B - A"] == ""


def test_it_says_what_the_intervals_are_over(command):
    same = command("runs/learned", "runs/unlearned").said()
    assert "A: runs/learned" in same
    assert "intervals are over test examples, which are the same and compared one by one; what another seed" in same
    other = command("runs/learned", "runs/elsewhere", "--examples=50").said()
    assert "data.seed" in other and "test examples, which are not the same for A and B" in other


def test_slices_and_runs_without_recall(command):
    out = tables(command("runs/mixture", "runs/unlearned", "--format=json"))
    rows = {row["measure"]: row for row in out["numbers"]}
    assert rows["  num_pairs=1"]["B"] == "" and rows["  num_pairs=2"]["A"] != ""
    assert {row["setting"] for row in out["what differs"]} == {"optim.lr", "task.segments"}


def test_slices_that_differ_within_an_example(hybrids, make_run_in, tmp_path):
    """A label stands at every prefix, and accuracy is told by how long that is."""
    task = ("task=word_problem", "task.group=Z2", "task.length=8", "task.min_length=3", "data.num_test_examples=64")
    small = (*task, "model.d_model=16", "trainer.max_steps=4", "logger=csv", "trainer.progress_bar=false")
    for seed in (0, 1):
        train(make_run_in(tmp_path / "runs", f"seed={seed}", base=small))
    first, second = sorted(path.parent for path in tmp_path.glob("runs/*/result.json"))
    rows = {
        row["measure"]: row for row in tables(hybrids("compare", str(first), str(second), "--format=json"))["numbers"]
    }
    for folder, column in ((first, "A"), (second, "B")):
        scores = json.loads((folder / "result.json").read_text())["test"]
        sliced = {name.removeprefix("accuracy/"): value for name, value in scores.items() if "prefix=" in name}
        assert len(sliced) > 2
        for name, value in sliced.items():
            assert rows[f"  {name}"][column] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runs/learned"], "hybrids compare takes the folders of two runs, not 1"),
        (["runs/learned", "runs/learned/"], "runs/learned and runs/learned are one run; give the folders of two"),
        (["runs/learned", "runs/learnt"], "run=runs/learnt does not exist; runs nearby"),
        (["runs/learned", "runs/unlearned", "--examples=1"], "--examples=1 must be at least 2"),
        (["runs/learned", "runs/unfinished"], "run=runs/unfinished has not finished: it has no result.json"),
    ],
)
def test_wrong_arguments_are_one_sentence(command, arguments, sentence):
    shutil.copytree("runs/unlearned", "runs/unfinished")
    Path("runs/unfinished/result.json").unlink()
    assert command(*arguments).complaint().startswith(sentence)
