"""Multi-query associative recall: the oracle, sizes that fit, mixtures, bits."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from drawing import draw_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from published_mqar import FIGURE_2, published_batch
from scipy import stats

from hybrids.rng import MAX_HIGH
from hybrids.task import Batch, Split
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

MIN_P = 1e-4
draw = partial(draw_examples, MultiQueryAssociativeRecall)


def answer(tokens: list[int], position: int, num_pairs: int) -> int:
    """What a reader of the format answers, with a dictionary of the context."""
    return dict(zip(tokens[: 2 * num_pairs : 2], tokens[1 : 2 * num_pairs : 2], strict=True))[tokens[position]]


def assert_examples_are_sound(task: MultiQueryAssociativeRecall, batch: Batch) -> None:
    first_value = task.vocab_size // 2
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < task.vocab_size
    for tokens, positions, targets, valid, n, length in zip(
        *(x.tolist() for x in (*batch[:4], batch.slices["num_pairs"], batch.slices["length"])), strict=True
    ):
        context, keys, values = 2 * n * task.num_passes, tokens[: 2 * n : 2], tokens[1 : 2 * n : 2]
        assert valid == [True] * n + [False] * (task.num_targets - n)
        assert tokens[:context] == tokens[: 2 * n] * task.num_passes
        assert len(set(keys)) == n
        assert all(0 < key < first_value for key in keys)
        assert all(value >= first_value for value in values)
        assert not task.distinct_values or len(set(values)) == n
        assert [tokens[p] for p in positions[:n]] == keys
        assert targets[:n] == values
        assert len(set(positions[:n])) == n
        assert all(context <= p < length and p % 2 == 0 for p in positions[:n])
        assert set(positions[n:]) <= set(positions)
        assert tokens[length:] == [0] * (task.length - length)
        if not task.random_fillers:
            assert sum(token != 0 for token in tokens) == context + n


def test_the_oracle_reads_the_context_as_a_dictionary_does():
    theirs = published_batch(200, 100, 64, 8, 0.01)
    solved = MultiQueryAssociativeRecall(vocab_size=100).solve(*(torch.from_numpy(x) for x in theirs[:2]))
    rows = zip(theirs[0].tolist(), theirs[1].tolist(), strict=True)
    assert solved.tolist() == [[answer(tokens, p, 8) for p in positions] for tokens, positions in rows]


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 3), st.booleans(), st.booleans(), st.floats(0.01, 2))
def test_every_size_that_is_accepted_gives_sound_examples(data, pairs, passes, distinct, random_fillers, power):
    length = 2 * pairs * (passes + 1) + 2 * data.draw(st.integers(0, 20), label="further slots")
    task = MultiQueryAssociativeRecall(
        vocab_size=data.draw(st.integers(2 * pairs + 2, 300), label="vocab_size"),
        length=length,
        num_pairs=pairs,
        power=power,
        num_passes=passes,
        distinct_values=distinct,
        random_fillers=random_fillers,
    )
    seed = data.draw(st.integers(0, 2**32), label="seed")
    assert_examples_are_sound(task, task.sample(torch.arange(8), seed=seed, split=Split.VAL))


@settings(max_examples=200, deadline=None)
@given(st.integers(-4, 200), st.integers(-2, 60), st.integers(-1, 4), st.integers(-1, 100))
def test_a_size_is_refused_exactly_if_it_cannot_hold_its_pairs(length, pairs, passes, vocab):
    fits = pairs > 0 and passes > 0 and length % 2 == 0 and 2 * pairs * (passes + 1) <= length
    kwargs = {"length": length, "num_pairs": pairs, "num_passes": passes, "vocab_size": vocab}
    if fits and len(range(1, vocab // 2)) >= pairs:
        assert MultiQueryAssociativeRecall(**kwargs).settings().items() >= kwargs.items()
    else:
        with pytest.raises(ValueError, match=r"(length|num_pairs|num_passes|vocab_size)=-?\d+ "):
            MultiQueryAssociativeRecall(**kwargs)


def test_too_many_pairs_are_refused_with_what_fits():
    message = r"num_pairs=40 do not fit into length=70: at most 11 do, or use length=240 or more \(num_passes=2\)"
    with pytest.raises(ValueError, match=message):
        MultiQueryAssociativeRecall(length=70, num_pairs=40, num_passes=2)
    MultiQueryAssociativeRecall(length=70, num_pairs=11, num_passes=2)
    MultiQueryAssociativeRecall(length=240, num_pairs=40, num_passes=2)
    for length, pairs in ((70, 12), (238, 40)):
        with pytest.raises(ValueError, match="do not fit"):
            MultiQueryAssociativeRecall(length=length, num_pairs=pairs, num_passes=2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"length": 63}, "length=63 must be even"),
        ({"length": -64}, "length=-64 must be even and at least 4"),
        ({"num_pairs": 0}, "num_pairs=0 must be at least 1"),
        ({"num_passes": 0}, "num_passes=0 must be at least 1"),
        ({"vocab_size": 17}, rf"vocab_size=17 must be from 18 to {MAX_HIGH} \(num_pairs=8\)"),
        ({"vocab_size": MAX_HIGH + 1}, f"vocab_size={MAX_HIGH + 1} must be from 18 to {MAX_HIGH}"),
        ({"power": 0.0}, "power=0.0 must be above 0"),
        ({"power": math.nan}, "power=nan must be above 0"),
        ({"segments": []}, r"segments=\[\] must be rows"),
        ({"segments": [[64, 8]]}, r"segments=\[\[64, 8\]\] must be rows"),
        ({"segments": [[64, 8, 0]]}, "all at least 1"),
        ({"segments": [[64, 4, 9]]}, "num_pairs=8 must be the largest num_pairs of the segments, 4"),
        ({"segments": [[32, 8, 9]]}, "length=64 must be the largest length of the segments, 32"),
        ({"segments": [[64, 8, 1], [30, 8, 1]]}, r"segments\[1\]: num_pairs=8 do not fit into length=30: at most 7"),
        ({"segments": [[64, 8, MAX_HIGH + 1]]}, f"sum to {MAX_HIGH + 1}"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MultiQueryAssociativeRecall(**kwargs)


@pytest.mark.parametrize("segments", [None, FIGURE_2])
def test_an_example_does_not_depend_on_its_batch(segments):
    task = MultiQueryAssociativeRecall(length=256, num_pairs=64, segments=segments)
    whole = task.sample(torch.arange(100), seed=3, split=Split.TEST)
    some = torch.tensor([99, 5, 6, 42])
    for index in (some, some[:1]):
        part = task.sample(index, seed=3, split=Split.TEST)
        assert all(torch.equal(a, b[index]) for a, b in zip(part[:4], whole[:4], strict=True))
        assert all(torch.equal(part.slices[key], whole.slices[key][index]) for key in whole.slices)


def test_splits_and_seeds_do_not_overlap():
    task, index = MultiQueryAssociativeRecall(length=16, num_pairs=4), torch.arange(20_000)
    streams = [(0, Split.TRAIN), (0, Split.VAL), (0, Split.TEST), (1, Split.TRAIN)]
    tokens = torch.cat([task.sample(index, seed=seed, split=split).tokens for seed, split in streams])
    start = tokens[:, :4] @ 8192 ** torch.arange(4)  # two pairs are enough to tell 80,000 examples apart
    assert len(start.unique()) == 80_000


def test_a_shuffled_mixture_draws_segments_in_proportion():
    task = MultiQueryAssociativeRecall(length=256, num_pairs=64, segments=FIGURE_2)
    batch = task.sample(torch.arange(4500), seed=0, split=Split.TRAIN)
    size = torch.stack([batch.slices["length"], batch.slices["num_pairs"]], dim=1)
    counts = [(size == torch.tensor(row[:2])).all(1).sum().item() for row in FIGURE_2]
    assert stats.chisquare(counts, np.array([100, 20, 20, 20, 20]) * 25).pvalue > MIN_P
    assert_examples_are_sound(task, Batch(*(x[:200] for x in batch[:4]), {k: v[:200] for k, v in batch.slices.items()}))


def test_a_listed_mixture_comes_in_order_and_starts_again():
    segments = [[16, 2, 3], [32, 4, 2], [24, 2, 1]]
    batch = draw(8, first=4, length=32, num_pairs=4, segments=segments, shuffle_segments=False)
    assert batch.slices["length"].tolist() == [32, 24, 16, 16, 16, 32, 32, 24]
    assert batch.slices["num_pairs"].tolist() == [4, 2, 2, 2, 2, 4, 4, 2]


def test_slices_name_the_sizes_that_occur():
    task = MultiQueryAssociativeRecall(length=256, num_pairs=64, segments=FIGURE_2)
    assert task.slice_values == {"num_pairs": (4, 8, 16, 32, 64), "length": (64, 128, 256)}
    assert MultiQueryAssociativeRecall().slice_values == {"num_pairs": (8,), "length": (64,)}


def test_sizes_and_contexts_go_beyond_training():
    task = MultiQueryAssociativeRecall(length=256, num_pairs=64, segments=FIGURE_2)
    assert task.sizes == {"length": (128, 256, 512, 1024, 2048), "num_pairs": (32, 64, 128, 256, 512)}
    assert MultiQueryAssociativeRecall(vocab_size=40).sizes["num_pairs"] == (4, 8, 16)
    larger = task.resize(length=1024, num_pairs=256)
    assert (larger.length, larger.num_targets, larger.segments) == (1024, 256, None)
    assert task.at_context(512).settings() == task.resize(length=512, num_pairs=128).settings()
    assert task.at_context(100).num_pairs == 25
    with pytest.raises(ValueError, match="do not fit"):
        task.resize(length=128, num_pairs=64)


def test_bits_are_the_entropy_of_the_values():
    task = MultiQueryAssociativeRecall(vocab_size=16, length=32, num_pairs=3)
    assert task.chance_accuracy == 1 / 8
    assert task.bits == pytest.approx(math.log2(len(list(itertools.permutations(range(8), 3)))))
    assert task.replace(distinct_values=False).bits == pytest.approx(math.log2(8**3))


@pytest.mark.parametrize(("power", "first", "by_order"), [(0.01, 0.27, 0.167), (1.0, 1 / 8, 1 / 8)])
def test_the_order_of_the_queries_tells_of_that_of_the_pairs(power, first, by_order):
    """As drawn by zoology, whose first of 8 pairs in 64 tokens is asked first in 27 % of examples."""
    task = MultiQueryAssociativeRecall(power=power)
    batch = task.sample(torch.arange(8000), seed=2, split=Split.TRAIN)
    shares = np.stack([np.bincount(column, minlength=8) for column in batch.positions.argsort(1).T]) / 8000
    assert shares[0, 0] == pytest.approx(first, abs=0.02)
    assert shares.max(axis=1).mean() == pytest.approx(by_order, abs=0.015)


def test_a_mixture_has_bits_only_if_its_segments_share_their_number_of_pairs():
    same, mixed = [[32, 4, 1], [64, 4, 1]], [[32, 2, 1], [64, 4, 1]]
    assert MultiQueryAssociativeRecall(num_pairs=4, segments=same).bits == MultiQueryAssociativeRecall(num_pairs=4).bits
    task = MultiQueryAssociativeRecall(num_pairs=4, segments=mixed)
    assert task.bits is None
    assert task.recalled_bits(torch.tensor(0.1)) is None


@pytest.mark.parametrize("error", [0.0, 0.01, 0.3, 0.8])
def test_recalled_bits_are_the_information_through_a_symmetric_channel(error):
    """A store that returns each value, or with probability `error` any other, carries exactly this much."""
    channel = np.full((8, 8), error / 7)
    np.fill_diagonal(channel, 1 - error)
    joint = channel / 8
    information = 3 - joint[joint > 0] @ -np.log2(channel[joint > 0])
    task = MultiQueryAssociativeRecall(vocab_size=16, length=32, num_pairs=3, distinct_values=False)
    recalled = task.recalled_bits(torch.tensor(error, dtype=torch.float64))
    assert recalled is not None
    assert recalled.item() == pytest.approx(3 * information, abs=1e-12)


def test_recalled_bits_vanish_from_chance_on_and_keep_their_shape():
    for distinct in (True, False):
        task = MultiQueryAssociativeRecall(distinct_values=distinct)
        errors = torch.tensor([[0.0, 0.5, 0.9], [1 - 1 / 4096, 0.99999, 1.0]], dtype=torch.float64)
        recalled = task.recalled_bits(errors)
        assert recalled is not None
        assert recalled.shape == errors.shape
        assert recalled[0, 0].item() == pytest.approx(task.bits)
        assert (recalled[0].diff() < 0).all()
        assert recalled[1].tolist() == [0, 0, 0]


def test_distinct_values_recall_less_by_exactly_the_entropy_they_lack():
    task = MultiQueryAssociativeRecall()
    free, errors = task.replace(distinct_values=False), torch.tensor([0.0, 0.2], dtype=torch.float64)
    lost = free.recalled_bits(errors) - task.recalled_bits(errors)
    lacking = math.log2(4096**8) - math.log2(math.perm(4096, 8))
    assert lost.tolist() == pytest.approx([lacking, lacking])
