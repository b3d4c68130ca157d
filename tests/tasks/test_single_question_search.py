"""Tasks of one question: the search tool against `re`, replayed episodes, judgement."""

import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import CASES, NAMES, build, spelled

from hybrids.task import Split
from hybrids.tasks.single_question import CLOSE, EOS, FAILED, OPEN


def tokens_of(task):
    return {task.spell(token): token for token in range(task.vocab_size)}


def replay(task, episode, tokens_to_write):
    """Write these tokens, the tool answering; what followed the prompt, and what was searched."""
    written, answers = [], []
    for token in tokens_to_write:
        written.append(token)
        found = task.search(episode.prompt + written)
        if found is not None:
            written, answers = written + found, [*answers, found]
    return written, answers


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_writing_the_targets_with_the_tool_gives_the_trace(name, mode):
    task, index = build(name, mode=mode), torch.arange(100)
    targets = task.sample(index, seed=3, split=Split.TEST).targets.tolist()
    for mine, episode in zip(targets, task.episodes(index, seed=3, split=Split.TEST), strict=True):
        assert replay(task, episode, mine) == (episode.trace, episode.answers)
        assert task.judge(episode, episode.trace) is True
        assert len(mine) <= task.max_new_tokens
        assert [token in task.stop_tokens for token in mine] == [False] * (len(mine) - 1) + [True]


def search_by_pattern(name, text, words):
    """The corrected patterns of the paper, and a linear count, on text."""
    if name == "counting":
        word, threshold = words.split(" ")
        is_above = text.split(" ").count(word) > int(threshold[1:])
        return word if is_above else "[FAILED]"
    pattern = rf"^(?:\S+\s+){{{words[1:]}}}(\S+)" if name == "index" else rf"(?:^|\s){re.escape(words)}\s+(\S+)"
    match = re.search(pattern, text)
    return "[FAILED]" if match is None else match.group(1)


SMALL = {
    "index": {"num_tokens": 6, "num_symbols": 3, "max_tokens": 40},
    "associative_recall": {"num_tokens": 6, "num_symbols": 8},
    "cgram_retrieval": {"num_tokens": 9, "num_symbols": 3},
    "counting": {"num_tokens": 9, "num_symbols": 12, "max_count": 6},
}


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(NAMES))
def test_the_search_is_that_of_python_re_on_the_text(data, name):
    """For any question, not only the one asked, and behind an earlier search: `s1` and `s11` are different words."""
    task = build(name, mode="retrieval", **SMALL[name])
    (episode,) = task.episodes(torch.tensor([data.draw(st.integers(0, 10**6))]), seed=0, split=Split.TRAIN)
    number = partial(data.draw, st.integers(0, 39))
    words = {
        "index": f"@{number()}",
        "associative_recall": f"s{number() % 8}",
        "cgram_retrieval": f"s{number() % 3} s{number() % 3}",
        "counting": f"s{number() % 12} #{number() % 6}",
    }[name]
    before = episode.prompt + data.draw(st.sampled_from([[], episode.trace[:-2]]))
    text = spelled(task, before if name != "counting" else before[: task.num_tokens])
    found = task.search([*before, OPEN, *(tokens_of(task)[word] for word in words.split()), CLOSE])
    assert found is not None
    assert spelled(task, found) == search_by_pattern(name, text, words)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(NAMES))
def test_whatever_is_searched_has_an_answer_in_the_vocabulary(data, name):
    task = build(name, mode="retrieval", **SMALL[name])
    token = st.integers(0, task.vocab_size - 1)
    (episode,) = task.episodes(torch.tensor([0]), seed=0, split=Split.TRAIN)
    words = data.draw(st.lists(token.filter(lambda t: t not in (OPEN, CLOSE)), max_size=4))
    found = task.search([*episode.prompt, OPEN, *words, CLOSE])
    assert found is not None
    assert len(found) == 1 and 0 <= found[0] < task.vocab_size
    assert task.search([*episode.prompt, *words]) is None
    assert task.search([*episode.prompt, *words, CLOSE]) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("index", []),
        ("index", ["s1"]),
        ("index", ["@1", "@1"]),
        ("associative_recall", []),
        ("cgram_retrieval", []),
        ("counting", ["s1"]),
        ("counting", ["#1", "s1"]),
        ("counting", ["s1", "s1"]),
        ("counting", ["[ES]", "#0"]),
        ("counting", ["s1", "#1", "#1"]),
    ],
)
def test_a_malformed_search_fails(name, words):
    task = build(name, mode="retrieval")
    (episode,) = task.episodes(torch.tensor([0]), seed=0, split=Split.TRAIN)
    words = [tokens_of(task)[word] for word in words if word != "[ES]"]
    assert task.search([*episode.prompt, OPEN, *words, CLOSE]) == [FAILED]


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_judged_right_wrong_or_missing(name):
    task = build(name, mode="retrieval")
    (episode,) = task.episodes(torch.tensor([0]), seed=0, split=Split.TRAIN)
    *search, right, _ = episode.trace
    wrong = next(token for token in range(task.vocab_size) if token in task.answers and token != right)
    judge = partial(task.judge, episode)
    assert judge([*search, right, EOS]) is True
    assert judge([right, EOS]) is True
    assert judge([*search, *search, right, EOS]) is True
    assert judge([*search, wrong, EOS]) is False
    assert judge([right, wrong, EOS]) is False
    assert judge([*search, right]) is None, "it has not ended"
    assert judge([*search, EOS]) is None, "the token before the end is the tool's"
    assert judge([*search, FAILED, EOS]) is None
    assert judge([EOS]) is None
    assert judge([]) is None


@pytest.mark.parametrize("name", NAMES)
def test_without_a_search_the_first_token_is_the_answer(name):
    task = build(name)
    (episode,) = task.episodes(torch.tensor([0]), seed=0, split=Split.TRAIN)
    (right,) = episode.trace
    wrong = next(token for token in range(task.vocab_size) if token in task.answers and token != right)
    assert [task.judge(episode, written) for written in ([right], [wrong], [EOS], [])] == [True, False, None, None]
    assert (task.max_new_tokens, episode.answers) == (1, [])


@pytest.mark.parametrize("name", NAMES)
def test_with_a_tool_nothing_has_to_be_stored(name):
    task = build(name, mode="retrieval")
    assert task.bits is None
    assert task.recalled_bits(torch.tensor(0.0)) is None
