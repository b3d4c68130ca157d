"""`hybrids bits` on runs: what it measures, says and refuses."""

import csv
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.image
import pytest

from hybrids.model.block import Letter
from hybrids.pattern import Pattern
from hybrids.studies.effective_bits.measure import measure_rounded
from hybrids.studies.effective_bits.record import FILE
from hybrids.studies.effective_bits.settings import RoundingSettings


@pytest.fixture(scope="module")
def trained(train_runs):
    """Folders of a run that has learned its task, of one that has not, and of one whose task has no bits."""
    return train_runs(
        learned=["trainer.max_steps=150"],
        unlearned=["trainer.max_steps=2"],
        mixture=["trainer.max_steps=2", "task.segments=[[16,1,1],[16,2,1]]"],
    )


@pytest.fixture
def command(hybrids, trained):
    """Run `hybrids bits` beside a copy of the runs."""
    shutil.copytree(trained, "runs")
    return partial(hybrids, "bits")


def table(run):
    with (Path("runs", run) / FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_measured_as_its_training_measured_it(command):
    code, out, err = command("runs/learned", "num_examples=128", "batch_size=256", "levels=1,12,4,12")
    assert (code, err) == (0, "")
    rows, place = table("learned"), json.loads(Path("runs/learned/result.json").read_text())["triangle"][0]
    stored = rows[0]
    assert [row["state"] for row in rows] == ["stored", "rounded", "rounded", "rounded"]
    assert [float(row["bits_per_element"]) for row in rows] == [32, 12, 4, 1]
    assert float(stored["recalled_bits"]) == pytest.approx(place["recalled_bits"])
    assert int(stored["total_bits"]) == place["facts_state_bits"] and int(stored["context"]) == 16
    shares = [float(row["share_kept"]) for row in rows]
    assert shares[:2] == pytest.approx([1, 1], abs=0.03) and shares[3] < 0.9
    elements = int(stored["state_elements"])
    assert [int(row["total_bits"]) for row in rows[1:]] == [12 * elements, 4 * elements, elements]
    for row in rows:
        assert float(row["utilisation"]) == pytest.approx(float(row["recalled_bits"]) / int(row["total_bits"]))
    assert "effective bits: " in out and "utilisation" in out
    assert min(matplotlib.image.imread(Path("runs/learned") / FILE.with_suffix(".png")).shape[:2]) > 300


def test_a_folder_has_a_line_for_each_run_and_says_what_it_left_out(command):
    Path("runs/begun").mkdir()
    shutil.copy("runs/learned/config.yaml", "runs/begun")
    code, out, err = command("runs", "runs/learned", "num_examples=64", "levels=8")
    assert (code, err) == (0, "")
    assert "not measured: begun: not finished: it has no result.json" in out
    assert "not measured: mixture: run=runs/mixture: task MultiQueryAssociativeRecall has no bits with these" in out
    (line,) = (line for line in out.splitlines() if line.startswith("│ runs/unlearned "))
    assert "nothing was recalled for sure" in line and line.count("none") == 2
    assert len([line for line in out.splitlines() if line.startswith("│ runs/")]) == 2
    assert table("unlearned")[1]["share_kept"] == ""


def test_validation_examples_alone_fix_the_steps(command, monkeypatch):
    from hybrids.task import Split
    from hybrids.triangle import quantise, recall

    answer, fitted = recall._answer, []
    monkeypatch.setattr(recall, "_answer", lambda *arguments: (fitted.append(arguments[4]), answer(*arguments))[1])
    fit = quantise.fit
    monkeypatch.setattr(quantise, "fit", lambda cache, level: (fitted.append(level), fit(cache, level))[1])
    command("runs/learned", "num_examples=64", "batch_size=64", "levels=8,4")
    assert fitted == [Split.TEST, Split.VAL, 8, Split.TEST, 4, Split.TEST]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runs/nope"], "run=runs/nope does not exist; runs nearby: runs/"),
        (["runs/begun"], "run=runs/begun has not finished: it has no result.json"),
        (["runs/mixture"], "run=runs/mixture: task MultiQueryAssociativeRecall has no bits with these settings"),
        (["empty"], "empty holds no runs"),
        (["partly"], "no run of partly can be measured; the first: begun: not finished"),
        (["runs/learned", "levels=0"], "levels=0: each is a number of bits per element, 1 to 24"),
        (["runs/learned", "levels=8,25"], "levels=8,25: each is a number of bits per element, 1 to 24"),
        (["runs/learned", "levels=few"], "levels[0]=few is not a whole number"),
        (["runs/learned", "levels="], "levels=: each is a number of bits per element"),
        (["runs/learned", "num_examples=1"], "num_examples=1 must be at least 2"),
        (["runs/learned", "batch_size=0"], "batch_size=0 must be at least 1"),
        (["runs/learned", "batch_size=x"], "batch_size=x is not a whole number"),
        (["runs/learned", "threads=0"], "threads=0; allowed: 1 or more"),
        (
            ["runs/learned", "accelerator=tpu"],
            "trainer.accelerator='tpu' is unknown; did you mean 'gpu'?",
        ),
        (["runs/learned", "level=8"], "unknown setting 'level'; did you mean 'levels'?"),
        (["runs/learned", "--level=8"], "unknown setting 'level'; did you mean 'levels'?"),
        (["levels=8"], "no run is named; give folders of runs: hybrids bits runs/<id>"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(command, arguments, sentence):
    for place in ("runs/begun", "partly/begun", "empty"):
        Path(place).mkdir(parents=True)
    for place in ("runs/begun", "partly/begun"):
        shutil.copy("runs/learned/config.yaml", place)
    code, _, err = command(*arguments)
    assert code == 1 and err.count("\n") == 1
    assert err.startswith(f"error: {sentence}")
    assert not list(Path().glob("*/*/eval"))


def test_a_folder_of_runs_that_cannot_be_loaded_is_one_error(command):
    shutil.rmtree("runs/mixture")
    for name in ("learned", "unlearned"):
        shutil.rmtree(Path("runs", name, "checkpoints"))
    code, _, err = command("runs")
    assert code == 1 and err.count("\n") == 1
    assert "no run of runs could be measured; the last: runs/unlearned: run=runs/unlearned has no checkpoint" in err


def test_folders_without_runs_beside_a_run_are_left_out(command):
    for name in ("report", "sweeps"):
        Path("runs", name).mkdir()
    code, out, err = command("runs/learned", "runs/report", "runs/sweeps", "num_examples=64", "levels=4")
    assert (code, err) == (0, "")
    assert "not measured: runs/report holds no runs" in out
    assert command("runs/report")[0] == 1


def test_a_broken_law_is_an_error(command, monkeypatch):
    """A state that is counted short: one bit for all of it."""
    from hybrids.triangle import quantise

    monkeypatch.setattr(quantise.Quantiser, "count", lambda self, cache: 64)  # rows of a batch
    code, _, err = command("runs/learned", "num_examples=512", "levels=16")
    assert code == 1 and "error: the law r <= s is broken: runs/learned: surely more than" in err


def test_help_says_where_the_steps_come_from(command):
    code, out, _ = command("--help")
    told = " ".join(out.split())
    assert code == 0 and "fixed on validation examples" in told and "levels=16,12,8" in told


def test_a_stack_without_a_state_is_refused(command):
    from hybrids.config.build import open_run

    run, folder = open_run(Path("runs/unlearned"))
    empty = replace(run, pattern=Pattern.parse("F"), letters={"F": Letter(None, run.letters["L"].channel)})
    with pytest.raises(ValueError, match="pattern=F carries no state"):
        measure_rounded(empty, folder, RoundingSettings(levels=[8], num_examples=4, batch_size=4))


def test_a_run_without_checkpoints_is_refused(command):
    from hybrids.config.build import open_run

    run, folder = open_run(Path("runs/learned"))
    for path in folder.checkpoints():
        path.unlink()
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        measure_rounded(run, folder, RoundingSettings(levels=[8], num_examples=4, batch_size=4))
