"""Multi-query associative recall in which some keys are bound a second time; the last binding wins."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError, check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.query_slots import bits_of_values, draw_fillers, draw_values, grid_of_pairs, slot_weights
from hybrids.tasks.recall_task import RecallTask, Stored


@register("task", "mqar_updates", source="HazyResearch/zoology, forgetting MQAR; arXiv:2312.04927")
class UpdatedAssociativeRecall(RecallTask):
    """Associative recall of what was bound last: `num_updates` of the `num_pairs` keys are bound a second time.

        k3 v1 k7 v5 k3 v9 k2 v4   . . k7 . . k3 . . k2 .        k3 is asked: v9

    The context has n + u bindings, for n pairs and u updates, in an order that is uniform over all orders of the n
    keys, u of them twice: an update stands anywhere after the first binding of its key. Token 0 is filler, keys are
    tokens 1 ... V//2 - 1, drawn without replacement; values V//2 ... V - 1. What follows the context is cut into
    two-token slots. The n queries take n of them, drawn one after another with weight proportional to i**(power - 1)
    for slot i from 1: near 0 they crowd behind the context, at 1 they are uniform. A query is the first token of its
    slot; the value bound last is the answer and is never shown. Every other token is uniform over the vocabulary, or
    0 with `random_fillers=False`.

    Settings: `length` (T), `num_pairs` (n = P), `num_updates` (u, from 0 to n), `vocab_size` (V), `power`,
    `random_fillers`. `distinct_values=False` draws values independently, so that an update may repeat what it
    replaces; otherwise all n + u differ. The order of P is that in which the keys are first bound.

    Chance: 1/M for M = V - V//2 values. As in `mqar`, keys that are bound early are asked early: the first one is asked
    first in 28 % of the default examples, where a random order has 1 in 8.
    Bits: when the queries arrive, a value that was replaced answers nothing, so an exact answerer has stored the last
    value of each key and no more: log2(M!/(M-n)!), or n*log2(M) with `distinct_values=False`, whatever u is.

    Source: zoology's forgetting MQAR. Differs: there all updates stand behind all first bindings, so that the last u
    bindings are known to count; here a reader has to look at the keys. There first values differ from each other,
    and an update from the first value of another key than the one that it goes to, so that it may repeat what it
    replaces.
    """

    facts_slice = "num_pairs"
    constant_slices = ("num_pairs", "num_updates", "length")

    def __init__(
        self,
        *,
        vocab_size: int = 8192,
        length: int = 64,
        num_pairs: int = 8,
        num_updates: int = 4,
        power: float = 0.01,
        random_fillers: bool = True,
        distinct_values: bool = True,
    ) -> None:
        self.vocab_size, self.length = vocab_size, length
        self.num_pairs, self.num_updates, self.power = num_pairs, num_updates, power
        self.random_fillers, self.distinct_values = random_fillers, distinct_values
        self._check_sizes()
        self.num_targets = num_pairs
        self.num_keys, self.num_values = vocab_size // 2 - 1, vocab_size - vocab_size // 2
        self._context = 2 * (num_pairs + num_updates)
        bits = bits_of_values(num_pairs, self.num_values, distinct=distinct_values)
        self.stored = Stored(num_pairs, self.num_values, bits)  # an update replaces a fact
        self.grid = grid_of_pairs(length, num_pairs, self.num_keys)
        self._slot_weights(torch.device("cpu"))  # refuses a power

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        n, u = self.num_pairs, self.num_updates
        keys = draws.distinct("keys", n, self.num_keys) + 1
        values = draw_values(draws, n + u, self.num_values, distinct=self.distinct_values) + self.vocab_size // 2
        places = draws.distinct("places", n + u, n + u)  # of binding j, which binds key j, or j - n for an update
        lower, upper = places[:, :u].minimum(places[:, n:]), places[:, :u].maximum(places[:, n:])
        first = torch.cat([lower, places[:, u:n]], dim=1)
        last_values = torch.cat([values[:, n:], values[:, u:n]], dim=1)
        order = first.argsort(dim=1)
        queries, targets = keys.gather(1, order), last_values.gather(1, order)
        positions = 2 * draws.weighted_distinct("slots", n, self._slot_weights(index.device)) + self._context
        tokens = draw_fillers(draws, self.length, self.vocab_size, is_random=self.random_fillers)
        bound_at = 2 * torch.cat([first, upper], dim=1)
        columns = torch.cat([bound_at, bound_at + 1, positions], dim=1)
        tokens.scatter_(1, columns, torch.cat([keys, keys[:, :u], values, queries], dim=1))
        return self.make_batch(tokens, positions, targets)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """A dictionary of the context, in which a later binding overwrites an earlier one."""
        bound = dict(zip(row[: self._context : 2], row[1 : self._context : 2], strict=True))
        return [bound.get(row[place], 0) for place in places]

    def spell(self, token: int) -> str:
        """`k7`, `v3`, and `.` for token 0."""
        if token == 0:
            return "."
        return f"k{token}" if token < self.vocab_size // 2 else f"v{token - self.vocab_size // 2}"

    def at_context(self, context: int) -> Task:
        """Pairs and updates in proportion (rounded down, at least 1 pair)."""
        pairs, updates = (number * context // self.length for number in (self.num_pairs, self.num_updates))
        return self.replace(length=context, num_pairs=max(1, pairs), num_updates=updates)

    def _slot_weights(self, device: torch.device) -> Float[Tensor, " S"]:
        return slot_weights((self.length - self._context) // 2, self.power, device)

    def _check_sizes(self) -> None:
        """UserError unless the bindings and queries fit into `length`, and keys and values into the vocabulary."""
        n, u, length = self.num_pairs, self.num_updates, self.length
        check_number("num_pairs", n, 1)
        check_number("num_updates", u, 0, n, f"num_pairs={n}: a key is bound again once")
        if length < 4 or length % 2:
            raise UserError(f"length={length} must be even and at least 4")
        if 4 * n + 2 * u > length:
            fits = _largest_that_fits(n, u, length)
            raise UserError(
                f"num_pairs={n} and num_updates={u} do not fit into length={length}: "
                f"at most {fits} do, or use length={4 * n + 2 * u} or more"
            )
        least = max(2 * n + 2, 2 * (n + u) - 1 if self.distinct_values else 0)
        check_number("vocab_size", self.vocab_size, least, MAX_HIGH, f"num_pairs={n}, num_updates={u}")


def _largest_that_fits(num_pairs: int, num_updates: int, length: int) -> str:
    """The most pairs with these updates; where none will do, the most updates of these pairs, or pairs alone."""
    if (length - 2 * num_updates) // 4 >= max(1, num_updates):
        return f"num_pairs={(length - 2 * num_updates) // 4} (num_updates={num_updates})"
    if 4 * num_pairs <= length:
        return f"num_updates={(length - 4 * num_pairs) // 2} (num_pairs={num_pairs})"
    return f"num_pairs={length // 4} (num_updates=0)"
