"""N-gram retrieval: the oracle, the published format, copies, sizes that fit, bits."""

import math
import re
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from drawing import draw_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from task_settings import SETTINGS

from hybrids.task import Batch, Split
from hybrids.training.data import measure_overlap
from hybrids.training.grid import GridCell, share_of_none
from hybrids.training.lit import AnswerMetrics
from hybrids_plugins.tasks import ngram_retrieval
from hybrids_plugins.tasks.ngram_retrieval import NgramRetrieval

draw = partial(draw_examples, NgramRetrieval)
SEQUENCE = r"((?:s\d+ )+)"
FORMATS = {
    "suffix": rf"\[BOS\] {SEQUENCE}\[BOS\] \[QUERY\] {SEQUENCE}\[QUERY\] {SEQUENCE}((?:\[PAD\] )*)",
    "prefix": rf"\[QUERY\] (?P<query>{SEQUENCE})\[BOS\] {SEQUENCE}\[BOS\] \[QUERY\] {SEQUENCE}((?:\[PAD\] )*)",
}


def read(task: NgramRetrieval, tokens: list[int], targets: list[int]) -> tuple[list[str], list[str], list[str]]:
    """Sequence, query and answer of an example in the published format, which ends with the whole answer."""
    end = max(i for i, token in enumerate(tokens) if token) + 1
    spelled = [task.spell(token) for token in [*tokens[:end], targets[-1], *tokens[end:]]]
    found = re.fullmatch(FORMATS[task.query_order], " ".join(spelled) + " ")
    assert found, spelled
    order = (1, 2, 3) if task.query_order == "suffix" else (3, 2, 4)
    sequence, query, answer = (found[group].split() for group in order)
    assert answer == [task.spell(token) for token in targets]
    return sequence, query, answer


def copies_of(query: list[str], sequence: list[str]) -> list[int]:
    """Where the query occurs, overlapping or not."""
    joined = "".join(f"{symbol} " for symbol in sequence)
    starts = (found.start() for found in re.finditer(rf"(?<!\S)(?={' '.join(query)} )", joined))
    return [joined[:start].count(" ") for start in starts]


def assert_is_sound(task: NgramRetrieval, batch: Batch) -> None:
    """As published: D copies of the query, each in its part, the answer behind the one that is asked for."""
    n, m, d = task.query_length, task.answer_length, task.num_duplicates
    assert batch.tokens.shape[1] == task.length
    assert batch.valid.all()
    for tokens, positions, targets, length in zip(
        *(x.tolist() for x in (batch.tokens, batch.positions, batch.targets, batch.slices["length"])), strict=True
    ):
        sequence, query, answer = read(task, tokens, targets)
        assert (len(sequence), len(query), len(answer)) == (length, n, m)
        assert (task.min_length or task.max_length) <= length <= task.max_length
        starts = copies_of(query, sequence)
        assert len(starts) == d
        answers = [sequence[start + n : start + n + m] for start in starts]
        assert answers[task.occurrence - 1] == answer
        assert len({tuple(answer) for answer in answers}) == d
        borders = [part * length // d for part in range(d + 1)]
        assert all(borders[k] <= start <= borders[k + 1] - n - m for k, start in enumerate(starts))
        asked = max(i for i, token in enumerate(tokens) if token == ngram_retrieval.QUERY)
        assert positions == list(range(asked, asked + m))
        assert tokens[asked + 1 : asked + m] == targets[:-1]


@pytest.mark.parametrize("kwargs", SETTINGS["ngram_retrieval"])
def test_examples_are_those_of_the_published_definition(kwargs):
    assert_is_sound(NgramRetrieval(**kwargs), draw(60, **kwargs))


def test_counting_in_a_table_and_by_sorting_agree(monkeypatch):
    for kwargs in ({"max_length": 100, "min_length": 50}, {"num_symbols": 3, "max_length": 20, "min_length": 5}):
        table = draw(300, **kwargs)
        monkeypatch.setattr(ngram_retrieval, "TABLE_SHARE", 0)
        assert torch.equal(draw(300, **kwargs).tokens, table.tokens)
        monkeypatch.undo()


def test_the_shares_of_the_copies_and_of_none_add_up():
    """An answerer that gives the third copy's answer, and a wrong one to every fourth prompt."""
    task, cells = NgramRetrieval(max_length=100, num_duplicates=4, occurrence=3), []
    given_answers = task.sample(torch.arange(200), seed=0, split=Split.TEST).targets
    given_answers[::4, 2] = ngram_retrieval.PAD
    for occurrence in (1, 2, 3, 4):
        asked = task.resize(occurrence=occurrence)
        batch, metrics = asked.sample(torch.arange(200), seed=0, split=Split.TEST), AnswerMetrics(asked)
        metrics.update(torch.tensor(0.0), given_answers == batch.targets, batch)
        sizes = {"max_length": 100, "num_duplicates": 4, "occurrence": occurrence}
        scores = metrics.compute()
        cells.append(GridCell(sizes, scores["accuracy"], scores["exact_match"], scores["loss"]))
    cells.append(GridCell({"max_length": 100, "num_duplicates": 4, "occurrence": 5}, None, None, None, "no such copy"))
    assert [cell.exact_match for cell in cells[:4]] == [0, 0, 0.75, 0]
    assert share_of_none(cells, "occurrence") == [({"max_length": 100, "num_duplicates": 4}, 0.25)]


def test_the_prompt_is_the_same_whichever_copy_is_asked_for():
    task = NgramRetrieval(max_length=100, num_duplicates=4)
    first, last = (task.resize(occurrence=k).sample(torch.arange(50), seed=0, split=Split.VAL) for k in (1, 4))
    end = int(first.positions[0, 0]) + 1
    assert torch.equal(first.tokens[:, :end], last.tokens[:, :end])
    assert (first.targets != last.targets).any(dim=1).all()


def sizes_of(data) -> dict:
    names = {"num_symbols": (-1, 40), "max_length": (0, 70), "query_length": (0, 14), "answer_length": (0, 6)}
    chosen = {name: data.draw(st.integers(*limits), label=name) for name, limits in names.items()}
    chosen["min_length"] = data.draw(st.none() | st.integers(-1, 70), label="min_length")
    chosen["num_duplicates"] = data.draw(st.sampled_from([1, 1, 2, 3, 4, 20]), label="num_duplicates")
    chosen["occurrence"] = data.draw(st.integers(0, 4), label="occurrence")
    chosen["query_order"] = data.draw(st.sampled_from(["suffix", "prefix"]), label="query_order")
    return chosen


def obey(sizes: dict, refusal: str) -> dict:
    """The sizes with the refused setting at the nearest one that the refusal allows."""
    found = re.match(r"(\w+)=(-?\d+) must be (?:from (\d+) to (\d+)|at least (\d+))", refusal)
    assert found, refusal
    name, value, low = found[1], int(found[2]), int(found[3] or found[5])
    assert sizes[name] == value
    assert value < low or value > int(found[4])
    return {**sizes, name: low if value < low else int(found[4])}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_size_is_sound_or_refused_with_what_fits(data):
    sizes, task = sizes_of(data), None
    for _ in range(8):
        try:
            task = NgramRetrieval(**sizes)
            break
        except ValueError as error:
            refusal = str(error)
        sizes = obey(sizes, refusal)
    assert task is not None
    seed = data.draw(st.integers(0, 2**32), label="seed")
    assert_is_sound(task, task.sample(torch.arange(3), seed=seed, split=Split.VAL))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_symbols": 1}, "num_symbols=1 must be from 2 to"),
        ({"query_length": 13}, r"query_length=13 must be from 1 to 12 \(.*num_symbols=30\)"),
        ({"answer_length": 0}, "answer_length=0 must be at least 1"),
        ({"max_length": 4}, rf"max_length=4 must be from 5 to {2**24} \(query_length=2, answer_length=3\)"),
        ({"min_length": 51}, r"min_length=51 must be from 5 to 50 \(.*max_length=50; or null\)"),
        ({"query_order": "middle"}, "query_order='middle' is unknown; allowed: suffix, prefix"),
        ({"num_duplicates": 11}, r"num_duplicates=11 must be from 1 to 10 \(copies .* max_length=50\)"),
        ({"num_duplicates": 9, "num_symbols": 3}, r"num_duplicates=9 must be from 1 to 8 \(answers must differ\)"),
        ({"num_duplicates": 2, "num_symbols": 2}, r"num_symbols=2 must be at least 3 \(.*num_duplicates > 1\)"),
        ({"num_duplicates": 2, "occurrence": 3}, r"occurrence=3 must be from 1 to 2 \(num_duplicates=2\)"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NgramRetrieval(**kwargs)


def test_the_published_sizes_go_beyond_training():
    task = NgramRetrieval(max_length=100, min_length=50)
    assert task.sizes["max_length"] == (100, 125, 150, 175, 200, 300, 400)
    longest = task.resize(max_length=400)
    assert (longest.vocab_size, longest.slice_values) == (task.vocab_size, {"length": (400,)})
    scaled = task.at_context(208)
    assert (scaled.length, scaled.settings()["max_length"], scaled.settings()["min_length"]) == (208, 200, 100)


def errors_of_a_prefix(num_symbols: int, length: int, n: int, m: int, kept: int) -> float:
    """Mean error of a reader that has kept the first symbols of a uniform sequence only, by enumeration."""
    wrong = []
    for sequence in product(range(num_symbols), repeat=length):
        grams = [sequence[i : i + n] for i in range(length - n + 1)]
        unique = [i for i in range(length - n - m + 1) if grams.count(grams[i]) == 1]
        asked = [i + n + j for i in unique for j in range(m)]
        wrong.append(sum(t >= kept and sequence[t] != 0 for t in asked) / len(asked) if asked else 0.0)
    return float(np.mean(wrong))


@pytest.mark.parametrize(("num_symbols", "length", "n", "m"), [(5, 6, 2, 1), (6, 5, 2, 2), (4, 6, 3, 2)])
def test_recalled_bits_stay_below_what_a_reader_kept(num_symbols, length, n, m):
    sizes = {"num_symbols": num_symbols, "max_length": length, "query_length": n, "answer_length": m}
    task = NgramRetrieval(**sizes)
    assert task.bits is not None
    assert 0 < task.bits < length * math.log2(num_symbols)
    for kept in range(length + 1):
        error = errors_of_a_prefix(num_symbols, length, n, m, kept)
        recalled = task.recalled_bits(torch.tensor(error, dtype=torch.float64))
        assert recalled is not None
        assert recalled.item() <= kept * math.log2(num_symbols)


def test_bits_leave_only_what_repeated_ngrams_hide():
    """At the published sizes: never above the entropy, and above four fifths of that of the facts."""
    entropy = 45 * math.log2(30)
    bits = NgramRetrieval(max_length=50).bits
    assert bits is not None
    assert 0.8 * entropy < bits < entropy
    tokens = draw(4000, max_length=50).tokens[:, 1:51].numpy().astype(np.int64)
    pairs = tokens[:, :-1] * 100 + tokens[:, 1:]
    repeated = np.mean([np.count_nonzero(row == row[20]) > 1 for row in pairs])
    # The union bound that `bits` uses, 48/900, holds for the sequences drawn.
    assert repeated <= 48 / 900 + 4 * math.sqrt(0.053 / 4000)
    e = 48 / 900
    fano = math.log2(30) + e * math.log2(e / 29) + (1 - e) * math.log2(1 - e)
    assert bits == pytest.approx(46 * fano)


@pytest.mark.parametrize(
    "kwargs", [{"query_order": "prefix"}, {"num_duplicates": 2}, {"min_length": 40}, {"query_length": 1}]
)
def test_bits_are_none_where_nothing_is_proved(kwargs):
    task = NgramRetrieval(**kwargs)
    assert task.bits is None
    assert task.recalled_bits(torch.tensor(0.1)) is None


@pytest.mark.parametrize("kwargs", [{}, {"num_duplicates": 4}])
def test_splits_do_not_overlap(kwargs):
    task = NgramRetrieval(**kwargs)
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(task, 0, split, num_train=20_000, num_eval=20_000) == 0


@pytest.mark.parametrize("kwargs", SETTINGS["ngram_retrieval"])
def test_an_example_does_not_depend_on_its_batch(kwargs):
    task = NgramRetrieval(**kwargs)
    whole, some = task.sample(torch.arange(100), seed=3, split=Split.TEST), torch.tensor([99, 5, 42])
    part = task.sample(some, seed=3, split=Split.TEST)
    assert all(torch.equal(a, b[some]) for a, b in zip(part[:4], whole[:4], strict=True))
