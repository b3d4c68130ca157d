"""The flip-flop language: an automaton over the spelled text, the law of instructions and bits, what is refused.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.errors import UserError
from hybrids.task import Batch, Split
from hybrids_plugins.tasks.flip_flop import FlipFlop

MIN_P = 1e-4


def draw(count: int = 100, **kwargs) -> tuple[FlipFlop, Batch]:
    task = FlipFlop(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=Split.TRAIN)


@settings(max_examples=80, deadline=None)
@given(st.integers(-2, 90), st.integers(-1, 101), st.integers(0, 2**32))
def test_texts_are_of_the_language_and_every_read_is_asked_or_settings_are_refused(length, ignored, seed):
    if length < 4 or length % 2 or not 0 <= ignored <= 100:
        with pytest.raises(UserError, match=r"=-?\d+ must be"):
            FlipFlop(length=length, ignore_percent=ignored)
        return
    task = FlipFlop(length=length, ignore_percent=ignored)
    batch = task.sample(torch.arange(8), seed=seed, split=Split.VAL)
    assert torch.equal(task.solve(batch.tokens, batch.positions)[batch.valid], batch.targets[batch.valid])
    rows = zip(batch.tokens, batch.positions, batch.targets, batch.valid, batch.slices["distance"], strict=True)
    for tokens, positions, targets, valid, distances in rows:
        text = "".join(map(task.spell, tokens.tolist()))
        expected = []
        for read in re.finditer("r", text):
            write = text.rindex("w", 0, read.start())
            bit, distance = text[write + 1], (read.start() - write) // 2
            assert text[read.start() + 1] == bit
            expected.append((read.start(), bit, 2 ** math.ceil(math.log2(distance))))
        spelled = [task.spell(token) for token in targets[valid].tolist()]
        assert list(zip(positions[valid].tolist(), spelled, distances[valid].tolist(), strict=True)) == expected
        assert re.fullmatch(r"w[01]([wri][01])*r[01]", text)


@pytest.mark.parametrize("ignored", [10, 80, 98])
def test_instructions_and_bits_have_the_published_law(ignored):
    task, batch = draw(2000, length=40, ignore_percent=ignored)
    text = [" ".join(map(task.spell, row)) for row in batch.tokens.tolist()]
    kinds = Counter(" ".join(row.split()[2:-2:2]) for row in text)
    found = Counter("".join(key.replace(" ", "") * count for key, count in kinds.items()))
    rest = (1 - ignored / 100) / 2
    shares = np.array([ignored / 100, rest, rest])
    assert stats.chisquare([found[kind] for kind in "iwr"], found.total() * shares).pvalue > MIN_P
    for kind in "wi":
        bits = Counter(bit for row in text for bit in re.findall(f"{kind} ([01])", row))
        assert stats.chisquare(list(bits.values())).pvalue > MIN_P
    last = Counter(batch.targets[:, -1].tolist())
    assert len(last) == 2 and stats.chisquare(list(last.values())).pvalue > MIN_P


def test_one_bit_is_kept_and_half_of_the_answers_are_guessed():
    task = FlipFlop()
    assert (task.bits, task.facts, task.chance_accuracy, task.facts_end) == (1, 1, 1 / 2, None)
    recalled = task.recalled_bits(torch.tensor([0.0, 0.11, 0.5], dtype=torch.float64))
    assert recalled.tolist() == pytest.approx([1, 1 + 0.11 * math.log2(0.11) + 0.89 * math.log2(0.89), 0])


def test_sizes_are_the_published_tests():
    task = FlipFlop(length=512)
    assert task.sizes["ignore_percent"] == (10, 80, 98)
    sparse = task.resize(ignore_percent=98)
    assert (sparse.length, sparse.vocab_size, sparse.slice_values["ignore_percent"]) == (512, 5, (98,))
    assert FlipFlop().sizes["length"] == (64, 128, 256, 408)
    assert task.at_context(1025).length == 1024
