"""Decode a task: the model writes, the task's own search answers its queries, and what it wrote is judged.

Teacher forcing shows a model the reference trace, right answers of its searches included, whatever it would have
written; here it reads its own. Decoding is greedy. Rows search at different steps, and an answer enters as forced
tokens, so an example gets the tokens that it would get alone (up to what hybrids/model/generate.py says of rounding).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from hybrids.model.generate import Continuation, generate
from hybrids.model.model import Model
from hybrids.task import DecodedTask, Episode, Split
from hybrids.tasks.mean_interval import mean_interval


@dataclass(frozen=True)
class Decoded:
    """What became of one example."""

    tokens: list[int]
    """Everything after the prompt: what the model wrote, and what its searches returned."""
    is_right: bool | None
    """None: undecided, there is no answer."""
    num_searches: int
    num_written: int
    """Tokens that the model wrote itself."""


def decode(
    model: Model, task: DecodedTask, episodes: Sequence[Episode], *, batch_size: int = 64, is_oracle: bool = False
) -> list[Decoded]:
    """Let the model write after the prompt of every episode, on its device and in its own precision.

    With `is_oracle` the i-th search of an example returns what the i-th one of its reference trace does, whatever
    it asks for; beyond the last one the task answers again.
    """
    batches = [episodes[start : start + batch_size] for start in range(0, len(episodes), batch_size)]
    return [one for batch in batches for one in _decode_batch(model, task, batch, is_oracle)]


def _decode_batch(model: Model, task: DecodedTask, episodes: Sequence[Episode], is_oracle: bool) -> list[Decoded]:
    num_searches = [0] * len(episodes)

    def answer_searches(position: int, rows: list[Continuation]) -> dict[int, list[int]]:
        """By the task, or with the oracle from the reference traces, while they last."""
        answers = {}
        for row in rows:
            answer = task.search([*row.prompt, *row.tokens])
            if answer is not None:
                place, reference = num_searches[row.number], episodes[row.number].answers
                answers[row.number] = reference[place] if is_oracle and place < len(reference) else answer
                num_searches[row.number] += 1
        return answers

    out = generate(
        model,
        [episode.prompt for episode in episodes],
        max_new_tokens=task.max_new_tokens,
        stop_tokens=task.stop_tokens,
        hook=answer_searches,
    )
    rows = zip(episodes, out.tokens, num_searches, out.num_generated, strict=True)
    return [Decoded(tokens, task.judge(episode, tokens), *counts) for episode, tokens, *counts in rows]


def measure_decoding(
    model: Model, task: DecodedTask, num_examples: int, *, seed: int, split: Split, batch_size: int = 64
) -> dict[str, float]:
    """Scores of the first examples of a split; where they need searches, also with the oracle, as `oracle/<score>`."""
    episodes = task.episodes(torch.arange(num_examples), seed=seed, split=split)
    scores = score(decode(model, task, episodes, batch_size=batch_size))
    if any(episode.answers for episode in episodes):
        oracle = score(decode(model, task, episodes, batch_size=batch_size, is_oracle=True))
        scores |= {f"oracle/{name}": value for name, value in oracle.items()}
    return scores


def score(decoded: Sequence[Decoded]) -> dict[str, float]:
    """Means over examples; keys and meaning:

    accuracy           share of right answers, an undecided example counts 0.5 (arXiv:2402.18510, section 6.1)
    accuracy_low, accuracy_high   95 % interval of `accuracy`
    accuracy_strict    share of right answers, an undecided example counts as wrong
    undecided          share of examples without an answer
    searches           searches per example
    tokens             tokens per example that the model wrote; what searches returned does not count
    examples           number of examples
    """
    worth = [0.5 if one.is_right is None else float(one.is_right) for one in decoded]
    low, high = mean_interval(torch.tensor(worth, dtype=torch.float64))
    return {
        "accuracy": fmean(worth),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_strict": fmean(float(one.is_right is True) for one in decoded),
        "undecided": fmean(float(one.is_right is None) for one in decoded),
        "searches": fmean(float(one.num_searches) for one in decoded),
        "tokens": fmean(float(one.num_written) for one in decoded),
        "examples": float(len(decoded)),
    }
