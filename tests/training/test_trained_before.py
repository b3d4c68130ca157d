"""Runs that hybrids trained before its modules moved are found, gone on with, evaluated and reported as ever.

`tests/trained_before` holds what commit 2ece8ec wrote: a run with its checkpoints, evaluation and effective bits, the
run of a capacity search with its record, and the tables of the report on both.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from hybrids.studies.effective_bits.record import read_rounded
from hybrids.training.metrics import read_metrics

BEFORE = Path(__file__).parents[1] / "trained_before"
RUN = Path("runs", "mqar-LA-646e90b2")
SETTINGS = (
    *("pattern=LA", "channel=none", "model.d_model=16", "optim.lr=0.02", "logger=csv"),
    *("task.vocab_size=16", "task.length=16", "task.num_pairs=2", "task.distinct_values=false"),
    *("data.batch_size=32", "data.eval_batch_size=64", "data.num_val_examples=128", "data.num_test_examples=128"),
    *("data.num_recall_examples=256", "trainer.max_steps=400", "trainer.val_every=200", "trainer.log_every=100"),
    *("trainer.target=null", "trainer.progress_bar=false"),
)


@pytest.fixture
def command(hybrids, tmp_path):
    """Run a command beside a copy of the runs."""
    shutil.copytree(BEFORE, tmp_path / "runs", ignore=shutil.ignore_patterns("report"))
    return hybrids


def table(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def assert_same_table(found, expected, *, rel=1e-5):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() >= theirs.keys()  # a later version may have more columns
        for name, value in theirs.items():
            try:
                assert float(ours[name]) == pytest.approx(float(value), rel=rel, abs=1e-9), name
            except ValueError:
                assert ours[name] == value, name


def test_a_finished_run_is_found_by_its_settings(command):
    before = (RUN / "result.json").read_bytes()
    with pytest.warns(UserWarning, match="the code has changed since"):
        assert f"run {RUN} has finished; nothing is done" in command("train", *SETTINGS).said()
    assert (RUN / "result.json").read_bytes() == before


def test_an_interrupted_run_goes_on_to_the_same_end(command):
    expected = json.loads((RUN / "result.json").read_text())
    (RUN / "result.json").unlink()
    (RUN / "checkpoints" / "step=00000400.ckpt").unlink()
    assert "it continues from step=00000200.ckpt" in command("train", *SETTINGS).said()
    found = json.loads((RUN / "result.json").read_text())
    assert (found["id"], found["identity"]) == (expected["id"], expected["identity"])
    assert found["val"]["loss"] == pytest.approx(expected["val"]["loss"], rel=0.05)  # 200 steps of rounding
    assert found["triangle"][0]["recalled_bits"] == pytest.approx(6.0, abs=0.1)
    losses = [read_metrics(folder / "metrics.csv")["train/loss"] for folder in (BEFORE / RUN.name, RUN)]
    assert losses[1][299] == pytest.approx(losses[0][299], rel=0.01)


def test_a_run_is_evaluated_to_the_same_scores(command):
    command("eval", f"run={RUN}", "num_examples=64", "sizes.length=[16,32]", "sizes.num_pairs=[1,2]").said()
    assert_same_table(table(RUN / "eval" / "grid.csv"), table(BEFORE / RUN.name / "eval" / "grid.csv"), rel=1e-4)


def test_its_effective_bits_are_read_and_measured_anew(command):
    before = read_rounded(BEFORE / RUN.name)
    command("bits", str(RUN), "levels=8,4,2", "num_examples=64").said()
    found = read_rounded(RUN)
    assert before is not None and found is not None and before.is_outdated and not found.is_outdated
    assert found.stored.recalled.bits == pytest.approx(before.stored.recalled.bits, rel=1e-5)
    assert [entry.total for entry in found.curve] == [entry.total for entry in before.curve]
    kept = [[entry.recalled.bits for entry in one.curve if entry.bits > 2] for one in (found, before)]
    assert kept[0] == pytest.approx(kept[1])


def test_the_report_on_the_runs_and_the_search_has_the_same_tables(command):
    pytest.importorskip("plotly")
    assert "2 runs shown, 0 not" in command("report", "runs").said()
    for file in sorted((BEFORE / "report").glob("*.csv")):
        assert_same_table(table(Path("runs", "report", file.name)), table(file))


def test_weights_of_every_parameter_are_taken_over(command):
    """The checkpoint has a parameter under the name that it had then."""
    state = torch.load(RUN / "checkpoints" / "step=00000400.ckpt", weights_only=True)["state_dict"]
    assert "model.backbone.blocks.0.mixers.0.norm_weight" in state
