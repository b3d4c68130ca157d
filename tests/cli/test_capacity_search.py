"""`hybrids capacity`: ordinary runs, read as capacity; what cannot be read is refused before any training."""

import csv
import json
import math
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from scipy.stats import chisquare

from hybrids import cli, registry
from hybrids.report.terminal.capacity import COLUMNS, table_row
from hybrids.report.terminal.progress import RunsBar
from hybrids.studies.capacity import trials
from hybrids.studies.capacity.record import Outcome, read
from hybrids.studies.capacity.search import Capacity, Trial
from hybrids.studies.capacity.trials import Ceiling
from hybrids.task import Split
from hybrids.training import train as training
from hybrids.triangle.match import Size

SMALL = (
    "pattern=L",
    "task.length=16",
    "task.vocab_size=64",
    "model.d_model=8",
    "logger=csv",
    "max_facts=4",
    "min_utilisation=0",
)


@pytest.fixture
def capacity(monkeypatch, capfd, tmp_path):
    """Run the command in a folder of the test: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "describe_code", lambda: {"commit": "the same"})  # someone may edit while we test

    def run(*arguments, base=SMALL):
        GlobalHydra.instance().clear()
        given = {text.partition("=")[0] for text in arguments}
        kept = [text for text in base if text.partition("=")[0] not in given]
        monkeypatch.setattr(sys, "argv", ["hybrids", "capacity", *kept, *arguments])
        capfd.readouterr()
        code = cli.main()
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def memory(monkeypatch):
    """Runs without training: a model that recalls as many facts as `capacities` says for its rate."""
    trained, capacities = [], {}

    def train(run):
        trained.append(run)
        holds = capacities.get(run.optim.lr, 3) if run.seed != 2 else 0.1
        task = run.task.build()
        test = {f"accuracy/num_pairs={k}": min(1.0, holds / k) for k in task.slice_values["num_pairs"]}
        run.folder.create(run.config)
        run.folder.metrics_file.write_text("step,metric,value\n50,val/accuracy,0.9\n100,val/accuracy,0.9\n")
        result = {"version": 1, "test": test, "steps": 100, "seconds": 2.0, "stopped": "max_steps"}
        run.folder.write_result(result)
        return result

    monkeypatch.setattr(trials, "train", train)
    train.trained, train.capacities = trained, capacities
    return train


def record():
    (path,) = Path("runs/capacity").glob("*/capacity.json")
    return json.loads(path.read_text())


# The runs


def test_the_runs_are_ordinary_and_again_nothing_is_trained(capacity, make_run):
    few = ("steps=8", "data.batch_size=8", "data.num_val_examples=8", "data.num_test_examples=400")
    code, out, _ = capacity(*few, "trainer.val_every=4", "rates=0.01", "seeds=2", "max_facts=2")
    assert code == 0
    segments = ["task.segments=[[16,1,1],[16,2,1]]", "task.num_pairs=2", "task.distinct_values=false"]
    other = [text for text in SMALL if text.startswith(("task", "model", "pattern", "logger"))]
    ordinary = make_run(
        *(text for text in few if "." in text),
        *("trainer.val_every=4", "trainer.target=null", "trainer.max_steps=8", "optim.lr=0.01", "seed=1"),
        *segments,
        base=other,
    )
    result = json.loads(Path("runs", ordinary.id, "result.json").read_text())
    trial = record()["patterns"][0]["trials"][1]
    assert trial["run"] == f"runs/{ordinary.id}"
    assert trial["curve"] == {str(k): result["test"][f"accuracy/num_pairs={k}"] for k in (1, 2)}
    before = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")}
    code, again, _ = capacity(*few, "trainer.val_every=4", "rates=0.01", "seeds=2", "max_facts=2")
    assert (code, len(before)) == (0, 2)
    assert {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")} == before
    assert again.splitlines()[-4:] == out.splitlines()[-4:]


def test_rates_are_tried_on_one_seed_and_the_best_on_the_others(capacity, memory):
    memory.capacities.update({1e-3: 1.8, 1e-2: 3, 1e-1: 0.1})
    code, out, _ = capacity("rates=1e-1,1e-3,1e-2", "seeds=4")
    assert code == 0
    asked = [(run.optim.lr, run.seed, run.logger.job_type) for run in memory.trained]
    stages = [(1e-3, 0, "capacity-rate"), (1e-2, 0, "capacity-rate"), (1e-1, 0, "capacity-rate")]
    assert asked == [*stages, *((1e-2, seed, "capacity-seed") for seed in (1, 2, 3))]
    assert len({run.logger.group for run in memory.trained}) == 1
    assert all(run.trainer.target is None for run in memory.trained)
    found = record()["patterns"][0]
    share = (1.0 - 0.9) / (1.0 - 0.75)  # between 3 facts (all) and 4 (three of them)
    assert found["facts"] == pytest.approx(3 * (4 / 3) ** share)
    assert (found["num_seeds"], found["num_never_learned"], found["coverage"]) == (3, 1, 0.5)
    assert (found["window"], found["reasons"]) == ([1e-3, 1e-2], [])
    assert "1 of 3" in out and "lower bound" not in out
    with next(Path("runs/capacity").glob("*/curves.csv")).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["rate"], row["seed"]) == ("0.01", "1")]
    assert {int(row["facts"]): float(row["accuracy"]) for row in rows} == {1: 1, 2: 1, 3: 1, 4: 0.75}


def test_several_patterns_stand_in_one_table_and_one_group(capacity, memory):
    code, out, _ = capacity("pattern=L,A", "rates=0.01", "seeds=1", "match=params", "match_to=L")
    assert code == 0
    assert [entry["pattern"] for entry in record()["patterns"]] == ["L", "A"]
    assert len({run.logger.group for run in memory.trained}) == 1
    assert "match=params" in out
    assert "lower bound: only 1 learning rate tried" in out


def test_bisection_trains_at_single_numbers_of_facts(capacity, memory):
    code, _, _ = capacity("rates=0.01", "seeds=2", "--confirm")
    assert code == 0
    assert record()["patterns"][0]["confirmed"] == 3
    alone = [run for run in memory.trained if run.logger.job_type == "capacity-confirm"]
    assert {run.task.build().facts for run in alone} == {2, 3, 4}
    assert {run.seed for run in alone} == {1}


def test_no_run_starts_after_the_budget_and_what_is_missing_is_said(capacity, memory, monkeypatch):
    code, out, _ = capacity("rates=0.01,0.1", "seeds=2", "--budget=0")
    assert (code, memory.trained) == (0, [])
    assert "L: missing: rate 0.01, rate 0.1, seed 1 at the chosen rate; the same command goes on" in out
    assert "facts" not in record()["patterns"][0]
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    train = trials.train
    monkeypatch.setattr(trials, "train", lambda run: (clock.__setitem__(0, clock[0] + 40), train(run))[1])
    code, out, _ = capacity("rates=0.01,0.1", "seeds=2", "budget=1")
    assert len(memory.trained) == 2
    assert "L: missing: seed 1 at the chosen rate;" in out
    assert "the budget was spent before 1 runs" in record()["patterns"][0]["reasons"]
    code, out, _ = capacity("rates=0.01,0.1", "seeds=2", "budget=0")  # what is there is read
    assert "missing: seed 1 at" in out and len(memory.trained) == 2
    capacity("rates=0.01,0.1", "seeds=2")
    assert (len(memory.trained), record()["patterns"][0]["missing"]) == (3, [])


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_search_goes_on_where_it_was(capacity, memory, monkeypatch, stop):
    train = trials.train

    def interrupted(run):
        if memory.trained:
            raise stop
        return train(run)

    monkeypatch.setattr(trials, "train", interrupted)
    code, _, err = capacity("rates=0.01", "seeds=2")
    assert (code, err) == (130, "stopped; the same command goes on from the last checkpoint\n")
    monkeypatch.setattr(trials, "train", train)
    assert capacity("rates=0.01", "seeds=2")[0] == 0
    assert [run.seed for run in memory.trained] == [0, 1]


def test_more_facts_than_the_state_holds_is_an_error(capacity, memory, monkeypatch):
    monkeypatch.setattr(trials, "state_bits", lambda cache: 10)
    code, _, err = capacity("rates=0.01", "seeds=1")
    assert code == 1
    assert "error: more was recalled than the state of L holds" in err


# Refusals


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task=counting"], "task Counting has no bits with these settings"),
        (["task=copying"], "task=copying cannot vary its number of facts; allowed: mqar"),
        (["max_facts=5"], "max_facts=5: num_pairs=5 do not fit into length=16: at most 4 do, or use length=20 or more"),
        (["min_utilisation=0.9"], "at most 0.0"),
        (["data.num_test_examples=399"], "data.num_test_examples=399 over 4 numbers of facts: the standard error of"),
        (["++data.num_test_examples=399"], "data.num_test_examples=399 over 4 numbers of facts: the standard error of"),
        (["optim.lr=0.1"], "optim.lr=0.1: hybrids capacity sets optim.lr; give rates="),
        (["context=64"], "context=64: hybrids capacity sets context; give task.length="),
        (["--confrim"], "unknown option '--confrim'; did you mean 'confirm'?"),
        (["--smok"], "unknown option '--smok'; did you mean 'smoke'?"),
        (["--smoke=3"], "smoke=3: it takes no value, write --smoke"),
        (["rates=fast"], "rates[0]=fast is not a number"),
        (["rates=-1"], "rates=-1: all must be positive"),
        (["seeds=0"], "seeds=0 must be at least 1"),
        (["seeds=many"], "seeds=many is not a whole number"),
        (["budget=-1"], "budget=-1.0 must be at least 0"),
        (["max_facts=0"], "max_facts=0 must be at least 1"),
        (["pattern="], "no pattern is given"),
        (["pattern=[]"], "no pattern is given"),
        (["pattern=(LA)x2,A"], "pattern '(LA)x2', column 1: '(' cannot stand here"),
        (["rates="], "rates=: give at least one"),
        (
            ["task.num_pairs=4", "task.length=4"],
            "task.num_pairs=4: hybrids capacity sets task.num_pairs; give max_facts",
        ),
        (["pattern=LX"], "pattern=LX uses the letter X, which stands for nothing"),
        (["sweep=trajectory"], "sweep= is over many runs; only hybrids train takes it"),
        (["task.segments=[[16,1,1]]"], "task.segments=[[16,1,1]]: hybrids capacity sets task.segments; give max"),
    ],
)
def test_what_cannot_be_read_is_refused_before_training(capacity, memory, arguments, sentence):
    base = SMALL if not arguments[0].startswith("task=") else ("logger=csv",)
    code, _, err = capacity(*arguments, base=base)
    assert (code, len(err.splitlines()), memory.trained) == (1, 1, [])
    assert sentence in err
    assert not Path("runs").exists()


def test_an_alphabet_smaller_than_the_facts_is_refused():
    with pytest.raises(ValueError, match=r"max_facts=9 exceeds the alphabet of 8 values, .* allowed: up to 8"):
        trials.check_ceiling(Ceiling(9, 8, 100, 0.27), 0.0)
    trials.check_ceiling(Ceiling(8, 8, 100, 0.24), 0.0)


def test_an_empty_comparison_says_what_could_be_seen(capacity):
    code, out, err = capacity("min_utilisation=0.9")
    assert code == 1
    assert "largest measurable utilisation" in out
    assert "the comparison would be empty; use a smaller model.d_model" in err


# What is said


def test_a_row_agrees_with_the_bound_by_hand():
    """State of 1,000 bits, 256 symbols: a fact at error 0.1 needs 8 - h(0.1) - 0.1 log2 255 bits."""
    curve = {8: 1.0, 16: 0.5}
    facts = 8 * 2 ** (0.1 / 0.5)
    trial = Trial(0.01, 0, curve, 500, True, "runs/x")
    found = Capacity((trial,), 0.01, facts, None, 0, 0, (0.01,), ("only 1 learning rate tried",))
    outcome = Outcome(
        pattern="LA",
        size=Size(16, 1234, 99, 4321),
        capacity=found,
        at_most=Ceiling(16, 256, 1200, 0.1),
        at_capacity=Ceiling(10, 256, 1000, 0.1),
    )
    per_fact = 8 + 0.1 * math.log2(0.1) + 0.9 * math.log2(0.9) - 0.1 * math.log2(255)
    row = dict(zip(COLUMNS, table_row(outcome), strict=True))
    assert row == {
        "pattern": "LA",
        "K*": f"{facts:.2f}",
        "interval": "none",
        "remarks": "lower bound: only 1 learning rate tried",
        "utilisation": f"{facts * per_fact / 1000:.4f}",
        "rate": "0.01",
        "never learned": "0 of 0",
        "state bits": "1,000",
        "K at most": f"{1000 / per_fact:,.1f}",
        "window (decades)": "0.00",
        "d_model": "16",
        "parameters": "1,234",
        "step FLOPs": "4,321",
        "steps": "1 x 500",
        "K alone": "",
    }


def test_the_time_left_is_that_of_the_runs_so_far(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("hybrids.report.terminal.progress.time.monotonic", lambda: clock[0])
    bar = RunsBar(5)
    assert bar.seconds_left is None
    for seconds in (10.0, 20.0):
        bar.end(Trial(0.01, 0, {1: 1.0, 2: 1.0}, 10, True, "runs/x"), {"seconds": seconds})
    assert bar.seconds_left == 45.0
    clock[0] += 12
    assert bar.seconds_left == 33.0


# Tasks


@pytest.mark.parametrize(
    "name", [n for n in registry.names("task") if hasattr(registry.get("task", n).cls, "vary_facts")]
)
def test_a_task_that_varies_its_facts_draws_each_number_equally_often(name):
    cls = registry.get("task", name).cls
    settings = cls(length=64).settings()
    facts = (1, 2, 3, 4, 6, 8, 12, 16)
    task = cls(**{**settings, **cls.vary_facts(facts, settings)})
    batch = task.sample(torch.arange(8000), seed=0, split=Split.TRAIN)
    drawn = batch.slices[cls.facts_slice]
    assert task.slice_values[cls.facts_slice] == facts
    assert chisquare([int((drawn == k).sum()) for k in facts]).pvalue > 1e-3
    assert (batch.valid.sum(1) == drawn).all()
    alone = cls(**{**settings, **cls.vary_facts((12,), settings)})
    assert (alone.facts, alone.length) == (12, task.length)
    assert alone.bits == pytest.approx(12 * math.log2(4096))


# The record


def test_a_record_that_was_changed_is_named(capacity, memory):
    capacity("rates=0.01", "seeds=1")
    (path,) = Path("runs/capacity").glob("*/capacity.json")
    (found,) = read(path)
    path.write_text(path.read_text().replace(f'"facts": {found.facts}', f'"facts": {found.facts + 1}'))
    with pytest.raises(ValueError, match=r"capacity.json cannot be used: it was changed after it was written: .*again"):
        read(path)


def test_a_search_of_version_01_goes_on_in_its_folder(capacity, memory):
    """It named folders by 8 digits; one that asks for something else is another search."""
    capacity("rates=0.01", "seeds=1")
    (folder,) = Path("runs/capacity").iterdir()
    former = folder.rename(folder.with_name(folder.name[:-8]))
    capacity("rates=0.01", "seeds=1")
    assert list(Path("runs/capacity").iterdir()) == [former]
    asked = json.loads((former / "capacity.json").read_text())
    asked["asked"]["max_facts"] += 1
    (former / "capacity.json").write_text(json.dumps(asked))
    capacity("rates=0.01", "seeds=1")
    assert {path.name for path in Path("runs/capacity").iterdir()} == {former.name, folder.name}
