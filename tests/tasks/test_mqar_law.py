"""Multi-query associative recall: what is drawn has the law of the published algorithm.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import math
from functools import partial

import numpy as np
import pytest
from drawing import draw_examples
from published_mqar import published_batch
from scipy import stats

from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

MIN_P = 1e-4
draw = partial(draw_examples, MultiQueryAssociativeRecall)


def same_law(ours: np.ndarray, theirs: np.ndarray) -> float:
    """p of a two-sample chi-square test on small integers."""
    counts = np.stack([np.bincount(x.ravel(), minlength=1 + max(ours.max(), theirs.max())) for x in (ours, theirs)])
    return stats.chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue


def test_queries_are_placed_as_the_published_algorithm_places_them():
    theirs, ours = published_batch(3000, 1024, 64, 4, 0.01)[1], draw(4000, num_pairs=4).positions.numpy()
    assert all(same_law(ours[:, j], theirs[:, j]) > MIN_P for j in range(4))
    assert same_law(ours.argsort(1) @ [64, 16, 4, 1], theirs.argsort(1) @ [64, 16, 4, 1]) > MIN_P


@pytest.mark.parametrize("power", [0.01, 0.5, 1.0])
def test_the_first_pair_is_asked_with_the_published_weights(power):
    slots = (draw(5000, power=power).positions[:, 0].numpy() - 16) // 2
    weights = power * np.arange(1, 25) ** (power - 1)
    assert stats.chisquare(np.bincount(slots, minlength=24), 5000 * weights / weights.sum()).pvalue > MIN_P


def test_tokens_are_distributed_as_in_the_published_algorithm():
    tokens = draw(4000, num_pairs=4, vocab_size=40).tokens.numpy()
    theirs = published_batch(3000, 40, 64, 4, 0.01)[0]
    assert all(same_law(tokens[:, p], theirs[:, p]) > MIN_P for p in (0, 1, 6, 7, 8, 9, 10, 63))


@pytest.mark.parametrize("distinct", [True, False])
def test_keys_and_values_are_uniform_and_unrelated(distinct):
    batch = draw(6000, num_pairs=3, vocab_size=32, distinct_values=distinct)
    keys, values = batch.tokens[:, 0:6:2].numpy() - 1, batch.targets.numpy() - 16
    for pair in range(3):
        assert stats.chisquare(np.bincount(keys[:, pair], minlength=15)).pvalue > MIN_P
        assert stats.chisquare(np.bincount(values[:, pair], minlength=16)).pvalue > MIN_P
    joint = np.bincount(keys[:, 0] * 16 + values[:, 0], minlength=240)
    assert stats.chisquare(joint).pvalue > MIN_P
    repeated = (values[:, 0] == values[:, 1]).mean()
    assert repeated == 0 if distinct else abs(repeated - 1 / 16) < 4 * math.sqrt(1 / 16 / 6000)


def test_fillers_are_uniform_over_the_vocabulary_or_zero():
    tokens = draw(2000, num_pairs=4, vocab_size=50).tokens[:, 9::2]  # odd places hold no query
    assert stats.chisquare(np.bincount(tokens.flatten().numpy(), minlength=50)).pvalue > MIN_P
    assert draw(100, num_pairs=4, random_fillers=False).tokens[:, 9::2].count_nonzero() == 0


def test_as_many_fillers_look_like_a_key_as_expected():
    batch = draw(500, length=256, num_pairs=64)
    keys, rest = batch.tokens[:, 0:128:2], batch.tokens[:, 128:]
    lookalikes = (rest[:, :, None] == keys[:, None, :]).sum() / 500 - 64
    expected = (256 - 3 * 64) * 64 / 8192
    assert abs(lookalikes - expected) < 4 * math.sqrt(expected / 500)


def test_a_segment_of_a_mixture_has_the_law_of_its_own_size():
    batch = draw(4000, length=80, num_pairs=16, segments=[[40, 4, 1], [80, 16, 1]])
    ours = batch.positions[batch.slices["length"] == 40][:, :4].numpy()
    theirs = published_batch(2000, 1024, 40, 4, 0.01)[1]
    assert all(same_law(ours[:, j], theirs[:, j]) > MIN_P for j in range(4))
