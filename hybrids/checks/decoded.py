"""Checks of a task that is decoded: its traces can be written with its own search, and its judge accepts them."""

from collections.abc import Iterator
from typing import Any

import torch

from hybrids.checks.subject import Check, Subject, resized
from hybrids.task import Episode, Split

NUM_EPISODES = 32
NUM_EPISODES_PER_SIZE = 4


def episodes_are_the_examples(subject: Subject) -> None:
    """An episode is the tokens of its example: a prompt and a trace, then nothing but padding; in any batch."""
    task = subject.task()
    for split in (Split.TRAIN, Split.TEST):
        episodes = _episodes(task, NUM_EPISODES, split)
        tokens = task.sample(torch.arange(NUM_EPISODES), seed=0, split=split).tokens.tolist()
        assert len(episodes) == NUM_EPISODES, f"{len(episodes)} episodes of {NUM_EPISODES} examples"
        for number, (episode, row) in enumerate(zip(episodes, tokens, strict=True)):
            where = f"episode {number} of {split.name}"
            assert episode.prompt and episode.trace, f"{where} has an empty prompt or trace"
            whole = episode.prompt + episode.trace
            assert row[: len(whole)] == whole, f"{where}: prompt and trace are not the first tokens of its example"
        alone = task.episodes(torch.tensor([5]), seed=0, split=split)
        assert alone == episodes[5:6], f"episode 5 of {split.name} is another one when it is asked for alone"


def targets_are_what_the_model_writes(subject: Subject) -> None:
    """Each token of the trace that no search returns is one target, read at the token before it; no other is."""
    task = subject.task()
    batch = task.sample(torch.arange(NUM_EPISODES), seed=0, split=Split.TRAIN)
    rows = zip(batch.positions.tolist(), batch.targets.tolist(), batch.valid.tolist(), strict=True)
    for number, (episode, row) in enumerate(zip(_episodes(task, NUM_EPISODES), rows, strict=True)):
        asked = sorted((place, target) for place, target, is_valid in zip(*row, strict=True) if is_valid)
        start = len(episode.prompt) - 1
        written = [(start + place, episode.trace[place]) for place, _ in _replay(task, episode)]
        missing, stray = sorted(set(written) - set(asked)), sorted(set(asked) - set(written))
        assert not missing, f"example {number}: no target for the token that the model writes after {missing[0][0]}"
        assert not stray, f"example {number}: a target at {stray[0][0]}, after which the model writes nothing like it"
        assert len(asked) == len(written), f"example {number}: a target stands there twice"


def searches_replay(subject: Subject) -> None:
    """The searches of a trace return its `answers` in order, as they stand in it; elsewhere is no search."""
    task = subject.task()
    for split in (Split.TRAIN, Split.TEST):
        _assert_replayed(task, _episodes(task, NUM_EPISODES, split), split.name)


def judge_knows_right_from_wrong(subject: Subject) -> None:
    """The reference trace is right, nothing written is undecided, and another answer is not right."""
    task = subject.task()
    for number, episode in enumerate(_episodes(task, NUM_EPISODES)):
        verdict = task.judge(episode, episode.trace)
        assert verdict is True, f"judge(reference trace of episode {number}) is {verdict!r}; it must be True"
        verdict = task.judge(episode, [])
        assert verdict is None, f"judge(nothing written) is {verdict!r}; it must be None: undecided"
        for other in _with_other_answers(task, episode):
            wrong = f"judge takes {_spell(task, other[-2:])} for {_spell(task, episode.trace[-2:])}"
            assert task.judge(episode, other) is not True, f"{wrong} at the end of episode {number}"


def traces_end_in_time(subject: Subject) -> None:
    """The model itself writes the one stop token, at the end, and no more than `max_new_tokens` tokens."""
    task = subject.task()
    assert task.stop_tokens, "stop_tokens is empty: a model could not end its answer"
    stray = [token for token in task.stop_tokens if not 0 <= token < task.vocab_size]
    assert not stray, f"stop_tokens {stray} are not in the vocabulary; allowed: 0 to {task.vocab_size - 1}"
    _assert_ending(task, _episodes(task, NUM_EPISODES), "")


def traces_hold_at_other_sizes(subject: Subject) -> None:
    """At every value of `sizes`, too, searches replay and traces end in time."""
    for name, value, other in resized(subject.task()):
        episodes = _episodes(other, NUM_EPISODES_PER_SIZE)
        _assert_replayed(other, episodes, f"resize({name}={value})")
        _assert_ending(other, episodes, f" of resize({name}={value})")


DECODED_CHECKS: tuple[Check, ...] = (
    episodes_are_the_examples,
    targets_are_what_the_model_writes,
    searches_replay,
    judge_knows_right_from_wrong,
    traces_end_in_time,
    traces_hold_at_other_sizes,
)


def _episodes(task: Any, num: int, split: Split = Split.TRAIN) -> list[Episode]:
    return task.episodes(torch.arange(num), seed=0, split=split)


def _replay(task: Any, episode: Episode) -> Iterator[tuple[int, list[int] | None]]:
    """Places of the trace that the model writes, each with what a search that ends there returns."""
    whole, place = episode.prompt + episode.trace, 0
    while place < len(episode.trace):
        answer = task.search(whole[: len(episode.prompt) + place + 1])
        yield place, answer
        place += 1 + len(answer or ())


def _assert_replayed(task: Any, episodes: list[Episode], where: str) -> None:
    for number, episode in enumerate(episodes):
        what = f"episode {number} of {where}"
        assert task.search(episode.prompt) is None, f"{what}: its prompt ends in a search, which nobody would answer"
        answers = []
        for place, answer in _replay(task, episode):
            if answer is not None:
                answers.append(answer)
                stands = episode.trace[place + 1 : place + 1 + len(answer)]
                assert stands == answer, f"{what}: after token {place} search returns {answer}, the trace has {stands}"
        assert answers == episode.answers, f"{what}: searches return {answers}, its answers are {episode.answers}"


def _with_other_answers(task: Any, episode: Episode) -> Iterator[list[int]]:
    """The trace with another stop token; where there is only one, with other tokens before it."""
    *start, before, last = episode.trace if len(episode.trace) > 1 else [None, *episode.trace]
    others = [token for token in task.stop_tokens if token != last]
    for token in others:
        yield [*episode.trace[:-1], token]
    if not others and before is not None:
        for step in (1, 2, 3):
            token = (before + step) % task.vocab_size
            if token not in (before, last):
                yield [*start, token, last]


def _assert_ending(task: Any, episodes: list[Episode], where: str) -> None:
    for number, episode in enumerate(episodes):
        places = [place for place, _ in _replay(task, episode)]
        stops = [place for place in places if episode.trace[place] in task.stop_tokens]
        what = f"episode {number}{where}"
        end = _spell(task, episode.trace[-1:])
        assert stops, f"{what}: no stop token is written; its trace ends in {end}"
        assert stops[0] == len(episode.trace) - 1, f"{what}: the stop token at {stops[0]} ends it before its trace does"
        limit = task.max_new_tokens
        assert len(places) <= limit, f"{what} has {len(places)} tokens to write, max_new_tokens is {limit}"


def _spell(task: Any, tokens: list[int]) -> str:
    return " ".join(task.spell(token) for token in tokens)
