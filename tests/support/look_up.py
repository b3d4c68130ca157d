"""Follow a chain of pairs by searching for each link: the smallest task that is decoded with a tool."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.rng import Draws
from hybrids.task import Batch, DecodedTask, Episode, Split
from hybrids.tasks.in_context_search import SearchTokens, last_query, token_after

PAD, MARK, ASK, OPEN, CLOSE, FAILED, END = range(7)
NAMES = ("PAD", "MARK", "ASK", "OPEN", "CLOSE", "FAILED", "END")
SPECIAL = SearchTokens(OPEN, CLOSE, FAILED)


class LookUp(DecodedTask):
    """`num_pairs` distinct keys, three in four values keys again; from a query on, one link of a chain after the other.

    Prompt `[MARK] k v ... [ASK] q`; trace `[OPEN] q [CLOSE] v`, where the tool writes v, the same with v in place of
    q until the chain has `num_hops` links or a search has failed; then v (or [FAILED]) again, as answer, and [END].

    Chance: a constant is right on less than a third of the targets. Bits: None, the tool need not be remembered.
    """

    facts_slice = "num_pairs"
    stop_tokens = (END,)
    special = SPECIAL

    def __init__(self, *, num_pairs: int = 4, num_hops: int = 3, num_symbols: int = 64) -> None:
        if not 1 <= num_pairs <= num_symbols:
            raise UserError(f"num_pairs={num_pairs} must be from 1 to num_symbols={num_symbols}")
        self.num_pairs, self.num_hops, self.num_symbols = num_pairs, num_hops, num_symbols
        self.vocab_size = len(NAMES) + num_symbols
        self.prompt_length = 3 * num_pairs + 2
        self.length = self.prompt_length + 4 * num_hops + 2
        self.num_targets = self.max_new_tokens = 3 * num_hops + 2

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        keys = draws.distinct("keys", self.num_pairs, self.num_symbols) + len(NAMES)
        values = draws.integers("values", self.num_pairs, self.num_symbols) + len(NAMES)
        is_link = draws.integers("is link", self.num_pairs, 4) > 0
        values = torch.where(is_link, keys.gather(1, draws.integers("links", self.num_pairs, self.num_pairs)), values)
        query = keys[:, :1]  # keys stand in random order, and are sorted in the prompt
        order = keys.argsort(dim=1)
        pairs = torch.stack([torch.full_like(keys, MARK), keys.gather(1, order), values.gather(1, order)], dim=2)
        prompt = [pairs.flatten(1), torch.full_like(query, ASK), query]
        trace, is_written = self._trace(keys, values, query)
        tokens = torch.cat([*prompt, trace], dim=1)
        places = is_written.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : self.num_targets]
        valid, targets = is_written.gather(1, places), trace.gather(1, places)
        return Batch(tokens, places + self.prompt_length - 1, targets, valid, {"num_pairs": 0 * index + self.num_pairs})

    def _trace(self, keys: Tensor, values: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens after the prompt, and which of them the model writes."""
        shape = (len(query), 4 * self.num_hops + 2)
        trace, is_written = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
        end, asked, is_live = torch.zeros_like(query), query, torch.ones_like(query, dtype=torch.bool)
        for _ in range(self.num_hops):
            hit = keys == asked
            found = torch.where(hit.any(1, keepdim=True), (hit * values).sum(1, keepdim=True), FAILED)
            link = torch.cat([torch.full_like(asked, OPEN), asked, torch.full_like(asked, CLOSE), found], dim=1)
            at = end + torch.arange(4)
            trace.scatter_(1, at, torch.where(is_live, link, trace.gather(1, at)))
            written = torch.tensor([True, True, True, False]).expand_as(link)
            is_written.scatter_(1, at, torch.where(is_live, written, is_written.gather(1, at)))
            end, asked = end + 4 * is_live, torch.where(is_live, found, asked)
            is_live = is_live & (found != FAILED)
        trace.scatter_(1, torch.cat([end, end + 1], 1), torch.cat([asked, torch.full_like(asked, END)], 1))
        is_written.scatter_(1, torch.cat([end, end + 1], 1), True)
        return trace, is_written

    def solve(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        traces = [self.walk(row[: self.prompt_length])[0] for row in tokens.tolist()]
        padded = [[*trace, *[PAD] * self.length] for trace in traces]
        rows = zip(padded, (positions - self.prompt_length + 1).tolist(), strict=True)
        return torch.tensor([[trace[max(0, place)] for place in places] for trace, places in rows])

    def walk(self, prompt: list[int]) -> tuple[list[int], list[list[int]]]:
        """Trace and answers, by looking pairs up in a dictionary."""
        pairs = dict(zip(prompt[1:-2:3], prompt[2:-2:3], strict=True))
        trace, answers, asked = [], [], prompt[-1]
        while asked != FAILED and len(answers) < self.num_hops:
            answers.append([pairs.get(asked, FAILED)])
            trace += [OPEN, asked, CLOSE, *answers[-1]]
            (asked,) = answers[-1]
        return [*trace, asked, END], answers

    def episodes(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> list[Episode]:
        tokens = self.sample(index, seed=seed, split=split).tokens
        prompts = [row[: self.prompt_length] for row in tokens.tolist()]
        return [Episode(prompt, *self.walk(prompt)) for prompt in prompts]

    def search(self, tokens: list[int]) -> list[int] | None:
        query = last_query(tokens, SPECIAL)
        if query is None:
            return None
        found = token_after(query.text[: self.prompt_length], [MARK, *query.words])
        return [FAILED if found is None else found]

    def judge(self, episode: Episode, written: list[int]) -> bool | None:
        if written[-1:] != [END]:
            return None
        return list(written[-2:]) == episode.trace[-2:]

    def spell(self, token: int) -> str:
        return f"[{NAMES[token]}]" if token < len(NAMES) else str(token - len(NAMES))

    @property
    def chance_accuracy(self) -> float:
        return 1 / 3

    @property
    def slice_values(self) -> dict[str, tuple[int, ...]]:
        return {"num_pairs": (self.num_pairs,)}

    @property
    def facts(self) -> int:
        return self.num_pairs

    @property
    def bits(self) -> None:
        return None

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> None:
        return None

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        return {"num_pairs": (2, self.num_pairs), "num_hops": (1, self.num_hops)}

    def resize(self, **sizes: int) -> "LookUp":
        return self.replace(**sizes)

    def at_context(self, context: int) -> "LookUp":
        return self.replace(num_pairs=(context - 4 * self.num_hops - 4) // 3)
