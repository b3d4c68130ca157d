"""Effective bits: of memories whose bits are known by construction, and by command on runs."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import matplotlib.image
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor

from hybrids import cli, training
from hybrids.block import Choice, Letter
from hybrids.effective import FILE, Rounded, measure_rounded, read_rounded, write_rounded
from hybrids.mixer import Mixer
from hybrids.model import Model
from hybrids.pattern import Pattern
from hybrids.report import bits
from hybrids.triangle.intervals import Estimate
from hybrids.triangle.recall import EffectiveBits, Recall, effective_bits, measure_recall
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

NUM_KEYS, NUM_VALUES = 15, 16


class Shelf(NamedTuple):
    kept: Tensor
    shown: Tensor


class Memory(Mixer[Shelf]):
    """Puts the value of every key on its own shelf, and answers a key with it; inputs are one-hot.

    `coding`: "signs" keeps 4 elements of +-1 for a value out of 16, "levels" one element out of 16 evenly spaced ones,
    "counted" the latter and a count of what it was shown, an integer.
    """

    def __init__(self, d_model: int, *, coding: str = "signs") -> None:
        super().__init__(d_model)
        self.coding = coding

    def forward(self, x, state=None):
        tokens = x.argmax(-1)
        if state is None:
            keys, values = tokens[:, 0::2], tokens[:, 1::2] - NUM_KEYS - 1
            shelves = values.gather(1, keys.argsort(1))  # every key is shown once
            shown = torch.full((len(x), 1 if self.coding == "counted" else 0), tokens.shape[1])
            return torch.zeros_like(x), Shelf(self.write(shelves), shown)
        values = self.read(state.kept)
        answers = values.gather(1, (tokens - 1).clamp(0, NUM_KEYS - 1)) + NUM_KEYS + 1
        return 100 * torch.nn.functional.one_hot(answers, self.d_model).to(x), state

    def write(self, values: Tensor) -> Tensor:
        if self.coding != "signs":
            return values - (NUM_VALUES - 1) / 2
        return (values[:, :, None] >> torch.arange(4) & 1).float().flatten(1) * 2 - 1

    def read(self, kept: Tensor) -> Tensor:
        if self.coding != "signs":
            return (kept + (NUM_VALUES - 1) / 2).round().long().clamp(0, NUM_VALUES - 1)
        return ((kept.unflatten(1, (NUM_KEYS, 4)) > 0) << torch.arange(4)).sum(-1)

    def init_state(self, batch_size):
        raise NotImplementedError

    def state_elements(self, context):
        return NUM_KEYS * (4 if self.coding == "signs" else 1) + (self.coding == "counted")

    def step_flops(self, context):
        return 0


def remember(coding, levels):
    """Recall of a memory that holds 15 values out of 16, as stored and as rounded."""
    task = MultiQueryAssociativeRecall(vocab_size=32, length=64, num_pairs=NUM_KEYS, distinct_values=False)
    model = Model(32, 32, Pattern.parse("M"), {"M": Letter(Choice(Memory, {"coding": coding}), None)})
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(32))
    settings = {"seed": 3, "num_examples": 64, "batch_size": 32}
    curve = effective_bits(model, task, levels=levels, **settings)
    return Rounded(measure_recall(model, task, **settings), tuple(curve), task.length, 64)


def test_signs_need_one_bit_each():
    found = remember("signs", (16, 4, 1))
    assert found.stored.recalled.bits == pytest.approx(15 * 4)
    assert (found.stored.state_bits, found.bits_stored) == (60 * 32, 32)
    assert found.smallest is not None and (found.smallest.bits, found.smallest.total) == (1, 60)
    assert found.utilisation == pytest.approx(1)  # the state holds what it must and nothing else: r = s
    assert found.breaks_law == [] and not found.is_at_most


def test_sixteen_levels_need_four_bits():
    found = remember("levels", (8, 4, 3, 1))
    assert [entry.total for entry in found.curve] == [120, 60, 45, 15]
    assert found.smallest is not None and found.smallest.bits == 4
    assert found.utilisation == pytest.approx(1)
    shares = [found.share_kept(entry.recalled) for entry in found.curve]
    assert shares[:2] == pytest.approx([1, 1]) and shares[2] < 0.8


def test_an_integer_is_not_rounded_and_counts_as_stored():
    found = remember("counted", (4,))
    assert found.stored.state_bits == 15 * 32 + 64
    assert [entry.total for entry in found.curve] == [15 * 4 + 64]
    assert found.is_at_most and "at most: these are the fewest bits tried" in bits.sentence(found)


def test_more_recalled_than_a_rounded_state_holds_is_told():
    found = remember("levels", (4,))
    leaky = Rounded(found.stored, (found.curve[0]._replace(total=9),), found.context, found.num_examples)
    (told,) = leaky.breaks_law
    assert told.endswith("bits recalled through 9 bits (4 per element)")


def estimated(recalled, surely=1.0):
    return Estimate(recalled, recalled - 1, recalled + 1, 0.25, surely)


def rounded(recalled=50.0, kept=(50.0, 49.6, 30.0), surely=40.0):
    """Measured numbers: 100 elements of 32 bits, rounded to 8, 4 and 2 bits."""
    stored = Recall(estimated(recalled, surely), 60.0, 3200, 100)
    curve = [EffectiveBits(b, 100 * b, estimated(r)) for b, r in zip((8, 4, 2), kept, strict=True)]
    return Rounded(stored, tuple(curve), 64, 512)


def test_nothing_recalled_has_no_effective_bits():
    found = rounded(recalled=0.2, kept=(0.2, 0.2, 0.2), surely=0.0)
    assert (found.smallest, found.utilisation, found.share_kept(found.stored.recalled)) == (None, None, None)
    assert bits.sentence(found).startswith("effective bits: none; nothing was recalled for sure")
    assert bits.summary_row("x", found)[4:6] == ["none", "none"]


def test_the_smallest_that_keeps_99_percent_is_said_beside_the_stored_state():
    found = rounded()
    assert "400 (4 per element, 0.125 of those stored), utilisation 0.124 of them, 0.0156" in bits.sentence(found)
    assert [row[0] for row in bits.table_rows(found)] == [
        "stored",
        "rounded",
        "rounded, smallest that keeps 99%",
        "rounded",
    ]
    none = rounded(kept=(40.0, 40.0, 30.0))
    assert "no rounded state keeps 99%; try more than 8 bits per element" in bits.sentence(none)


def test_the_file_gives_back_what_was_written(tmp_path):
    (tmp_path / "eval").mkdir()
    assert read_rounded(tmp_path) is None
    for found in (rounded(), rounded(surely=0.0), remember("levels", (4, 3))):
        write_rounded(found, tmp_path / FILE)
        assert read_rounded(tmp_path) == found


def test_a_file_cut_anywhere_is_damaged(tmp_path):
    (tmp_path / "eval").mkdir()
    write_rounded(rounded(), tmp_path / FILE)
    text = (tmp_path / FILE).read_text()
    for end in range(len(text)):
        (tmp_path / FILE).write_text(text[:end])
        with pytest.raises(ValueError, match=r"eval/effective_bits.csv is damaged: .*; hybrids bits measures it again"):
            read_rounded(tmp_path)


@pytest.mark.parametrize(("old", "new"), [("3200", "many"), ("3200", "nan"), ("3200", "-1"), ("surely", "maybe")])
def test_a_file_with_other_things_in_it_is_damaged(tmp_path, old, new):
    (tmp_path / "eval").mkdir()
    write_rounded(rounded(), tmp_path / FILE)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace(old, new))
    with pytest.raises(ValueError, match="is damaged"):
        read_rounded(tmp_path)


# The command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of a run that has learned its task, of one that has not, and of one whose task has no bits."""
    folder = tmp_path_factory.mktemp("trained")
    task = ("task.vocab_size=12", "task.length=16", "task.num_pairs=2", "task.distinct_values=false")
    sizes = ("data.num_val_examples=64", "data.num_test_examples=64", "data.num_recall_examples=128")
    base = ("pattern=L", "model.d_model=16", "optim.lr=0.02", *task, *sizes, "logger=csv", "trainer.target=null")
    mixture = ("task.segments=[[16,1,1],[16,2,1]]", "trainer.max_steps=2")
    for changes in (("trainer.max_steps=150",), ("trainer.max_steps=2",), mixture):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(training, "describe_code", lambda: {"commit": "the same"})
            patch.setattr(sys, "argv", ["hybrids", "train", *base, *changes, "trainer.progress_bar=false"])
            GlobalHydra.instance().clear()
            assert cli.main() == 0
    order = sorted((folder / "runs").glob("mqar-*"), key=lambda path: (path / "result.json").stat().st_mtime_ns)
    for path, name in zip(order, ("learned", "unlearned", "mixture"), strict=True):
        path.rename(folder / "runs" / name)
    return folder / "runs"


@pytest.fixture
def command(trained, tmp_path, monkeypatch, capfd):
    """Run `hybrids bits` beside a copy of the runs: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "runs")

    def run(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["hybrids", "bits", *arguments])
        capfd.readouterr()
        code = cli.main()
        return code, *capfd.readouterr()

    return run


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
        (["runs/learned", "levels=few"], "levels=few is not whole numbers, as in 3,2,1"),
        (["runs/learned", "levels="], "levels= is not whole numbers"),
        (["runs/learned", "num_examples=1"], "num_examples=1 must be at least 2"),
        (["runs/learned", "batch_size=0"], "batch_size=0 must be at least 1"),
        (["runs/learned", "batch_size=x"], "batch_size=x is not a whole number"),
        (["runs/learned", "threads=0"], "threads=0; allowed: 1 or more"),
        (["runs/learned", "accelerator=tpu"], "trainer.accelerator='tpu' is unknown; allowed: cpu, gpu"),
        (["runs/learned", "level=8"], "unknown option 'level=8'; did you mean 'levels'?"),
        (["runs/learned", "--levels=8"], "unknown option '--levels=8'"),
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


def test_a_broken_law_is_an_error(command, monkeypatch):
    """A state that is counted short: one bit for all of it."""
    from hybrids.triangle import quantise

    monkeypatch.setattr(quantise.Quantiser, "count", lambda self, cache: 64)  # rows of a batch
    code, _, err = command("runs/learned", "num_examples=512", "levels=16")
    assert code == 1 and "error: the law r <= s is broken: runs/learned: surely more than" in err


def test_help_says_where_the_steps_come_from(command):
    code, out, _ = command("--help")
    assert code == 0 and "fixed on validation examples" in out and "levels=16,12,8" in out


def test_a_stack_without_a_state_is_refused(command):
    from hybrids.config import open_run

    run, folder = open_run(Path("runs/unlearned"))
    empty = replace(run, pattern=Pattern.parse("F"), letters={"F": Letter(None, run.letters["L"].channel)})
    with pytest.raises(ValueError, match="pattern=F carries no state"):
        measure_rounded(empty, folder, levels=(8,), num_examples=4, batch_size=4)


def test_a_run_without_checkpoints_is_refused(command):
    from hybrids.config import open_run

    run, folder = open_run(Path("runs/learned"))
    for path in folder.checkpoints():
        path.unlink()
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        measure_rounded(run, folder, levels=(8,), num_examples=4, batch_size=4)
