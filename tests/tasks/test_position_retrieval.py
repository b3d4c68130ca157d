"""Position retrieval: the oracle, the stated laws by enumeration, the published format, sizes, bits.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import math
import re
from collections import Counter, defaultdict
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from task_settings import SETTINGS

from hybrids.task import Batch, Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.position_retrieval import PositionRetrieval

MIN_P = 1e-4
FORMATS = {
    "suffix": r"\[BOS\] (?P<sequence>(?:s\d+ )+)\[QUERY\] (?P<query>s\d+) (?P<answer>p\d+)(?P<end>( \[BOS\])?)",
    "prefix": r"\[QUERY\] (?P<query>s\d+) \[BOS\] (?P<sequence>(?:s\d+ )+)(?P<answer>p\d+)(?P<end>( \[BOS\])?)",
}


def draw(count: int, **kwargs) -> Batch:
    return PositionRetrieval(**kwargs).sample(torch.arange(count), seed=0, split=Split.TRAIN)


def assert_is_sound(task: PositionRetrieval, batch: Batch) -> None:
    """As published: the query occurs once, its position token answers, then [BOS] where it is asked for."""
    n = task.num_tokens
    assert (batch.tokens.shape[1], batch.targets.shape[1]) == (task.length, 1 + task.ends_with_bos)
    assert batch.valid.all()
    for tokens, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        spelled = " ".join(task.spell(token) for token in [*tokens, targets[-1]])
        found = re.fullmatch(FORMATS[task.query_order], spelled)
        assert found, spelled
        sequence = found["sequence"].split()
        assert len(sequence) == n
        assert [i for i, symbol in enumerate(sequence) if symbol == found["query"]] == [int(found["answer"][1:])]
        assert bool(found["end"]) == task.ends_with_bos
        assert positions == list(range(n + 2, n + 3 + task.ends_with_bos))
        assert targets == [*tokens, targets[-1]][n + 3 :]
        if task.num_symbols is None:
            assert sorted(int(symbol[1:]) for symbol in sequence) == list(range(n))
        else:
            assert all(int(symbol[1:]) < task.num_symbols for symbol in sequence)


@pytest.mark.parametrize("kwargs", SETTINGS["position_retrieval"])
def test_examples_are_those_of_the_published_definition(kwargs):
    assert_is_sound(PositionRetrieval(**kwargs), draw(100, **kwargs))


def law_with_replacement(num_symbols: int, num_tokens: int) -> dict[tuple, float]:
    """A query symbol, a position, and the others from the remaining symbols: sequence and query."""
    probability = defaultdict(float)
    for query, place in product(range(num_symbols), range(num_tokens)):
        rest = [symbol for symbol in range(num_symbols) if symbol != query]
        for others in product(rest, repeat=num_tokens - 1):
            sequence = (*others[:place], query, *others[place:])
            probability[(*sequence, query)] += 1 / (num_symbols * num_tokens * len(rest) ** len(others))
    return probability


def assert_has_law(expected: dict[tuple, float], **kwargs) -> None:
    """Of suffix examples, whose sequence follows [BOS] and whose query comes last."""
    tokens = draw(30_000, **kwargs).tokens - 3
    counts = Counter(map(tuple, torch.cat([tokens[:, 1:-2], tokens[:, -1:]], dim=1).tolist()))
    assert sum(expected.values()) == pytest.approx(1)
    assert counts.keys() <= expected.keys()
    seen = [counts[outcome] for outcome in expected]
    assert stats.chisquare(seen, [30_000 * p for p in expected.values()]).pvalue > MIN_P


def test_sequences_are_uniform_permutations_and_each_token_is_asked_for_alike():
    expected = {(*sequence, query): 1 / 24 / 4 for sequence in permutations(range(4)) for query in range(4)}
    assert_has_law(expected, num_tokens=4)


@pytest.mark.parametrize(("num_symbols", "num_tokens"), [(3, 4), (5, 3), (2, 3)])
def test_sequences_with_replacement_have_the_stated_law(num_symbols, num_tokens):
    expected = law_with_replacement(num_symbols, num_tokens)
    assert_has_law(expected, num_symbols=num_symbols, num_tokens=num_tokens)


@pytest.mark.parametrize("kwargs", [{}, {"num_symbols": 30}, {"query_order": "prefix"}])
def test_positions_and_queries_are_uniform(kwargs):
    task, batch = PositionRetrieval(**kwargs), draw(10_000, **kwargs)
    queries = batch.tokens[:, 1 if task.query_order == "prefix" else -1].numpy() - 3
    places = np.bincount(batch.targets[:, 0].numpy() - 123, minlength=30)
    assert stats.chisquare(places).pvalue > MIN_P
    assert stats.chisquare(np.bincount(queries, minlength=30)).pvalue > MIN_P
    assert abs(places.max() / 10_000 - task.chance_accuracy) < 4 * math.sqrt(task.chance_accuracy / 10_000)


def test_chance_is_that_of_the_best_constant_per_answer():
    task, batch = PositionRetrieval(ends_with_bos=True), draw(10_000, ends_with_bos=True)
    best = [np.bincount(column.numpy()).max() / 10_000 for column in batch.targets.T]
    assert task.chance_accuracy == pytest.approx(np.mean(best), abs=0.01)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-1, 50),
    st.integers(0, 50),
    st.none() | st.integers(0, 60),
    st.sampled_from(list(FORMATS)),
    st.booleans(),
)
def test_every_size_is_sound_or_refused_with_what_fits(num_tokens, max_tokens, num_symbols, order, ends_with_bos):
    sizes = {"num_tokens": num_tokens, "max_tokens": max_tokens, "num_symbols": num_symbols}
    fits = max_tokens >= 2 and 2 <= num_tokens <= max_tokens and (num_symbols is None or 2 <= num_symbols <= max_tokens)
    task = None
    for _ in range(1 if fits else 4):
        try:
            task = PositionRetrieval(**sizes, query_order=order, ends_with_bos=ends_with_bos)
            break
        except ValueError as error:
            refusal = str(error)
        found = re.match(r"(\w+)=(-?\d+) must be from (\d+) to \D*(\d+)", refusal)
        assert found, refusal
        low, value, high = int(found[3]), int(found[2]), int(found[4])
        assert sizes[found[1]] == value
        assert not low <= value <= high
        sizes[found[1]] = low if value < low else high
    assert task is not None
    assert_is_sound(task, task.sample(torch.arange(4), seed=1, split=Split.VAL))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_tokens": 121}, r"num_tokens=121 must be from 2 to 120 \(max_tokens=120\)"),
        ({"max_tokens": 1}, "max_tokens=1 must be from 2 to 16777216"),
        ({"num_symbols": 1}, r"num_symbols=1 must be from 2 to 120 \(max_tokens=120; null makes a permutation\)"),
        ({"query_order": "last"}, "query_order='last' is unknown; allowed: suffix, prefix"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PositionRetrieval(**kwargs)


def test_sizes_and_contexts_keep_the_vocabulary():
    task = PositionRetrieval(ends_with_bos=True)
    assert task.sizes == {"num_tokens": (15, 30, 45, 60, 120)}
    assert task.vocab_size == 3 + 2 * 120
    for context in (6, 10, 34, 68, 136):
        other = task.at_context(context)
        assert other.length <= context
        assert other.vocab_size == task.vocab_size
    assert task.at_context(68).settings()["num_tokens"] == 60


def test_bits_are_the_entropy_of_the_positions():
    orders = draw(1000, num_tokens=3).tokens[:, 1:4].argsort(dim=1).unique(dim=0)
    assert PositionRetrieval(num_tokens=3).bits == pytest.approx(math.log2(len(orders)))
    assert PositionRetrieval().bits == pytest.approx(math.lgamma(31) / math.log(2))
    assert PositionRetrieval(num_symbols=30).bits == pytest.approx(math.log2(30))
    assert (PositionRetrieval().facts, PositionRetrieval(num_symbols=30).facts) == (30, 1)


def test_nothing_is_claimed_to_be_stored_if_the_query_comes_first():
    task = PositionRetrieval(query_order="prefix")
    assert (task.bits, task.recalled_bits(torch.tensor(0.1))) == (None, None)


@pytest.mark.parametrize("known", range(6))
def test_recalled_bits_stay_below_what_a_reader_kept(known):
    """A reader that knows the first tokens of a permutation of five, and guesses one of the other positions."""
    error = (5 - known) / 5 * (1 - 1 / max(5 - known, 1))
    kept = math.log2(math.perm(5, known))
    recalled = PositionRetrieval(num_tokens=5).recalled_bits(torch.tensor(error, dtype=torch.float64))
    assert recalled is not None
    assert recalled.item() <= kept + 1e-9
    # A second answer that is always right may hide half of the errors on the positions.
    hidden = PositionRetrieval(num_tokens=5, ends_with_bos=True).recalled_bits(
        torch.tensor(error / 2, dtype=torch.float64)
    )
    assert hidden is not None
    assert hidden.item() == pytest.approx(recalled.item())


@pytest.mark.parametrize("kwargs", [{}, {"num_symbols": 30}])
def test_splits_do_not_overlap(kwargs):
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(PositionRetrieval(**kwargs), 0, split, num_train=20_000, num_eval=20_000) == 0
