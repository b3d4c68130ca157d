"""PerCom: the oracle, the definition restated, uniformity, sizes, bits.

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
from hybrids_plugins.tasks.permutation_composition import PermutationComposition

MIN_P = 1e-4


def draw(count: int = 64, **kwargs) -> Batch:
    return PermutationComposition(**kwargs).sample(torch.arange(count), seed=0, split=Split.TRAIN)


def matrix(permutation: list[int]) -> np.ndarray:
    """Its permutation matrix, so that composition is a product."""
    return np.eye(len(permutation), dtype=int)[permutation]


def assert_sound(task: PermutationComposition, batch: Batch) -> None:
    """The published definition, read off the tokens."""
    n, largest = task.num_entries, task.max_entries
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        sigma, tau = tokens[:n], [token - largest for token in tokens[n : 2 * n]]
        assert sorted(sigma) == sorted(tau) == list(range(n))
        assert np.array_equal(matrix(targets), matrix(tau) @ matrix(sigma))
        assert tokens[2 * n :] == ([2 * largest] * n if task.answers == "end" else [])
        assert positions == list(range(n, 2 * n) if task.answers == "online" else range(2 * n, 3 * n))


@settings(max_examples=60, deadline=None)
@given(st.integers(-1, 40), st.integers(-1, 40), st.sampled_from(["end", "online"]), st.integers(0, 2**32))
def test_every_size_gives_sound_examples_or_is_refused(n, largest, answers, seed):
    kwargs = {"num_entries": n, "max_entries": largest, "answers": answers}
    if 2 <= n <= largest:
        task = PermutationComposition(**kwargs)
        assert_sound(task, task.sample(torch.arange(6), seed=seed, split=Split.VAL))
    else:
        with pytest.raises(ValueError, match=r"(num|max)_entries=-?\d+ must be from 2 to \d+"):
            PermutationComposition(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_entries": 129}, r"num_entries=129 must be from 2 to 128 \(max_entries=128\)"),
        ({"max_entries": 1}, "max_entries=1 must be from 2 to 16777216"),
        ({"answers": "first"}, "answers=.first. is unknown; allowed: end, online"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PermutationComposition(**kwargs)


def test_all_pairs_of_permutations_are_equally_likely():
    counts = np.unique(draw(7200, num_entries=3).tokens.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == math.factorial(3) ** 2
    assert stats.chisquare(counts).pvalue > MIN_P


def test_answers_are_uniform_at_every_place():
    targets = draw(5000, num_entries=12).targets.numpy()
    assert all(stats.chisquare(np.bincount(targets[:, i], minlength=12)).pvalue > MIN_P for i in range(12))


def test_splits_do_not_overlap():
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(PermutationComposition(), 0, split, num_train=50_000, num_eval=50_000) == 0


def test_bits_are_the_entropy_of_the_answers_to_every_tau():
    """Online: sigma by its answers to all tau. At the end: the composition, over all sigma and tau."""
    task = PermutationComposition(num_entries=3, max_entries=3, answers="online")
    orders = list(itertools.permutations(range(3)))
    prompts = torch.tensor([[*sigma, *(t + 3 for t in tau)] for sigma in orders for tau in orders])
    answers = task.solve(prompts, torch.arange(3, 6).expand(36, 3))
    assert task.bits == pytest.approx(math.log2(len(answers.view(6, 18).unique(dim=0))))
    assert (task.facts_end, task.replace(answers="end").facts_end) == (3, 6)
    counts = answers.unique(dim=0, return_counts=True)[1] / 36
    assert task.replace(answers="end").bits == pytest.approx(-float(counts @ counts.log2()))


@pytest.mark.parametrize(("n", "bits"), [(64, 296), (256, 1684), (1024, 8769)])
def test_bits_are_the_threshold_of_the_theorem(n, bits):
    assert PermutationComposition(num_entries=n, max_entries=1024).bits == pytest.approx(bits, abs=0.5)


def test_recalled_bits_of_a_store_that_forgets_are_not_more_than_it_keeps():
    """12 of 16 values in order are 16!/4! possibilities; the other four answers are guessed among the rest."""
    task = PermutationComposition()
    error = 4 / 16 * (1 - 1 / 4)
    recalled = task.recalled_bits(torch.tensor([0.0, error, 15 / 16], dtype=torch.float64))
    assert recalled[0].item() == pytest.approx(math.log2(math.factorial(16)))
    assert 0 < recalled[1].item() < math.log2(math.perm(16, 12))
    assert recalled[2] == 0


def test_chance_is_what_the_commonest_answer_gets():
    targets = draw(20_000, num_entries=5).targets
    best = np.bincount(targets[:, 0]).max() / 20_000
    assert abs(best - PermutationComposition(num_entries=5).chance_accuracy) < 4 * math.sqrt(0.2 * 0.8 / 20_000)


def test_sizes_and_contexts_stay_in_the_vocabulary():
    task = PermutationComposition(num_entries=32)
    assert task.sizes == {"num_entries": (16, 32, 64, 128)}
    assert (task.at_context(200).length, task.replace(answers="online").at_context(200).length) == (198, 200)
    assert (task.facts, task.replace(answers="online").facts) == (64, 32)
    with pytest.raises(ValueError, match="num_entries=133 must be from 2 to 128"):
        task.at_context(400)
