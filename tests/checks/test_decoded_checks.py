"""Every check of a decoded task finds the bug that was planted for it, and nothing in a task without bugs."""

import pytest
import torch
from look_up import CLOSE, END, FAILED, OPEN, PAD, LookUp
from planting import planting

from hybrids import registry
from hybrids.checks import Subject, checks_for, decoded, run_check, run_checks
from hybrids.task import Split, Task
from hybrids.tasks.in_context_search import last_query

PLANTS, plant = planting()


class ChangedBatch(LookUp):
    """Changes the batch that a right task gives; its episodes stay right."""

    def sample(self, index, *, seed, split):
        return self.change(super().sample(index, seed=seed, split=split))

    def change(self, batch):
        raise NotImplementedError

    def episodes(self, index, *, seed, split):
        return LookUp(**self.settings()).episodes(index, seed=seed, split=split)


class ChangedEpisodes(LookUp):
    """Changes the episodes that a right task gives."""

    def episodes(self, index, *, seed, split):
        return [self.change(episode) for episode in super().episodes(index, seed=seed, split=split)]

    def change(self, episode):
        raise NotImplementedError


EXAMPLES = decoded.episodes_are_the_examples


@plant(EXAMPLES, "episode 0 of TRAIN: prompt and trace are not the first tokens of its example")
class OtherExamples(LookUp):
    def episodes(self, index, *, seed, split):
        return super().episodes(index + 1, seed=seed, split=split)


@plant(EXAMPLES, "episode 0 of TEST: prompt and trace are not the first tokens")
class OneSplit(LookUp):
    def episodes(self, index, *, seed, split):
        return super().episodes(index, seed=seed, split=Split.TRAIN)


@plant(EXAMPLES, "episode 5 of TRAIN is another one when it is asked for alone")
class CountsFromZero(LookUp):
    def episodes(self, index, *, seed, split):
        return super().episodes(index - index[0], seed=seed, split=split)


@plant(EXAMPLES, "31 episodes of 32 examples")
class LosesOne(LookUp):
    def episodes(self, index, *, seed, split):
        return super().episodes(index, seed=seed, split=split)[-31:]


@plant(EXAMPLES, "episode 0 of TRAIN has an empty prompt or trace")
class NoTrace(ChangedEpisodes):
    def change(self, episode):
        return episode._replace(prompt=episode.prompt + episode.trace, trace=[])


TARGETS = decoded.targets_are_what_the_model_writes


@plant(TARGETS, "example 0: a target at 16, after which the model writes nothing like it")
class LossOnAnswers(ChangedBatch):
    def change(self, batch):
        after = torch.full_like(batch.positions[:, :1], self.prompt_length + 2)
        positions, targets = (torch.cat(pair, 1) for pair in ((batch.positions, after), (batch.targets, after)))
        targets[:, -1:] = batch.tokens.gather(1, after + 1)
        return batch._replace(positions=positions, targets=targets, valid=torch.cat([batch.valid, after > 0], 1))


@plant(TARGETS, "example 0: no target for the token that the model writes after 13")
class NoLossOnTheFirst(ChangedBatch):
    def change(self, batch):
        valid = batch.valid.clone()
        valid[:, 0] = False
        return batch._replace(valid=valid)


@plant(TARGETS, "example 0: no target for the token that the model writes after 13")
class ReadsOneTooEarly(ChangedBatch):
    def change(self, batch):
        return batch._replace(positions=batch.positions - 1)


@plant(TARGETS, "example .*: a target stands there twice")
class AsksTwice(ChangedBatch):
    def change(self, batch):
        first = [tensor[:, :1] for tensor in (batch.positions, batch.targets, batch.valid)]
        padded = zip((batch.positions, batch.targets, batch.valid), first, strict=True)
        positions, targets, valid = (tensor.where(batch.valid, one) for tensor, one in padded)
        return batch._replace(positions=positions, targets=targets, valid=valid)


SEARCHES = decoded.searches_replay


@plant(SEARCHES, r"episode 0 of TRAIN: after token 2 search returns \[5\], the trace has")
class FindsNothing(LookUp):
    def search(self, tokens):
        return None if last_query(tokens, self.special) is None else [FAILED]


@plant(SEARCHES, r"episode 0 of TRAIN: searches return \[\], its answers are \[\[")
class NeverSearches(LookUp):
    def search(self, tokens):
        return None


@plant(SEARCHES, r"episode 0 of TRAIN: after token 0 search returns \[")
class SearchesAtOpen(LookUp):
    def search(self, tokens):
        return [FAILED] if tokens[-1] == OPEN else super().search(tokens)


@plant(SEARCHES, r"its answers are \[\]")
class AnswersNotTold(ChangedEpisodes):
    def change(self, episode):
        return episode._replace(answers=[])


@plant(SEARCHES, "its answers are")
class AnswersReversed(ChangedEpisodes):
    def change(self, episode):
        return episode._replace(answers=episode.answers[::-1])


@plant(SEARCHES, "its prompt ends in a search, which nobody would answer")
class SearchInThePrompt(LookUp):
    def search(self, tokens):
        return [FAILED] if len(tokens) == self.prompt_length else super().search(tokens)


JUDGE = decoded.judge_knows_right_from_wrong


@plant(JUDGE, r"judge\(reference trace of episode \d+\) is False; it must be True")
class NeverPleased(LookUp):
    def judge(self, episode, written):
        verdict = super().judge(episode, written)
        return verdict and episode.answers[-1] != [FAILED]


@plant(JUDGE, r"judge\(nothing written\) is False; it must be None: undecided")
class UndecidedIsWrong(LookUp):
    def judge(self, episode, written):
        return bool(super().judge(episode, written))


@plant(JUDGE, r"judge takes .+ \[END\] for .+ \[END\] at the end of episode 0")
class AlwaysPleased(LookUp):
    def judge(self, episode, written):
        return True if END in written else None


@plant(JUDGE, r"judge takes (.+) \[CLOSE\] for \1 \[END\] at the end of episode 0")
class AnyEndWillDo(LookUp):
    stop_tokens = (END, CLOSE)

    def judge(self, episode, written):
        return written[-2] == episode.trace[-2] if written else None


IN_TIME = decoded.traces_end_in_time


@plant(IN_TIME, "stop_tokens is empty")
class NoStop(LookUp):
    stop_tokens = ()


@plant(IN_TIME, r"stop_tokens \[999\] are not in the vocabulary; allowed: 0 to 70")
class StopOutside(LookUp):
    stop_tokens = (END, 999)


@plant(IN_TIME, r"episode 0: no stop token is written; its trace ends in \[END\]")
class OtherStop(LookUp):
    stop_tokens = (PAD,)


@plant(IN_TIME, "episode 0: the stop token at 2 ends it before its trace does")
class StopsAtClose(LookUp):
    stop_tokens = (END, CLOSE)


@plant(IN_TIME, "has 11 tokens to write, max_new_tokens is 10")
class TooFewTokens(LookUp):
    def __init__(self, *, num_pairs: int = 4, num_hops: int = 3, num_symbols: int = 64) -> None:
        super().__init__(num_pairs=num_pairs, num_hops=num_hops, num_symbols=num_symbols)
        self.max_new_tokens = 10


SIZES = decoded.traces_hold_at_other_sizes


@plant(SIZES, r"of resize\(num_hops=1\) has 5 tokens to write, max_new_tokens is 4")
class LimitThatOneHopExceeds(LookUp):
    def __init__(self, *, num_pairs: int = 4, num_hops: int = 3, num_symbols: int = 64) -> None:
        super().__init__(num_pairs=num_pairs, num_hops=num_hops, num_symbols=num_symbols)
        self.max_new_tokens = 11 if num_hops > 1 else 4


@plant(SIZES, r"episode 0 of resize\(num_pairs=2\): after token 2 search returns")
class SearchesWithinTheDefault(LookUp):
    def search(self, tokens):
        return super().search(tokens if self.num_pairs > 2 else [PAD, *tokens[1:3], *tokens[3:]])


@pytest.mark.parametrize(("check", "cls", "match"), PLANTS)
def test_a_planted_bug_is_found_and_named(check, cls, match):
    with pytest.raises(AssertionError, match=match):
        check(Subject(cls))


def test_every_check_of_a_decoded_task_has_a_planted_bug():
    assert {case.values[0] for case in PLANTS} == set(checks_for("task", LookUp)) - set(checks_for("task"))


@pytest.mark.parametrize("settings", [{}, {"num_hops": 0}, {"num_pairs": 1, "num_symbols": 4}])
def test_a_decoded_task_without_bugs_passes(settings):
    results = [run_check(check, Subject(LookUp, settings)) for check in checks_for("task", LookUp)[-6:]]
    assert [result for result in results if not result.passed] == []


def test_a_registered_decoded_task_is_checked_as_one(monkeypatch):
    monkeypatch.setattr(registry, "get", lambda kind, name: registry.Entry("task", "look_up", LookUp, "test"))
    results = run_checks("task", "look_up")
    assert [result for result in results if not result.passed] == []
    assert {result.check for result in results} > {check.__name__ for check in decoded.DECODED_CHECKS}


def test_a_task_that_is_not_decoded_is_checked_as_before():
    assert checks_for("task", Task) == checks_for("task")
