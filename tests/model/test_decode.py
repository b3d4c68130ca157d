"""A task is decoded with the model's own tokens and its own searches, and scored by what comes out."""

import pytest
import torch
from look_up import ASK, CLOSE, END, FAILED, OPEN, LookUp
from torch import nn

from hybrids.model.block import Choice, Letter
from hybrids.model.decode import Decoded, decode, measure_decoding, score
from hybrids.model.generate import generate
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.task import Split

NUM = 40


class Scripted(Model):
    """Writes what a function of all tokens so far says; its cache is these tokens."""

    def __init__(self, task, write):
        nn.Module.__init__(self)
        self.embedding = nn.Embedding(task.vocab_size, 1)
        self.write = write

    def forward(self, tokens, cache=None, *, positions=None):
        seen = tokens if cache is None else torch.cat([cache[0], tokens], dim=1)
        chosen = torch.tensor([self.write(row) for row in seen.tolist()])
        return nn.functional.one_hot(chosen, self.embedding.num_embeddings).float()[:, None], (seen,)


def follow(task, find_script):
    """Writes the script that belongs to a prompt; None stands where the tool writes, and nobody reads the rest."""

    def write(tokens):
        script, place = find_script(tokens[: task.prompt_length]), len(tokens) - task.prompt_length
        token = script[place] if 0 <= place < len(script) else None
        return END if token is None else token

    return write


def perfect(task):
    """Writes the trace, found without the task's search."""
    return follow(task, lambda prompt: task.walk(prompt)[0])


@pytest.fixture
def task():
    return LookUp()


def episodes_of(task, num=NUM):
    return task.episodes(torch.arange(num), seed=3, split=Split.TEST)


def test_a_perfect_model_writes_the_traces_and_all_scores_are_those_of_the_traces(task):
    episodes = episodes_of(task)
    model = Scripted(task, perfect(task))
    assert len({len(episode.answers) for episode in episodes}) > 1  # rows search and end at different steps
    for one, episode in zip(decode(model, task, episodes, batch_size=7), episodes, strict=True):
        searches = len(episode.answers)
        assert one == Decoded(episode.trace, True, searches, len(episode.trace) - searches)
    scores = measure_decoding(model, task, NUM, seed=3, split=Split.TEST, batch_size=16)
    searches = sum(len(episode.answers) for episode in episodes) / NUM
    expected = {"accuracy": 1.0, "accuracy_strict": 1.0, "undecided": 0.0, "searches": searches, "examples": NUM}
    expected |= {"tokens": sum(len(episode.trace) for episode in episodes) / NUM - searches, "accuracy_high": 1.0}
    lows = [scores.pop(f"{way}accuracy_low") for way in ("", "oracle/")]
    assert lows == pytest.approx([0.025 ** (1 / NUM)] * 2, abs=0.005)  # Clopper and Pearson (1934)
    assert scores == pytest.approx({**expected, **{f"oracle/{name}": value for name, value in expected.items()}})


def test_a_model_that_never_ends_is_undecided(task):
    scores = measure_decoding(Scripted(task, lambda tokens: ASK), task, NUM, seed=3, split=Split.TEST)
    wanted = {"accuracy": 0.5, "accuracy_strict": 0.0, "undecided": 1.0, "searches": 0.0, "tokens": task.max_new_tokens}
    assert {name: scores[name] for name in wanted} == wanted
    assert scores["accuracy_low"] < 0.5 < scores["accuracy_high"]


def test_a_model_that_ends_at_once_is_wrong(task):
    scores = measure_decoding(Scripted(task, lambda tokens: END), task, NUM, seed=3, split=Split.TEST)
    assert (scores["accuracy"], scores["undecided"], scores["tokens"]) == (0.0, 0.0, 1.0)


def test_the_oracle_answers_from_the_reference_whatever_is_asked(task):
    episodes = episodes_of(task)

    def write(tokens):
        """Searches for a symbol that is no key, as often as it needs to; answers the last result."""
        prompt = tokens[: task.prompt_length]
        absent = min(set(range(7, task.vocab_size)) - set(prompt))
        script = [OPEN, absent, CLOSE, None] * len(task.walk(prompt)[1])
        return follow(task, lambda prompt: [*script, tokens[-1], END])(tokens)

    model = Scripted(task, write)
    own, helped = (decode(model, task, episodes, is_oracle=is_oracle) for is_oracle in (False, True))
    for one, other, episode in zip(own, helped, episodes, strict=True):
        num = len(episode.answers)
        assert one.tokens[3 : 4 * num : 4] == [FAILED] * num
        assert [[token] for token in other.tokens[3 : 4 * num : 4]] == episode.answers
        assert one.is_right is (episode.answers[-1] == [FAILED])
        assert other.is_right is True
    assert 0 < sum(one.is_right is True for one in own) < NUM


def test_beyond_the_reference_the_oracle_is_the_tool(task):
    (episode,) = episodes_of(task, 1)
    key = episode.prompt[1]
    script = [*episode.trace[:-1], OPEN, key, CLOSE, None, END]
    task.max_new_tokens = len(script)
    (one,) = decode(Scripted(task, follow(task, lambda prompt: script)), task, [episode], is_oracle=True)
    assert one.num_searches == len(episode.answers) + 1
    assert one.tokens == [*script[:-2], episode.prompt[2], END]


def test_what_a_search_returns_does_not_count_towards_the_limit(task):
    task.max_new_tokens = 5
    script = [OPEN, ASK, CLOSE, None, OPEN, ASK, CLOSE]
    (one,) = decode(Scripted(task, follow(task, lambda prompt: script)), task, episodes_of(task, 1))
    assert one == Decoded([OPEN, ASK, CLOSE, FAILED, OPEN, ASK], None, 1, 5)


def noisy(task):
    """Mostly the perfect model, sometimes any token: a fixed function of the tokens so far."""

    def write(tokens):
        luck = hash(tuple(tokens)) % 101
        return luck % task.vocab_size if luck < 15 else perfect(task)(tokens)

    return write


def make_model(task):
    torch.manual_seed(1)
    swiglu = Choice(get("channel", "swiglu").cls)
    mixers = {"A": "attention", "G": "gated_delta_net"}
    letters = {letter: Letter(Choice(get("mixer", name).cls), swiglu) for letter, name in mixers.items()}
    model = Model(task.vocab_size, 16, Pattern.parse("GA"), letters, tie_embeddings=False)
    with torch.no_grad():
        model.head.weight.mul_(3)
        model.head.weight[[OPEN, CLOSE]] *= 2  # so that untrained models search
    return model


@pytest.mark.parametrize("kind", ["noisy", "untrained"])
@pytest.mark.parametrize("is_oracle", [False, True])
def test_a_batch_is_decoded_as_its_examples_one_at_a_time(kind, is_oracle):
    task = LookUp(num_pairs=3, num_symbols=4)
    model = Scripted(task, noisy(task)) if kind == "noisy" else make_model(task)
    small, large = task.episodes(torch.arange(12), seed=0, split=Split.VAL), LookUp(num_pairs=4, num_symbols=4)
    mixed = [*small, *large.episodes(torch.arange(6), seed=0, split=Split.VAL)] if kind == "untrained" else small
    together = decode(model, task, mixed, batch_size=18, is_oracle=is_oracle)
    assert together == [decode(model, task, [episode], is_oracle=is_oracle)[0] for episode in mixed]
    assert together == decode(model, task, mixed, batch_size=5, is_oracle=is_oracle)
    assert len({one.num_searches for one in together}) > 1


def test_what_is_decoded_is_what_generation_and_search_give_by_hand():
    """One example, one token at a time, the tool called on the whole text after each."""
    task = LookUp(num_pairs=3, num_symbols=4)
    model = make_model(task)
    for episode in task.episodes(torch.arange(12), seed=0, split=Split.VAL):
        tokens, num_written = list(episode.prompt), 0
        while num_written < task.max_new_tokens and tokens[-1] != END:
            tokens += generate(model, [tokens], max_new_tokens=1).tokens[0]
            num_written += 1
            if num_written < task.max_new_tokens:
                tokens += task.search(tokens) or []
        (one,) = decode(model, task, [episode])
        assert (one.tokens, one.num_written) == (tokens[len(episode.prompt) :], num_written)


def test_scores_are_means_over_examples():
    decoded = [Decoded([], verdict, searches, 2) for verdict, searches in ((True, 1), (False, 2), (None, 3), (None, 0))]
    scores = score(decoded)
    low, high = scores.pop("accuracy_low"), scores.pop("accuracy_high")
    expected = {"accuracy": 0.5, "accuracy_strict": 0.25, "undecided": 0.5, "searches": 1.5, "tokens": 2, "examples": 4}
    assert scores == expected
    assert 0.05 < low < 0.25 and 0.75 < high < 0.95  # 2 of 4 right: 0.068 to 0.932; halves vary less


def test_without_a_wrong_answer_the_interval_still_has_width():
    """Clopper and Pearson (1934): 0.025 ** (1 / 50)."""
    scores = score([Decoded([], True, 0, 1)] * 50)
    assert scores["accuracy"] == scores["accuracy_high"] == 1
    assert scores["accuracy_low"] == pytest.approx(0.9289, abs=0.002)


def test_a_task_without_searches_has_no_oracle():
    task = LookUp(num_hops=0)
    scores = measure_decoding(Scripted(task, perfect(task)), task, 4, seed=0, split=Split.TEST)
    assert scores["accuracy"] == 1 and not [name for name in scores if name.startswith("oracle")]
