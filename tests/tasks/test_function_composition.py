"""L-FuncComp: the oracle, the definition restated, published sizes, uniformity, refusals, bits.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.rng import MAX_HIGH
from hybrids.task import Batch, Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.function_composition import FunctionComposition

MIN_P = 1e-4
INSTANCES = [(8, [4], 42, 32, 160), (16, [8], 146, 128, 896), (4, [4, 4], 86, 64, 384)]


def draw(count: int = 64, split: Split = Split.TRAIN, **kwargs) -> Batch:
    return FunctionComposition(**kwargs).sample(torch.arange(count), seed=0, split=split)


def composed(tables: list[list[int]], m: int, fan_outs: list[int], start: int, w: list[int]) -> int:
    """Definition 2.5: i_1 = z_1(z_0), i_{l+1} = z_{l+1}(w_l, i_l), with z_{l+1} as a matrix of n_l rows."""
    reached, width = tables[0][start], m
    for fan_out, table, choice in zip(fan_outs, tables[1:], w, strict=True):
        reached = np.array(table).reshape(fan_out, width)[choice, reached]
        width *= fan_out
    return int(reached)


def parse(task: FunctionComposition, tokens: list[int]) -> tuple[list[list[int]], int, list[int]]:
    """z_1 ... z_L, z_0 and w of a prompt."""
    spelled = task.query == "spelled"
    num_query = 1 + (len(task.fan_outs) if spelled else 1)
    lengths = [task.start_size * math.prod(task.fan_outs[:i]) for i in range(len(task.fan_outs) + 1)]
    if task.order == "paper":
        entries, (start, *w) = tokens[:-num_query], tokens[-num_query:]
        lengths = lengths[::-1]
    else:
        (start, *w), entries = tokens[:num_query], tokens[num_query:]
    ends = list(itertools.accumulate(lengths))
    tables = [entries[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    assert ends[-1] == len(entries)
    w = [token - task.max_start_size * math.prod(task.fan_outs) for token in w]
    if not spelled:
        w = [int(i) for i in np.unravel_index(w[0], task.fan_outs)]
    return (tables[::-1] if task.order == "paper" else tables), start, w


def assert_sound(task: FunctionComposition, batch: Batch) -> None:
    for tokens, positions, targets, quarter in zip(
        *(x.tolist() for x in (*batch[:3], batch.slices["quarter"])), strict=True
    ):
        tables, start, w = parse(task, tokens)
        assert all(0 <= value < len(table) for table in tables for value in table)
        assert 0 <= start < task.start_size
        assert all(0 <= choice < fan_out for choice, fan_out in zip(w, task.fan_outs, strict=True))
        assert positions == [len(tokens) - 1]
        assert task.facts_end == (sum(map(len, tables)) if task.order == "paper" else None)
        assert targets == [composed(tables, task.start_size, task.fan_outs, start, w)]
        outer = tables[-1]
        assert targets[0] in [v for i, v in enumerate(outer) if quarter == math.floor(4 * i / len(outer)) + 1]


@pytest.mark.parametrize(("m", "fan_outs", "length", "symbols", "bits"), INSTANCES)
def test_small_instances_have_the_published_sizes(m, fan_outs, length, symbols, bits):
    task = FunctionComposition(start_size=m, fan_outs=fan_outs)
    assert task.length == draw(2, start_size=m, fan_outs=fan_outs).tokens.shape[1] == length
    assert task.chance_accuracy == 1 / symbols
    assert task.outer_table_bits == bits


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans(), st.booleans(), st.data())
def test_every_size_gives_sound_examples_of_the_length_of_lemma_b1(m, fan_outs, spelled, is_reversed, data):
    modes = {"query": "spelled" if spelled else "one_token", "order": "reversed" if is_reversed else "paper"}
    task = FunctionComposition(start_size=m, fan_outs=fan_outs, **modes)
    sizes = [m * math.prod(fan_outs[:i]) for i in range(len(fan_outs) + 1)]
    assert task.length == 2 + sum(sizes) + (len(fan_outs) - 1 if spelled else 0)
    batch = task.sample(torch.arange(4), seed=data.draw(st.integers(0, 2**32)), split=Split.VAL)
    assert_sound(task, batch)


def test_the_example_of_the_docstring_is_right():
    task = FunctionComposition(start_size=2, fan_outs=[2])
    spelled = {task.spell(token): token for token in range(task.vocab_size)}
    tokens = torch.tensor([[spelled[text] for text in ["3", "0", "2", "1", "1", "0", "0", "w1"]]])
    assert task.solve(tokens, torch.tensor([[7]])).tolist() == [[1]]


@settings(max_examples=150, deadline=None)
@given(st.integers(-1, 40), st.lists(st.integers(0, 9), max_size=3), st.integers(0, 40), st.integers(-1, 400))
def test_a_size_is_refused_exactly_if_it_does_not_fit(m, fan_outs, largest, longest):
    kwargs = {"start_size": m, "fan_outs": fan_outs, "max_start_size": largest, "max_length": longest}
    length = 2 + m * sum(math.prod(fan_outs[:i]) for i in range(len(fan_outs) + 1))
    if 2 <= m <= largest and fan_outs and min(fan_outs) > 0 and length <= longest:
        assert FunctionComposition(**kwargs).length == length
    else:
        with pytest.raises(ValueError, match=r"(start_size|fan_outs)="):
            FunctionComposition(**kwargs)


@pytest.mark.parametrize("query", ["one_token", "spelled"])
def test_too_long_an_instance_is_refused_with_its_length_and_the_largest_that_fits(query):
    kwargs = {"fan_outs": [8, 8], "max_length": 1000, "query": query}
    length = 2 + 20 * (1 + 8 + 64) + (query == "spelled")
    message = rf"start_size=20 .* makes {length} tokens, over max_length=1000: start_size=13 is the largest that fits"
    with pytest.raises(ValueError, match=message):
        FunctionComposition(start_size=20, **kwargs)
    FunctionComposition(start_size=13, **kwargs)
    with pytest.raises(ValueError, match="makes 10"):
        FunctionComposition(start_size=14, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start_size": 33}, r"start_size=33 must be from 2 to 32 \(max_start_size=32\)"),
        ({"fan_outs": []}, r"fan_outs=\[\] must be one number or more, all at least 1"),
        ({"fan_outs": [3, 0]}, r"fan_outs=\[3, 0\] must be"),
        ({"fan_outs": [64, 64]}, "makes 16646 tokens, over max_length=2048: start_size=2 makes 8324"),
        ({"max_start_size": 10**7}, f"max_start_size=10000000 must be at most {MAX_HIGH // 2 - 1} "),
        ({"order": "backwards"}, "order=.backwards. is unknown; allowed: paper, reversed"),
        ({"query": "many"}, "query=.many. is unknown; allowed: one_token, spelled"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FunctionComposition(**kwargs)


@pytest.mark.parametrize("order", ["paper", "reversed"])
def test_all_instances_are_equally_likely(order):
    """m = 2, L = 3, all fan-outs 1: three tables of two entries and z_0."""
    tokens = draw(12_800, start_size=2, fan_outs=[1, 1], order=order).tokens
    counts = np.unique(tokens.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 4**3 * 2
    assert stats.chisquare(counts).pvalue > MIN_P


@pytest.mark.parametrize("query", ["one_token", "spelled"])
def test_tuples_and_answers_are_uniform(query):
    kwargs = {"start_size": 2, "fan_outs": [2, 3], "query": query}
    task, batch = FunctionComposition(**kwargs), draw(9600, **kwargs)
    asked = Counter((start, *w) for _, start, w in (parse(task, tokens) for tokens in batch.tokens.tolist()))
    assert len(asked) == 12
    assert stats.chisquare(list(asked.values())).pvalue > MIN_P
    assert stats.chisquare(np.bincount(batch.targets[:, 0], minlength=12)).pvalue > MIN_P
    assert stats.chisquare(np.bincount(batch.slices["quarter"] - 1)).pvalue > MIN_P


def test_chance_is_what_the_commonest_answer_gets():
    best = np.bincount(draw(20_000).targets[:, 0]).max() / 20_000
    assert abs(best - FunctionComposition().chance_accuracy) < 4 * math.sqrt(1 / 8 / 20_000)


def test_splits_overlap_only_where_instances_are_few():
    for split in (Split.VAL, Split.TEST):
        task = FunctionComposition(start_size=8, fan_outs=[4])
        assert measure_overlap(task, 0, split, num_train=30_000, num_eval=30_000) == 0
    few = FunctionComposition(start_size=2, fan_outs=[1])
    assert measure_overlap(few, 0, Split.TEST, num_train=1000, num_eval=100) == 1


def entropy(counts) -> float:
    p = np.array(list(counts)) / sum(counts)
    return float(-(p @ np.log2(p)))


@pytest.mark.parametrize(("m", "fan_outs"), [(2, [2]), (2, [1, 2]), (3, [1]), (2, [1, 1, 1])])
def test_bits_are_the_entropy_of_all_answers_given_the_inner_tables(m, fan_outs):
    task = FunctionComposition(start_size=m, fan_outs=fan_outs)
    sizes = [m * math.prod(fan_outs[:i]) for i in range(len(fan_outs) + 1)]
    queries = [list(q) for q in itertools.product(range(m), *map(range, fan_outs))]
    answers = defaultdict(Counter)
    for tables in itertools.product(*(itertools.product(range(size), repeat=size) for size in sizes)):
        every = tuple(composed([list(z) for z in tables], m, fan_outs, start, w) for start, *w in queries)
        answers[tables[:-1]][every] += 1
    given_inner = np.mean([entropy(counter.values()) for counter in answers.values()])
    assert task.bits == pytest.approx(given_inner)
    assert task.bits <= entropy(sum(answers.values(), Counter()).values()) <= task.outer_table_bits


def test_fewer_entries_are_reached_than_there_are():
    """L = 2: the values of a random function on m points, and n_1 entries for each."""
    task = FunctionComposition(start_size=8, fan_outs=[4])
    assert task.mean_entries_reached == pytest.approx(4 * 8 * (1 - (7 / 8) ** 8))
    functions = itertools.product(range(5), repeat=5)
    mean = np.mean([len(set(values)) for values in functions])
    assert FunctionComposition(start_size=5, fan_outs=[3]).mean_entries_reached == pytest.approx(3 * mean)


def test_recalled_bits_of_keeping_one_answer_are_not_more_than_it_is():
    """m = 2, n_1 = 1: a store of F(0), one bit, errs on z_0 = 1 half of the time if z_1 takes two values."""
    task = FunctionComposition(start_size=2, fan_outs=[1])
    recalled = task.recalled_bits(torch.tensor([0.0, 1 / 8, 0.5, 1.0], dtype=torch.float64))
    assert recalled[0].item() == pytest.approx(1.5)
    assert 0.5 < recalled[1].item() < 1
    assert recalled[2:].tolist() == [0, 0]


@pytest.mark.parametrize("num_wrong", [1, 2, 5])
def test_recalled_bits_allow_for_errors_on_the_entries_that_are_asked_least(num_wrong):
    """A store of all reached entries but the `num_wrong` that fewest starts lead to knows at least that much."""
    m, n = 8, 4
    task, rng = FunctionComposition(start_size=m, fan_outs=[n]), np.random.default_rng(0)
    kept, errors = [], []
    for inner in rng.integers(m, size=(4000, m)):
        asked = np.repeat(np.bincount(inner)[np.unique(inner)], n)
        errors.append(np.sort(asked)[:num_wrong].sum() / (m * n) * (1 - 1 / (m * n)))
        kept.append((len(asked) - num_wrong) * math.log2(m * n))
    recalled = task.recalled_bits(torch.tensor(np.mean(errors)))
    assert 0 < recalled.item() < np.mean(kept)


def test_nothing_has_to_be_stored_when_the_query_comes_first():
    task = FunctionComposition(order="reversed")
    assert task.bits is None
    assert task.recalled_bits(torch.tensor(0.1)) is None


def test_sizes_and_contexts_keep_the_fan_outs_and_the_vocabulary():
    task = FunctionComposition(start_size=8, fan_outs=[4])
    assert task.sizes == {"start_size": (4, 8, 16, 32)}
    for context in (84, 100, 162):
        other = task.at_context(context)
        assert context - 5 < other.length <= context
        assert (other.fan_outs, other.vocab_size) == ([4], 32 * 4 + 4)
    assert task.facts == 40
    with pytest.raises(ValueError, match="start_size=59 must be from 2 to 32"):
        task.at_context(300)


def test_a_task_keeps_its_own_list_of_fan_outs():
    fan_outs = [2, 2]
    task = FunctionComposition(fan_outs=fan_outs)
    fan_outs.append(3)
    assert task.settings()["fan_outs"] == [2, 2]
