"""Index: which token stands at a place."""

from collections.abc import Sequence

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.tasks.in_context_search import token_at
from hybrids.tasks.recall_task import Stored
from hybrids.tasks.single_question import FIRST, Question, QuestionTask


@register("task", "index", source="arXiv:2402.18510, definition 4.2")
class Index(QuestionTask):
    """n = `num_tokens` symbols and a place, which is a token of its own; the answer is the symbol there:

        vanilla      s3 s0 s0 s7 @2                                     read at @2: s0
        retrieval    s3 s0 s0 s7 @2 [SS] @2 [ES] s0 s0 [EOS]            no loss on the first s0, which the tool writes

    Symbols are uniform over `num_symbols` and independent; places are uniform over the n, counted from 0. The search
    `@a` returns the token at place a: the pattern `^(?:\\S+\\s+){a}(\\S+)`.

    Tokens: 4 specials, `num_symbols` symbols, then `max_tokens` places, so that contexts of up to `max_tokens` share
    one vocabulary. Length: n + 2, or n + 7 with retrieval.

    Chance: 1 / num_symbols, of the answer. In `retrieval`, what a batch asks is mostly the question and its brackets.
    Bits: n log2(num_symbols): every symbol can be asked. None with retrieval.

    Source: arXiv:2402.18510, definition 4.2 and section 5.1. Differs: the pattern, which as printed counts characters.
    """

    facts_slice = "num_tokens"

    def __init__(
        self, *, num_tokens: int = 32, num_symbols: int = 64, max_tokens: int = 512, mode: str = "vanilla"
    ) -> None:
        check_number("num_symbols", num_symbols, 2, MAX_HIGH // 2)
        check_number("max_tokens", max_tokens, 1, MAX_HIGH // 2)
        check_number("num_tokens", num_tokens, 1, max_tokens, f"{max_tokens=} fixes the vocabulary")
        answers, stored = range(FIRST, FIRST + num_symbols), Stored.uniform(num_tokens, num_symbols)
        super().__init__(mode, num_tokens, max_tokens, num_query=1, answers=answers, stored=stored)
        self.num_symbols, self.max_tokens = num_symbols, max_tokens
        self.first_place = FIRST + num_symbols
        self.vocab_size = self.first_place + max_tokens

    def ask(self, draws: Draws) -> Question:
        context = draws.integers("symbols", self.num_tokens, self.num_symbols).add_(FIRST)
        place = draws.integers("place", 1, self.num_tokens)
        answer = context.gather(1, place)
        return Question(context, place + self.first_place, answer, answer)

    def answer(self, context: Sequence[int], query: Sequence[int]) -> int:
        return dict(enumerate(context, self.first_place))[query[0]]

    def look_up(self, text: Sequence[int], words: Sequence[int]) -> int | None:
        return token_at(text, words[0] - self.first_place) if len(words) == 1 else None

    def spell(self, token: int) -> str:
        """`s3` for symbol 3, `@2` for place 2."""
        return super().spell(token) if token < self.first_place else f"@{token - self.first_place}"
