"""Eva: the oracle, the definition restated, uniformity, sizes, bits.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.task import Batch, Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.function_evaluation import FunctionEvaluation

MIN_P = 1e-4


def draw(count: int = 64, split: Split = Split.TRAIN, **kwargs) -> Batch:
    return FunctionEvaluation(**kwargs).sample(torch.arange(count), seed=0, split=split)


def assert_sound(task: FunctionEvaluation, batch: Batch) -> None:
    """The published definition, read off the tokens."""
    n = task.num_entries
    for tokens, positions, targets, quarter in zip(
        *(x.tolist() for x in (*batch[:3], batch.slices["quarter"])), strict=True
    ):
        *table, point = tokens if task.query_order == "suffix" else [*tokens[1:], tokens[0]]
        point -= task.max_entries
        assert len(table) == n and all(0 <= value < n for value in table) and 0 <= point < n
        assert (targets, positions) == ([table[point]], [n])
        assert (quarter - 1) * n <= 4 * point < quarter * n


@settings(max_examples=60, deadline=None)
@given(st.integers(-1, 40), st.integers(-1, 40), st.sampled_from(["suffix", "prefix"]), st.integers(0, 2**32))
def test_every_size_gives_sound_examples_or_is_refused(n, largest, order, seed):
    kwargs = {"num_entries": n, "max_entries": largest, "query_order": order}
    if 2 <= n <= largest:
        task = FunctionEvaluation(**kwargs)
        assert_sound(task, task.sample(torch.arange(6), seed=seed, split=Split.VAL))
    else:
        with pytest.raises(ValueError, match=r"(num|max)_entries=-?\d+ must be from 2 to \d+"):
            FunctionEvaluation(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_entries": 257}, r"num_entries=257 must be from 2 to 256 \(max_entries=256\)"),
        ({"max_entries": 1}, "max_entries=1 must be from 2 to 16777216"),
        ({"query_order": "first"}, "query_order=.first. is unknown; allowed: suffix, prefix"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FunctionEvaluation(**kwargs)


@pytest.mark.parametrize("order", ["suffix", "prefix"])
def test_all_functions_and_points_are_equally_likely(order):
    tokens = draw(8100, num_entries=3, max_entries=3, query_order=order).tokens
    counts = np.unique(tokens.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 3**3 * 3
    assert stats.chisquare(counts).pvalue > MIN_P


def test_answers_are_uniform_and_every_place_is_asked():
    batch = draw(10_000, num_entries=20)
    assert stats.chisquare(np.bincount(batch.targets[:, 0], minlength=20)).pvalue > MIN_P
    assert stats.chisquare(np.bincount(batch.tokens[:, -1] - 256, minlength=20)).pvalue > MIN_P
    assert stats.chisquare(np.bincount(batch.slices["quarter"] - 1)).pvalue > MIN_P


def test_splits_do_not_overlap():
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(FunctionEvaluation(), 0, split, num_train=50_000, num_eval=50_000) == 0


def test_bits_are_the_entropy_of_all_answers():
    """Every table of three entries, by its answers to every point."""
    task = FunctionEvaluation(num_entries=3, max_entries=3)
    prompts = [[*table, 3 + x] for table in itertools.product(range(3), repeat=3) for x in range(3)]
    answers = task.solve(torch.tensor(prompts), torch.full((81, 1), 3)).view(27, 3)
    assert task.bits == pytest.approx(math.log2(len(answers.unique(dim=0))))
    assert (task.facts_end, task.replace(query_order="prefix").facts_end) == (3, None)
    assert task.replace(query_order="prefix").bits is None
    assert task.replace(query_order="prefix").recalled_bits(torch.tensor(0.1)) is None


@pytest.mark.parametrize(("n", "bits"), [(64, 384), (256, 2048), (1024, 10_240)])
def test_bits_are_the_threshold_of_the_theorem(n, bits):
    assert FunctionEvaluation(num_entries=n, max_entries=1024).bits == bits


@pytest.mark.parametrize("error", [0.0, 0.05, 0.4])
def test_recalled_bits_are_the_information_through_a_symmetric_channel(error):
    task = FunctionEvaluation(num_entries=4)
    channel = np.full((4, 4), error / 3)
    np.fill_diagonal(channel, 1 - error)
    information = 2 + channel[0][channel[0] > 0] @ np.log2(channel[0][channel[0] > 0])
    recalled = task.recalled_bits(torch.tensor([error, 0.75, 1.0], dtype=torch.float64))
    assert recalled.tolist() == pytest.approx([4 * information, 0, 0], abs=1e-12)


def test_chance_is_what_the_commonest_answer_gets():
    batch = draw(20_000, num_entries=5)
    best = np.bincount(batch.targets[:, 0]).max() / 20_000
    assert abs(best - FunctionEvaluation(num_entries=5).chance_accuracy) < 4 * math.sqrt(0.2 * 0.8 / 20_000)


def test_sizes_and_contexts_stay_in_the_vocabulary():
    task = FunctionEvaluation(num_entries=64, max_entries=256)
    assert task.sizes == {"num_entries": (32, 64, 128, 256)}
    assert task.at_context(200).length == 200
    with pytest.raises(ValueError, match="num_entries=299 must be from 2 to 256"):
        task.at_context(300)
