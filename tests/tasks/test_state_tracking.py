"""State tracking: a naive interpreter of what is spelled, the law of programs, bits by enumeration, reveals.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Answer, interpret
from scipy import stats

from hybrids.errors import UserError
from hybrids.task import Batch, Split
from hybrids_plugins.tasks.state_tracking import StateTracking

MIN_P = 1e-4


def draw(count: int = 100, **kwargs) -> tuple[StateTracking, Batch]:
    task = StateTracking(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=Split.TRAIN)


def text(task: StateTracking, row: list[int]) -> str:
    return " ".join(map(task.spell, row))


sizes = st.integers(-1, 12)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.integers(-1, 101), st.integers(-1, 101), st.integers(0, 2**32))
def test_answers_are_those_of_an_interpreter_or_settings_are_refused(n, k, values, assigned, revealed, seed):
    kwargs = {"num_instructions": n, "num_variables": k, "num_values": values}
    kwargs |= {"assign_percent": assigned, "reveal_percent": revealed}
    if n < 1 or k < 2 or values < 2 or not 0 <= assigned <= 100 or not 0 <= revealed <= 100:
        with pytest.raises(UserError, match=r"=-?\d+ must be"):
            StateTracking(**kwargs)
        return
    task = StateTracking(**kwargs)
    batch = task.sample(torch.arange(8), seed=seed, split=Split.VAL)
    assert torch.equal(task.solve(batch.tokens, batch.positions)[batch.valid], batch.targets[batch.valid])
    for tokens, positions, targets, valid in zip(*(x.tolist() for x in batch[:4]), strict=True):
        asked = [pair for pair, counts in zip(zip(positions, targets, strict=True), valid, strict=True) if counts]
        found = interpret(text(task, tokens), k)
        assert [Answer(place, task.spell(token)) for place, token in asked] == found
        assert len(tokens) == 4 * (k + n) + 2


def test_the_oracle_reads_a_program_written_by_hand():
    task = StateTracking(num_variables=2, num_instructions=3)
    program = "[SET] x0 v4 . [SET] x1 v2 . [SWAP] x1 x0 v4 [SET] x0 v1 . [SWAP] x0 x1 v4 [GET] x1"
    tokens = {task.spell(token): token for token in range(task.vocab_size)}
    answers = task.solve(torch.tensor([[tokens[word] for word in program.split()]]), torch.tensor([[10, 18, 21]]))
    assert [task.spell(token) for token in answers[0].tolist()] == ["v4", "v4", "v1"]


def test_instructions_have_the_stated_law():
    task, batch = draw(3000, num_instructions=4, assign_percent=30)
    found = Counter()
    for row in batch.tokens.tolist():
        found.update(re.findall(r"\[(?:SET|SWAP)\] \S+ \S+", text(task, row[20:])))
    variables, values = [f"x{i}" for i in range(5)], [f"v{i}" for i in range(5)]
    sets = [f"[SET] {x} {v}" for x, v in itertools.product(variables, values)]
    swaps = [f"[SWAP] {x} {y}" for x, y in itertools.permutations(variables, 2)]
    assert set(found) == {*sets, *swaps}
    assert stats.binomtest(sum(found[word] for word in sets), found.total(), 0.3).pvalue > MIN_P
    for kind in (sets, swaps):
        assert stats.chisquare([found[word] for word in kind]).pvalue > MIN_P


def test_reveals_are_in_the_stated_share_of_examples_and_of_every_swap_there():
    task, batch = draw(3000, reveal_percent=80, assign_percent=0)
    num_asked = batch.valid.sum(dim=1)
    assert set(num_asked.tolist()) == {1, 9}
    assert stats.binomtest(int((num_asked == 9).sum()), 3000, 0.8).pvalue > MIN_P
    shown = batch.tokens.gather(1, batch.positions[:, :-1] + 1)
    assert torch.equal(shown == batch.targets[:, :-1], num_asked[:, None].expand_as(shown) == 9)
    assert (task.facts_end, StateTracking().facts_end) == (None, 52)


@pytest.mark.parametrize("assigned", [0, 50])
def test_answers_are_uniform_and_so_is_what_all_variables_hold(assigned):
    """The state before [GET], by the interpreter: k values that are independent, hence k log2(num_values) bits."""
    task, batch = draw(4000, num_variables=2, num_values=3, assign_percent=assigned)
    assert stats.chisquare(np.bincount(batch.targets[:, -1])[-3:]).pvalue > MIN_P
    states = Counter()
    for row in batch.tokens.tolist():
        program = text(task, row).rpartition("[GET]")[0]
        states[tuple(interpret(f"{program}[GET] x{i}", 2)[-1].word for i in range(2))] += 1
    assert len(states) == 9 and stats.chisquare(list(states.values())).pvalue > MIN_P
    assert task.bits == pytest.approx(2 * math.log2(3))
    assert task.chance_accuracy == pytest.approx(1 / 3)


def test_slices_count_executed_instructions():
    _, batch = draw(2, num_instructions=6)
    assert batch.slices["executed"].tolist() == [[1, 2, 4, 4, 8, 8, 8]] * 2


def test_sizes_are_the_published_ones_and_keep_the_vocabulary():
    task = StateTracking(num_instructions=16)
    assert task.sizes == {"num_instructions": (8, 16, 32, 64, 128)}
    assert task.resize(num_instructions=128).vocab_size == task.vocab_size
    assert task.at_context(2 * task.length).num_instructions == 37
