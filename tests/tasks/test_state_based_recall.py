"""State-based recall: an interpreter and a table, uniform keys and values, chance over reveals, sizes.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import interpret
from scipy import stats

from hybrids.errors import UserError
from hybrids.task import Batch, Split
from hybrids_plugins.tasks.state_based_recall import StateBasedRecall

MIN_P = 1e-4


def draw(count: int = 100, **kwargs) -> tuple[StateBasedRecall, Batch]:
    task = StateBasedRecall(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=Split.TRAIN)


sizes = st.integers(-1, 20)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(1, 6), st.integers(1, 20), st.integers(0, 100), st.integers(0, 2**32))
def test_answers_are_those_of_an_interpreter_and_a_table_or_settings_are_refused(m, n, k, most, revealed, seed):
    kwargs = {"num_pairs": m, "num_instructions": n, "num_variables": k, "max_pairs": most, "reveal_percent": revealed}
    if not 1 <= m <= most or n < 1 or k < 2:
        with pytest.raises(UserError, match=r"=-?\d+ must be"):
            StateBasedRecall(**kwargs)
        return
    task = StateBasedRecall(**kwargs)
    batch = task.sample(torch.arange(8), seed=seed, split=Split.VAL)
    assert torch.equal(task.solve(batch.tokens, batch.positions)[batch.valid], batch.targets[batch.valid])
    for tokens, positions, targets, valid in zip(*(x.tolist() for x in batch[:4]), strict=True):
        words = [task.spell(token) for token in tokens]
        table = dict(zip(words[: 2 * m : 2], words[1 : 2 * m : 2], strict=True))
        *reveals, last = interpret(" ".join(words[2 * m :]), k)
        expected = [*((place + 2 * m, word) for place, word in reveals), (last.place + 2 * m, table[last.word])]
        asked = zip(positions, map(task.spell, targets), valid, strict=True)
        assert [(place, word) for place, word, counts in asked if counts] == expected
        assert len(table) == m and all(word in table for _, word in reveals)


def test_keys_values_and_the_key_that_is_asked_are_uniform():
    task, batch = draw(6000, num_pairs=4, max_pairs=6, num_values=5, num_instructions=6)
    keys, values = batch.tokens[:, :8:2] - task.first_key, batch.tokens[:, 1:8:2] - task.first_value
    for columns, high in ((keys, 6), (values, 5)):
        assert all(stats.chisquare(np.bincount(column, minlength=high)).pvalue > MIN_P for column in columns.T)
    assert stats.chisquare(np.bincount(batch.targets[:, -1])[task.first_value :]).pvalue > MIN_P
    places = []
    for row in batch.tokens[:3000].tolist():
        words = [task.spell(token) for token in row]
        places.append(words[:8:2].index(interpret(" ".join(words[8:]), 5)[-1].word))
    assert stats.chisquare(np.bincount(places, minlength=4)).pvalue > MIN_P


@pytest.mark.parametrize(("revealed", "assigned"), [(80, 10), (0, 10), (100, 100), (30, 0)])
def test_chance_is_what_the_best_constant_of_each_kind_of_answer_gets(revealed, assigned):
    kwargs = {"num_pairs": 3, "max_pairs": 4, "num_values": 3, "num_instructions": 5}
    task, batch = draw(8000, reveal_percent=revealed, assign_percent=assigned, **kwargs)
    reveals, values = batch.targets[:, :-1][batch.valid[:, :-1]], batch.targets[:, -1]
    right = sum(np.bincount(answers).max() if len(answers) else 0 for answers in (reveals, values))
    total = len(reveals) + len(values)
    assert abs(right / total - task.chance_accuracy) < 5 * math.sqrt(0.25 / 8000)
    shown = {0: {0}, 1: {1} if len(reveals) else set(), 2: {2} if revealed else set()}
    assert set(batch.slices["reveals"][batch.valid].tolist()) <= set().union(*shown.values())


def test_bits_are_those_of_the_table_and_errors_may_all_be_in_values():
    task, plain = StateBasedRecall(), StateBasedRecall(reveal_percent=0)
    assert task.bits == plain.bits == 8 * 6
    assert (task.facts, task.facts_end) == (8, 16)
    error = torch.tensor(0.25, dtype=torch.float64)
    fano = 0.25 * math.log2(1 / 0.25) + 0.75 * math.log2(1 / 0.75) + 0.25 * math.log2(63)
    assert plain.recalled_bits(error).item() == pytest.approx(8 * (6 - fano))
    assert task.recalled_bits(error / 9).item() == pytest.approx(8 * (6 - fano))


def test_sizes_and_contexts_keep_the_vocabulary():
    task = StateBasedRecall()
    assert task.sizes == {"num_pairs": (4, 8, 16, 32, 64), "num_instructions": (4, 8, 16, 32, 64)}
    larger = task.resize(num_pairs=64, num_instructions=64)
    assert (larger.length, larger.vocab_size) == (2 * 64 + 4 * 69 + 2, task.vocab_size)
    scaled = task.at_context(2 * task.length)
    assert (scaled.num_pairs, scaled.num_instructions) == (19, 19)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match=re.escape("num_pairs=300 must be from 1 to 256 (max_pairs=256)")):
        StateBasedRecall(num_pairs=300)
