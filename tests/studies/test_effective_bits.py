"""Effective bits: of memories whose bits are known by construction, and the file that keeps them."""

import json
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hybrids.mixer import Mixer
from hybrids.model.block import Choice, Letter
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.report.terminal import effective_bits as bits
from hybrids.studies.effective_bits.record import FILE, read_rounded, write_rounded
from hybrids.studies.effective_bits.rounded import Rounded
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
    assert found.alarms == [] and not found.is_at_most


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
    (told,) = leaky.alarms
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


def test_a_file_without_a_method_is_of_the_first_rounding(tmp_path):
    (tmp_path / "eval").mkdir()
    write_rounded(rounded(), tmp_path / FILE)
    lines = [line.rpartition(",")[0] for line in (tmp_path / FILE).read_text().splitlines()]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    found = read_rounded(tmp_path)
    assert found == replace(rounded(), method=1) and found.is_outdated


def test_a_file_that_was_measured_on_another_run_is_refused(tmp_path):
    for seed in (0, 1):
        (tmp_path / str(seed) / "eval").mkdir(parents=True)
        (tmp_path / str(seed) / "result.json").write_text(json.dumps({"version": 1, "identity": {"seed": seed}}))
        write_rounded(rounded(), tmp_path / str(seed) / FILE)
        assert read_rounded(tmp_path / str(seed)) == rounded()
    (tmp_path / "1" / FILE).replace(tmp_path / "0" / FILE)
    with pytest.raises(ValueError, match=r"eval/effective_bits.csv is damaged: it was measured on another run"):
        read_rounded(tmp_path / "0")


def test_a_file_cut_anywhere_is_damaged(tmp_path):
    (tmp_path / "eval").mkdir()
    write_rounded(rounded(), tmp_path / FILE)
    text = (tmp_path / FILE).read_text()
    for end in range(len(text)):
        (tmp_path / FILE).write_text(text[:end])
        with pytest.raises(ValueError, match=r"eval/effective_bits.csv is damaged: .*; hybrids bits measures it again"):
            read_rounded(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [("3200", "many"), ("3200", "nan"), ("3200", "-1"), ("surely", "maybe"), ("\n", ",1\n")]
)
def test_a_file_with_other_things_in_it_is_damaged(tmp_path, old, new):
    (tmp_path / "eval").mkdir()
    write_rounded(rounded(), tmp_path / FILE)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace(old, new))
    with pytest.raises(ValueError, match="is damaged"):
        read_rounded(tmp_path)
