"""Runs and evaluations of a task that is decoded tell what the model wrote, beside its teacher-forced scores."""

import csv
import json
from pathlib import Path

import pytest
from look_up import LookUp

from hybrids import registry
from hybrids.config.schema import store_schemas
from hybrids.model.decode import measure_decoding
from hybrids.task import Split
from hybrids.training.evaluate import load_model
from hybrids.training.metrics import read_metrics
from hybrids.training.train import train

LOOK_UP = (
    "task=look_up",
    "task.num_pairs=2",
    "task.num_hops=1",
    "task.num_symbols=8",
    "pattern=LA",
    "data.num_decoded_examples=12",
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register the task for one test, as if its package had been installed."""
    registry.load_plugins()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    registry.register("task", "look_up", source="test")(LookUp)
    store_schemas()


@pytest.fixture
def base(tiny):
    return [*(override for override in tiny if not override.startswith("task.")), *LOOK_UP]


def test_a_run_decodes_the_first_test_examples_with_its_last_weights(make_run, base):
    run = make_run("data.num_decoded_examples=20", "data.eval_batch_size=6", "data.seed=5", base=base)
    result = train(run)
    assert json.loads(run.folder.result_file.read_text()) == result
    task = run.task.build()
    model = load_model(run, run.folder, task).model
    assert result.get("decoded") == measure_decoding(model, task, 20, seed=5, split=Split.TEST)
    metrics = read_metrics(run.folder.metrics_file)
    logged = {name.removeprefix("decoded/"): value for name, value in metrics.items() if name.startswith("decoded/")}
    assert logged == {name: {8: pytest.approx(value)} for name, value in result["decoded"].items()}
    assert set(metrics) >= {"test/accuracy", "test/exact_match"}


@pytest.mark.slow
def test_a_model_that_has_learnt_to_search_answers_by_itself(make_run, base):
    run = make_run(
        "trainer.max_steps=250",
        "trainer.val_every=50",
        "trainer.target=0.999",
        "optim.lr=0.02",
        base=[*base, "data.num_decoded_examples=256", "data.eval_batch_size=256"],
    )
    result = train(run)
    assert result["test"]["accuracy"] > 0.95
    assert result["decoded"]["accuracy"] > 0.8
    assert result["decoded"]["searches"] == pytest.approx(1, abs=0.1)


def test_no_examples_are_decoded_where_none_are_asked_for(make_run, base):
    run = make_run("data.num_decoded_examples=0", base=base)
    assert "decoded" not in train(run)
    assert not [name for name in read_metrics(run.folder.metrics_file) if "decoded" in name]


def test_the_number_of_decoded_examples_makes_another_run_only_where_some_are_decoded(make_run, base):
    assert make_run("data.num_decoded_examples=3").id == make_run().id
    assert make_run("data.num_decoded_examples=3", base=base).id != make_run(base=base).id


def test_a_negative_number_of_decoded_examples_is_refused(make_run):
    with pytest.raises(ValueError, match="num_decoded_examples=-1 must be at least 0"):
        make_run("data.num_decoded_examples=-1")


def test_tables_label_teacher_forced_scores_and_show_what_was_decoded(hybrids, base):
    said = hybrids("train", *base).said()
    (folder,) = Path("runs").glob("look_up-*")
    result = json.loads((folder / "result.json").read_text())
    for label, value in (
        ("test accuracy, teacher-forced", result["test"]["accuracy"]),
        ("test exact match, teacher-forced", result["test"]["exact_match"]),
    ):
        (line,) = (line for line in said.splitlines() if label in line)
        assert f"{value:.4f}" in line
    lines = said.splitlines()
    for label, prefix in (("│ decoded  ", ""), ("│ decoded, searches by oracle", "oracle/")):
        (start,) = (number for number, line in enumerate(lines) if label in line)
        score = {name: result["decoded"][f"{prefix}{name}"] for name in ("undecided", "accuracy_strict", "accuracy")}
        assert f"{score['undecided']:.2%} undecided of" in lines[start]
        assert f"{score['accuracy_strict']:.4f}  (undecided is wrong)" in lines[start + 1]
        assert f"{score['accuracy']:.4f}  (undecided counts 0.5" in lines[start + 2]
    said = hybrids("eval", f"run={folder}", "num_examples=24", "sizes.num_hops=[1,2]", "num_decoded_examples=12").said()
    assert "decoded, oracle" in said and "accuracy, teacher-forced" in said
    with (folder / "eval" / "grid.csv").open(newline="") as file:
        rows = {(int(row["num_pairs"]), int(row["num_hops"])): row for row in csv.DictReader(file)}
    assert set(rows) == {(2, 1), (2, 2)}
    trained = {name: float(rows[2, 1][f"decoded/{name}"]) for name in result["decoded"]}
    assert trained == pytest.approx(result["decoded"])
    assert float(rows[2, 1]["accuracy"]) == pytest.approx(result["test"]["accuracy"])
    assert rows[2, 2]["decoded/tokens"] != rows[2, 1]["decoded/tokens"]
    said = hybrids("eval", f"run={folder}", "num_examples=24", "sizes.num_hops=1", "num_decoded_examples=0").said()
    assert "decoded" not in said and "teacher-forced" not in said


def test_a_sweep_over_tasks_shows_decoded_accuracy_where_there_is_one(hybrids, base, tiny):
    shared = [override for override in tiny if not override.startswith("task.")]
    few = "data.num_decoded_examples=12"
    hybrids("train", "-m", "task=look_up,mqar", "pattern=A", *shared, few, "trainer.max_steps=4").said()
    (summary,) = Path("runs/sweeps").glob("*/summary.csv")
    with summary.open(newline="") as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    result = json.loads((Path(rows["task=look_up"]["run"]) / "result.json").read_text())
    assert rows["task=look_up"]["decoded"] == f"{result['decoded']['accuracy']:.4f}"
    assert rows["task=mqar"]["decoded"] == ""
    assert "decoded" not in json.loads((Path(rows["task=mqar"]["run"]) / "result.json").read_text())
