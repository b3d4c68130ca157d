"""Tasks of one question: oracle, checks, format of both modes, sizes that fit."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import CASES, MODES, NAMES, build, spelled

from hybrids import registry
from hybrids.checks import Subject, checks_for, run_check
from hybrids.task import DecodedTask, Split
from hybrids.tasks.single_question import CLOSE
from hybrids.training.data import measure_overlap


def draw(task, count, first=0):
    return task.sample(torch.arange(first, first + count), seed=0, split=Split.TRAIN)


CHECKS = [check for check in checks_for("task", DecodedTask) if check.__name__ != "chance_is_not_beaten_by_a_constant"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_retrieval_conforms(name, check):
    """All but chance, which is that of the answer: a constant is right at most brackets."""
    result = run_check(check, Subject(registry.get("task", name).cls, {"mode": "retrieval"}))
    assert result.passed, result.message


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_no_constant_answer_beats_chance(name, mode):
    task = build(name, mode=mode)
    answers = draw(task, 20_000).targets[:, 0 if mode == "vanilla" else -2]
    best = answers.unique(return_counts=True)[1].max().item() / 20_000
    assert 0 <= best - task.chance_accuracy < 5 * (task.chance_accuracy / 20_000) ** 0.5


def refusal(name, kwargs):
    try:
        build(name, **kwargs)
    except ValueError as error:
        return str(error)
    return None


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(NAMES), st.sampled_from(MODES))
def test_a_size_fits_or_is_refused_with_limits_that_do(data, name, mode):
    sizes = [key for key, value in build(name).settings().items() if type(value) is int]
    kwargs = {key: data.draw(st.integers(-2, 70), label=key) for key in sizes} | {"mode": mode}
    for _ in sizes:
        if (message := refusal(name, kwargs)) is not None:
            match = re.match(r"(\w+)=(-?\d+) must be from (\d+) to (\d+)( \(|$)", message)
            assert match is not None, message
            value, low, high = map(int, match.groups()[1:4])
            assert kwargs[match[1]] == value and not low <= value <= high
            kwargs[match[1]] = min(max(value, low), high)
    task = build(name, **kwargs)
    batch = task.sample(torch.arange(4), seed=data.draw(st.integers(0, 2**32)), split=Split.VAL)
    assert torch.equal(task.solve(batch.tokens, batch.positions), batch.targets)
    assert batch.tokens.min() >= 0 and batch.tokens.max() < task.vocab_size


SEARCHED = r" \[SS\] (?P=query) \[ES\] \S+"
FORMATS = {
    "vanilla": r"(?P<prompt>(?P<context>.*?) (?P<query>{query})) (?P<answer>\S+)",
    "retrieval": r"(?P<prompt>(?P<context>.*?) (?P<query>{query}))" + SEARCHED + r" (?P<answer>\S+) \[EOS\]",
}
QUERY = {"index": r"@\d+", "associative_recall": r"s\d+", "cgram_retrieval": r"s\d+ s\d+", "counting": r"s\d+ #\d+"}


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_an_episode_reads_as_the_format_says_and_searches_what_is_asked(name, mode):
    task = build(name, mode=mode)
    for episode in task.episodes(torch.arange(50), seed=0, split=Split.VAL):
        text = spelled(task, episode.prompt + episode.trace)
        match = re.fullmatch(FORMATS[mode].format(query=QUERY[name]), text)
        assert match is not None, text
        assert match["prompt"] == spelled(task, episode.prompt)
        assert len(match["context"].split()) == task.num_tokens
        assert match["answer"] == expected_answer(name, match["context"], match["query"])


def expected_answer(name, context, query):
    """Definitions 4.2 to 4.5, on text."""
    words = context.split()
    if name == "index":
        return words[int(query[1:])]
    if name == "counting":
        word, threshold = query.split(" #")
        return "[YES]" if words.count(word) > int(threshold) else "[NO]"
    asked = query.split()
    places = [i for i in range(len(words) - len(asked)) if words[i : i + len(asked)] == asked]
    assert len(places) == 1
    return words[places[0] + len(asked)]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_batch_is_the_episodes_with_the_tool_left_out(name, mode):
    """Each target follows its position in the episode, and all that the model writes is a target."""
    task, index = build(name, mode=mode), torch.arange(20)
    batch = task.sample(index, seed=3, split=Split.TEST)
    for row, episode in enumerate(task.episodes(index, seed=3, split=Split.TEST)):
        whole = episode.prompt + episode.trace
        assert batch.tokens[row].tolist() == whole
        assert [whole[p + 1] for p in batch.positions[row].tolist()] == batch.targets[row].tolist()
        by_the_tool = {whole.index(CLOSE) + 1} if mode == "retrieval" else set()
        by_the_model = set(range(len(episode.prompt), len(whole))) - by_the_tool
        assert {p + 1 for p in batch.positions[row].tolist()} == by_the_model


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_mode_is_refused(name):
    with pytest.raises(ValueError, match="mode='retreival' is unknown; did you mean 'retrieval'"):
        build(name, mode="retreival")


LENGTHS = {"index": (34, 39), "associative_recall": (34, 39), "cgram_retrieval": (35, 41), "counting": (35, 41)}


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_those_of_the_docstrings(name):
    assert tuple(build(name, mode=mode).length for mode in MODES) == LENGTHS[name]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_sizes_and_contexts_go_beyond_training(name, mode):
    task = build(name, mode=mode)
    assert task.sizes == {"num_tokens": (32, 64, 128, 256)}
    assert task.resize(num_tokens=128).settings() == task.settings() | {"num_tokens": 128}
    assert task.at_context(150).length == 150
    assert task.facts_end == 32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", [Split.VAL, Split.TEST])
def test_no_test_example_was_trained_on(name, split):
    assert measure_overlap(build(name), 0, split, num_train=20_000, num_eval=20_000) == 0
