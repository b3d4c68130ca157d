"""Associative recall: which token follows the one asked for."""

import math
from collections.abc import Sequence
from itertools import pairwise

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.tasks.in_context_search import token_after
from hybrids.tasks.recall_task import Stored
from hybrids.tasks.single_question import FIRST, Question, QuestionTask


@register("task", "associative_recall", source="arXiv:2402.18510, definition 4.3")
class AssociativeRecall(QuestionTask):
    """n = `num_tokens` symbols and one of them again; the answer is the symbol after its place in the context:

        vanilla      s3 s0 s9 s7 s0                                     read at the last s0: s9
        retrieval    s3 s0 s9 s7 s0 [SS] s0 [ES] s9 s9 [EOS]            no loss on the first s9, which the tool writes

    The symbol asked for stands at one place of the context alone, uniform over the first n - 1. With
    `distinct_symbols=true` all n are different, drawn in order without replacement from `num_symbols`; otherwise only
    the one asked for is unique, and the others are uniform over the other symbols and independent. The search `q`
    returns what follows q where it first stands: the pattern `(?:^|\\s)q\\s+(\\S+)`.

    Tokens: 4 specials, then `num_symbols` symbols. Length: n + 2, or n + 7 with retrieval.

    Chance: 1 / num_symbols, of the answer. In `retrieval`, what a batch asks is mostly the question and its brackets.
    Bits: the sum of log2(num_symbols - i) over i = 1 ... n - 1 with distinct symbols. What an exact answerer has
    stored gives the context back from its first symbol, each symbol leading to the next, so that it holds the entropy
    of the context, the sum from i = 0, less log2(num_symbols) for the first symbol. With errors, each step adds at
    most Fano's h(e) + e log2(num_symbols - 2), for a symbol cannot follow itself. None without distinct symbols,
    where what can be asked varies with the context, and None with retrieval.

    Source: arXiv:2402.18510, definition 4.3 and section 5.1. Differs: the definition draws tokens from [n] and leaves
    open what repeated ones mean, so ours are different; the pattern, which as printed misses the start of the text.
    """

    def __init__(
        self,
        *,
        num_tokens: int = 32,
        num_symbols: int = 256,
        distinct_symbols: bool = True,
        mode: str = "vanilla",
    ) -> None:
        check_number("num_symbols", num_symbols, 3, MAX_HIGH // 2)
        most = num_symbols if distinct_symbols else MAX_HIGH // 2
        check_number("num_tokens", num_tokens, 2, most, f"{distinct_symbols=}, {num_symbols=}")
        answers = range(FIRST, FIRST + num_symbols)
        bits = math.fsum(math.log2(num_symbols - i) for i in range(1, num_tokens)) if distinct_symbols else None
        # Facts are pairs of neighbours; a symbol cannot follow itself.
        stored = Stored(num_tokens - 1, num_symbols - 1, bits, chance=1 / num_symbols)
        super().__init__(mode, num_tokens, most, num_query=1, answers=answers, stored=stored)
        self.num_symbols, self.distinct_symbols = num_symbols, distinct_symbols
        self.vocab_size = FIRST + num_symbols

    def ask(self, draws: Draws) -> Question:
        place = draws.integers("place", 1, self.num_tokens - 1)
        if self.distinct_symbols:
            context = draws.distinct("symbols", self.num_tokens, self.num_symbols).add_(FIRST)
            query = context.gather(1, place)
        else:
            query = draws.integers("query", 1, self.num_symbols)
            others = draws.integers("symbols", self.num_tokens, self.num_symbols - 1)
            others.add_(others >= query).add_(FIRST)
            query.add_(FIRST)
            context = others.scatter_(1, place, query)
        answer = context.gather(1, place + 1)
        return Question(context, query, answer, answer)

    def answer(self, context: Sequence[int], query: Sequence[int]) -> int:
        followers = dict(pairwise(context))
        return followers[query[0]]

    def look_up(self, text: Sequence[int], words: Sequence[int]) -> int | None:
        return token_after(text, words)
