"""c-gram retrieval: which token completes the c-gram whose first c - 1 tokens are given."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.tasks.in_context_search import token_after
from hybrids.tasks.recall_task import Stored
from hybrids.tasks.single_question import FIRST, Question, QuestionTask


@register("task", "cgram_retrieval", source="arXiv:2402.18510, definition 4.4")
class CGramRetrieval(QuestionTask):
    """n = `num_tokens` symbols and c - 1 neighbours among them again; the answer is the symbol after those (c = 3):

        vanilla      s3 s0 s9 s0 s7 s0 s9                               read at the last s9: s0
        retrieval    s3 s0 s9 s0 s7 s0 s9 [SS] s0 s9 [ES] s0 s0 [EOS]   no loss on the s0 which the tool writes

    The c = `gram_length` symbols stand at a uniform place. What is asked for stands in the context once, which is made
    so without redrawing: first all n symbols are uniform over `num_symbols` and independent. Then, at every other
    place where the c - 1 symbols stand, the one that is farthest from the place asked for (the first one if before
    it, the last one if after it) is replaced by a symbol that is uniform over those that are not asked for. Such a
    symbol is in no occurrence, and no symbol that is asked for is ever replaced, so that one occurrence remains. About
    (n - c) / num_symbols^(c - 1) symbols are replaced. The search `q1 ... qm` returns what follows these words where
    they first stand: the pattern `(?:^|\\s)q1\\s+...\\s+qm\\s+(\\S+)`.

    Tokens: 4 specials, then `num_symbols` symbols. Length: n + c, or n + 2 c + 3 with retrieval.

    Chance: 1 / num_symbols, of the answer. In `retrieval`, what a batch asks is mostly the question and its brackets.
    Bits: None. Which c-grams can be asked varies with the context, and overlapping ones are not independent, so that
    what has to be stored has no simple form.

    Source: arXiv:2402.18510, definition 4.4 and section 5.1. Differs: the definition leaves open what a repeated
    c-gram means, so ours is unique; the pattern, which as printed misses the start of the text.
    """

    def __init__(
        self, *, num_tokens: int = 32, gram_length: int = 3, num_symbols: int = 16, mode: str = "vanilla"
    ) -> None:
        check_number("gram_length", gram_length, 2, MAX_HIGH // 4)
        check_number("num_symbols", num_symbols, max(3, gram_length), MAX_HIGH // 2, f"{gram_length=}")
        check_number("num_tokens", num_tokens, gram_length, MAX_HIGH // 2, f"{gram_length=}")
        answers = range(FIRST, FIRST + num_symbols)
        stored = Stored(num_tokens - gram_length + 1, num_symbols, None)  # facts are the places of a c-gram
        super().__init__(mode, num_tokens, MAX_HIGH // 2, num_query=gram_length - 1, answers=answers, stored=stored)
        self.gram_length, self.num_symbols = gram_length, num_symbols
        self.vocab_size = FIRST + num_symbols

    def ask(self, draws: Draws) -> Question:
        context = draws.integers("symbols", self.num_tokens, self.num_symbols)
        place = draws.integers("place", 1, self.num_tokens - self.gram_length + 1)
        query = context.gather(1, place + torch.arange(self.num_query, device=place.device))
        others = _outside(draws.bits("others", self.num_tokens), query, self.num_symbols)
        context = torch.where(_repeats(context, query, place), others, context).add_(FIRST)
        answer = context.gather(1, place + self.num_query)
        return Question(context, query + FIRST, answer, answer)

    def answer(self, context: Sequence[int], query: Sequence[int]) -> int:
        grams = zip(*(context[k:] for k in range(self.gram_length)), strict=False)
        (answer,) = (last for *first, last in grams if first == list(query))
        return answer

    def look_up(self, text: Sequence[int], words: Sequence[int]) -> int | None:
        return token_after(text, words)


def _repeats(context: Int[Tensor, "B N"], query: Int[Tensor, "B K"], place: Int[Tensor, "B 1"]) -> Bool[Tensor, "B N"]:
    """The outer end of every occurrence of the query but the one at `place`."""
    num_query = query.shape[1]
    windows = context.shape[1] - num_query + 1
    starts = torch.arange(windows, device=context.device)
    stands = starts != place
    for k in range(num_query):
        stands = stands & (context[:, k : k + windows] == query[:, k : k + 1])
    ends = torch.zeros_like(context, dtype=torch.bool)
    ends[:, :windows] |= stands & (starts < place)
    ends[:, num_query - 1 :] |= stands & (starts > place)
    return ends


def _outside(words: Int[Tensor, "B N"], query: Int[Tensor, "B K"], num_symbols: int) -> Int[Tensor, "B N"]:
    """Symbols that are not in the query, uniform if the 32-bit words are."""
    ordered = query.sort(dim=1).values
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    symbols = words * (num_symbols - is_new.sum(dim=1, keepdim=True)) >> 32
    for k in range(query.shape[1]):
        symbols = symbols + (is_new[:, k : k + 1] & (symbols >= ordered[:, k : k + 1]))
    return symbols
