"""The word problem: elements of a finite group, and the product so far after each of them."""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.registry import register
from hybrids.rng import Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.prefixes import Lengths, prefix_scan, prefix_slice, prefix_values
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.recalled_bits import entropy_bits
from hybrids.tasks.sizes import FAR, multiples
from hybrids_plugins.tasks.word_problem.groups import group_of


@register("task", "word_problem", source="arXiv:2404.08819 (word problems); arXiv:2411.12537 (parity)")
class WordProblem(RecallTask):
    """Elements x_1 ... x_T of a group, drawn independently; at each the product x_1 ... x_t is asked. For S3:

        (01) (012) () (02)              answers (01) (02) (02) ()

    Settings: `group`: `S5`, `A5`, `Z60`, ..., or a direct product such as `A4xZ5`, of at most 1,000 elements; parity is
    `Z2`. `tokens`: each x is uniform over all `elements`; over the identity and `generators`, which are for S_n (0 1)
    and the cycle of all points, for A_n (0 1 2) and the cycle of all points (of all but 0 where n is even), for Z_n
    1; or over the identity and all `swaps` (factors S_n only). The product of permutations is their composition from
    left to right: x_1 acts first. Element i is token i, also as an answer, and spelled as its cycles or its residue.

    Lengths: all examples have `length` tokens; with `min_length` as many as are drawn uniformly from there to
    `length`, followed by padding, where nothing is asked. `resize` gives one length, unless it is given `min_length`.
    The slice `prefix` is the number of tokens read, rounded up to a power of two: accuracy by position.

    Chance: the best element at each position, averaged over the answers: 1 / |G| for `tokens=elements`. For the others
    the law of the product after t factors is computed exactly, as t steps of a random walk on the group.
    Bits: the entropy H of the product of the tokens before, which an exact answerer holds when the next token arrives
    (given that token, answer and product so far determine each other): log2 |G| for `tokens=elements`, else the mean
    over all answers but the first. With an error rate e the mean of what is held is at least the mean of H less
    h(x) + x log2(|G| - 1) with x = e A / (A - 1), for A answers per example on average: the first needs no state, so
    that all errors may be in the others, and Fano's bound is concave. `facts` is None: no fact is kept as such.

    Source: arXiv:2404.08819 (A5, A4xZ5, Z60, tokens are elements, a label at every prefix); arXiv:2411.12537 (parity,
    trained on lengths 3 to 40 and tested on 40 to 256; S5 with swaps). Differs: parity has a label at every prefix,
    not only the last; no token begins a sequence.
    """

    choices: ClassVar = {"tokens": ("elements", "generators", "swaps")}
    unset_by_resize = ("min_length",)  # all examples of one length

    def __init__(
        self, *, group: str = "S3", length: int = 32, min_length: int | None = None, tokens: str = "elements"
    ) -> None:
        self.group, self.length, self.min_length, self.tokens = group, length, min_length, tokens
        self.check_choices()
        self._group = group_of(group)
        self._lengths = Lengths.of(length, min_length)
        if self._lengths.high < 2:
            raise UserError("length=1 must be at least 2: the product of one token is that token")
        if tokens == "swaps" and any(factor.kind != "S" or factor.n < 2 for factor in self._group.factors):
            raise UserError(f"tokens='swaps' needs a symmetric group as S5; group={group!r} is none")
        self.vocab_size, self.num_targets = self._group.order, length
        self.varying_slices = {"prefix": prefix_values(1, length)}
        self.grid = {"length": multiples(length, FAR)}
        self.stored = self._store()

    def _store(self) -> Stored:
        order, shares = self._group.order, self._lengths.shares
        best, entropy = walk(self.group, self.tokens, self.length)
        bits = float(shares[1:] @ entropy[:-1] / shares[1:].sum())
        chance = float(shares @ best / shares.sum())
        return Stored(None, order, bits, num_answers=1, chance=chance, share=float(1 - shares[0] / shares.sum()))

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        order, (alphabet, products) = self._group.order, _tables(self.group, self.tokens, index.device)
        word = alphabet[draws.integers("word", self.length, len(alphabet))]
        targets = prefix_scan(word, lambda earlier, later: products[earlier * order + later])
        positions = torch.arange(self.length, device=index.device)
        is_shown = positions < self._lengths.draw(draws)
        prefix = prefix_slice(positions + 1).expand_as(targets)
        return self.make_batch(word * is_shown, positions, targets, valid=is_shown, prefix=prefix)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """One token after another, each factor of the group by itself."""
        factors, answers = self._group.factors, []
        product = [0] * len(factors)
        for token in row:
            digits = zip(factors, product, self._group.digits(token), strict=True)
            product = [factor.multiply(x, y) for factor, x, y in digits]
            answers.append(self._group.number(product))
        return [answers[place] for place in places]

    def spell(self, token: int) -> str:
        """`(01)(234)` for a permutation, `()` for the identity, `7` for a residue, `(012)*3` in a direct product."""
        return self._group.spell(token)

    def at_context(self, context: int) -> Task:
        """All examples of this length."""
        return self.resize(length=context)


class Tables(NamedTuple):
    """A group on a device."""

    alphabet: Int[Tensor, " A"]
    products: Int[Tensor, " NN"]
    """x y at x * order + y."""


@lru_cache(maxsize=16)
def _tables(group: str, tokens: str, device: torch.device) -> Tables:
    alphabet = torch.tensor(group_of(group).alphabet(tokens), device=device)
    return Tables(alphabet, group_of(group).table().flatten().to(device))


class Walk(NamedTuple):
    """Of the product after t = 1 ... T tokens."""

    best: Float[Tensor, " T"]
    """The probability of the likeliest element."""
    entropy: Float[Tensor, " T"]
    """In bits."""


@lru_cache(maxsize=64)
def walk(group: str, tokens: str, length: int) -> Walk:
    """The law of the product of uniform tokens, exactly."""
    order = group_of(group).order
    if tokens == "elements":
        entropy = torch.full((length,), order, dtype=torch.float64).log2()
        return Walk(torch.full_like(entropy, 1 / order), entropy)
    alphabet, products = _tables(group, tokens, torch.device("cpu"))
    reached = products.view(order, order)[:, alphabet].flatten()
    law = torch.zeros(order, dtype=torch.float64)
    law[0] = 1
    laws = []
    for _ in range(length):
        law = torch.zeros_like(law).index_add_(0, reached, law.repeat_interleave(len(alphabet)) / len(alphabet))
        laws.append(law)
    laws = torch.stack(laws)
    return Walk(laws.amax(dim=1), entropy_bits(laws))
