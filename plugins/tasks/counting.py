"""Counting: whether a token occurs more often than a threshold."""

from collections import Counter
from collections.abc import Sequence

import torch

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.tasks.in_context_search import count_exceeds
from hybrids.tasks.recall_task import Stored
from hybrids.tasks.single_question import FAILED, SPECIALS, Question, QuestionTask

NO, YES = len(SPECIALS), len(SPECIALS) + 1
SPELLED = (*SPECIALS, "[NO]", "[YES]")
FIRST = len(SPELLED)
"""The first symbol; the thresholds come after the symbols."""


@register("task", "counting", source="arXiv:2402.18510, definition 4.5")
class Counting(QuestionTask):
    """n = `num_tokens` symbols, one of the alphabet and a threshold: does it occur more often than that?

        vanilla      s3 s0 s0 s7 s0 #1                                  read at #1: [YES], for 2 > 1
        retrieval    s3 s0 s0 s7 s0 #1 [SS] s0 #1 [ES] s0 [YES] [EOS]   no loss on the s0 which the tool writes

    The symbol q asked for is uniform over `num_symbols`, the threshold t over 0 ... max_count - 1, and the answer is
    YES with probability 1/2, all independent. Given these, q occurs k times, uniform over t + 1 ... max_count for YES
    and over 0 ... t for NO, at k uniform places; the other symbols are uniform over the alphabet without q, and
    independent. The search `v #t` returns v if v occurs more than t times in the context, else `[FAILED]`.

    Tokens: 4 specials, `[NO]`, `[YES]`, `num_symbols` symbols, `max_count` thresholds. Length: n + 3, or n + 9 with
    retrieval. Contexts of any length share one vocabulary; counts do not grow with them.

    Chance: 1/2 exactly, of the answer, for whoever has not read the context, too. In `retrieval`, what a batch asks
    is mostly the question and its brackets.
    Bits: None. The answer is computed, from counts that need not be stored one by one. `facts` is None for the same
    reason.

    Source: arXiv:2402.18510, definition 4.5 and section 5.1. Differs: the definition has no law of examples, and ours
    balances the answers; the printed pattern never matches spaced text; the search looks at the n symbols only, for
    the question names q once more, and the published search of all text would count it.
    """

    def __init__(
        self, *, num_tokens: int = 32, num_symbols: int = 16, max_count: int = 16, mode: str = "vanilla"
    ) -> None:
        check_number("num_symbols", num_symbols, 2, MAX_HIGH // 4)
        check_number("num_tokens", num_tokens, 1, MAX_HIGH // 2)
        check_number("max_count", max_count, 1, num_tokens, f"{num_tokens=}")
        answers, stored = range(NO, YES + 1), Stored(facts=None, num_symbols=2, bits=None)
        super().__init__(mode, num_tokens, MAX_HIGH // 2, num_query=2, answers=answers, stored=stored)
        self.num_symbols, self.max_count = num_symbols, max_count
        self.first_number = FIRST + num_symbols
        self.vocab_size = self.first_number + max_count

    def ask(self, draws: Draws) -> Question:
        query = draws.integers("query", 1, self.num_symbols)
        threshold = draws.integers("threshold", 1, self.max_count)
        answer = draws.integers("answer", 1, 2)
        word = draws.bits("count", 1)
        above = threshold + 1 + (word * (self.max_count - threshold) >> 32)
        count = torch.where(answer == 1, above, word * (threshold + 1) >> 32)
        others = draws.integers("symbols", self.num_tokens, self.num_symbols - 1)
        others.add_(others >= query)
        order = draws.distinct("places", self.num_tokens, self.num_tokens)
        context = torch.where(order < count, query, others).add_(FIRST)
        asked = torch.cat([query + FIRST, threshold + self.first_number], dim=1)
        found = torch.where(answer == 1, query + FIRST, FAILED)
        return Question(context, asked, found, answer + NO)

    def answer(self, context: Sequence[int], query: Sequence[int]) -> int:
        return YES if Counter(context)[query[0]] > query[1] - self.first_number else NO

    def look_up(self, text: Sequence[int], words: Sequence[int]) -> int | None:
        if len(words) != 2 or not FIRST <= words[0] < self.first_number <= words[1]:
            return None
        symbol, number = words
        context = text[: self.num_tokens]
        return symbol if count_exceeds(context, symbol, number - self.first_number) else None

    def spell(self, token: int) -> str:
        """`s3` for symbol 3, `#2` for threshold 2."""
        if token < FIRST:
            return SPELLED[token]
        return f"s{token - FIRST}" if token < self.first_number else f"#{token - self.first_number}"
