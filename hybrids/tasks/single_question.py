"""Tasks that ask one question about a context, answered at once or after one in-context search.

`vanilla`: context, question, and the answer is the next token. `retrieval`: the model writes the question again as a
search, reads what the tool returns, and then writes the answer:

    vanilla      x1 ... xn q1 ... qk              | answer
    retrieval    x1 ... xn q1 ... qk              | [SS] q1 ... qk [ES] (found) answer [EOS]

The loss is on all that stands after the bar save `(found)`, which the tool writes.
Source: arXiv:2402.18510, sections 4.2 and 5.1.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.rng import Draws
from hybrids.task import Batch, DecodedTask, Episode, Split, Task
from hybrids.tasks.in_context_search import SearchTokens, last_query
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import multiples

SPECIALS = ("[EOS]", "[SS]", "[ES]", "[FAILED]")
EOS, OPEN, CLOSE, FAILED = range(len(SPECIALS))
"""Tokens of every task of this kind, in both modes; its own come after."""
FIRST = len(SPECIALS)
"""The first symbol, where no other token of the task's own comes before the symbols."""


class Question(NamedTuple):
    """Drawn examples, in tokens."""

    context: Int[Tensor, "B N"]
    query: Int[Tensor, "B K"]
    found: Int[Tensor, "B 1"]
    """What a search for the query returns."""
    answer: Int[Tensor, "B 1"]


class QuestionTask(RecallTask, DecodedTask):
    """A context of `num_tokens` tokens and a question of `num_query` tokens, as in the docstring of this module.

    A model may generate one token in `vanilla`, its answer; in `retrieval` twice as many as the reference, so that
    there is room for one more search, and the answer is the token before `[EOS]`, if the model has written it itself.
    """

    choices: ClassVar = {"mode": ("vanilla", "retrieval")}
    constant_slices = ("num_tokens",)
    special = SearchTokens(open=OPEN, close=CLOSE, failed=FAILED)

    def __init__(
        self, mode: str, num_tokens: int, most: int, *, num_query: int, answers: range, stored: Stored
    ) -> None:
        """The vocabulary allows contexts of up to `most` tokens; `answers` are the tokens that can be an answer.

        `stored` is what an exact answerer without a tool has stored; its `num_symbols` are the answers that are
        possible once the question is known.
        """
        self.mode, self.num_tokens, self.num_query, self.answers = mode, num_tokens, num_query, answers
        self.check_choices()
        self.stored = stored if mode == "vanilla" else stored._replace(bits=None)  # the tool looks up what is not
        self.grid = {"num_tokens": multiples(num_tokens, (1, 2, 4, 8), high=most)}
        self.facts_end, self.prompt_end = num_tokens, num_tokens + num_query
        if mode == "vanilla":
            self.length, self.num_targets, self.max_new_tokens = self.prompt_end + 1, 1, 1
            self.stop_tokens = tuple(answers)
        else:
            self.found_at = self.prompt_end + num_query + 2
            self.length, self.num_targets = self.found_at + 3, num_query + 4
            self.max_new_tokens, self.stop_tokens = 2 * self.num_targets, (EOS,)

    @abstractmethod
    def ask(self, draws: Draws) -> Question:
        """Examples of these random numbers."""

    @abstractmethod
    def answer(self, context: Sequence[int], query: Sequence[int]) -> int:
        """The answer of an exact reader; written independently of `ask` and of `look_up`."""

    @abstractmethod
    def look_up(self, text: Sequence[int], words: Sequence[int]) -> int | None:
        """What the tool finds for these words in the text before them; None for nothing."""

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        rows = self._write(index, seed, split)
        written = torch.arange(self.prompt_end, self.length, device=index.device)
        if self.mode == "retrieval":
            written = torch.cat([written[: self.num_query + 2], written[self.num_query + 3 :]])
        targets = rows.index_select(1, written)
        return self.make_batch(rows, written - 1, targets)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """What comes next in the answered example: `answer` reads context and question, the rest is the format."""
        answered = self._answered(row)
        return [answered[place] for place in places]

    def episodes(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> list[Episode]:
        end, rows = self.prompt_end, self._write(index, seed, split).tolist()
        if self.mode == "vanilla":
            return [Episode(row[:end], row[end:], []) for row in rows]
        return [Episode(row[:end], row[end:], [[row[self.found_at]]]) for row in rows]

    def search(self, tokens: Sequence[int]) -> list[int] | None:
        query = last_query(tokens, self.special)
        if query is None:
            return None
        found = self.look_up(query.text, query.words)
        return [FAILED if found is None else found]

    def judge(self, episode: Episode, written: Sequence[int]) -> bool | None:
        right = episode.trace[0 if self.mode == "vanilla" else -2]
        given = self._given(written)
        return given == right if given in self.answers else None

    def spell(self, token: int) -> str:
        """`s3` for symbol 3."""
        return SPECIALS[token] if token < FIRST else f"s{token - FIRST}"

    def at_context(self, context: int) -> Task:
        """As long a context as fits; the question and its answer keep their length."""
        return self.replace(num_tokens=context - (self.length - self.num_tokens))

    def _write(self, index: Int[Tensor, " B"], seed: int, split: Split) -> Int[Tensor, "B N"]:
        """Prompts with their traces."""
        context, query, found, answer = self.ask(Draws.of(index, seed=seed, stream=split))
        if self.mode == "vanilla":
            return torch.cat([context, query, answer], dim=1)
        opened, closed, end = (torch.full_like(answer, token) for token in (OPEN, CLOSE, EOS))
        return torch.cat([context, query, opened, query, closed, found, answer, end], dim=1)

    def _answered(self, row: list[int]) -> list[int]:
        """For each place the token that comes next; what the search returns is never asked."""
        context, query = row[: self.num_tokens], row[self.num_tokens : self.prompt_end]
        answer = self.answer(context, query)
        if self.mode == "vanilla":
            return [*context, *query, answer, EOS][1:]
        return [*context, *query, OPEN, *query, CLOSE, FAILED, answer, EOS, EOS][1:]

    def _given(self, written: Sequence[int]) -> int | None:
        """The answer that a model gives, or None."""
        written = list(written)
        if self.mode == "vanilla":
            return written[0] if written else None
        before = written[: written.index(EOS)] if EOS in written else []
        is_of_the_tool = len(before) > 1 and before[-2] == CLOSE
        return None if not before or is_of_the_tool else before[-1]
