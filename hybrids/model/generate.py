"""Generate: prefill, then one cached step per token, for prompts of different lengths at once.

Rows advance in lockstep, one token each, and no state holds padding: prefill covers the shortest prompt, and a row
that is still inside its prompt, or inside the answer of a tool, consumes forced tokens while the others generate.
So at any time every row has as many tokens, its `position`, which is the same as when the row runs alone. A row
that has finished is fed the token 0 until the others have; nobody reads what it makes of it.

A row gets the tokens that it would get alone. Rows never see each other, and samples depend on (seed, index of the
row, position) only. What does depend on the batch is rounding: products of another shape add in another order, and
the rest of a long prompt enters step by step. Exact ties would turn this into other tokens, so a choice takes the
first token within `TIE` of the best one. What remains are logits that differ by TIE itself to within rounding: rare
in float32; in bfloat16, whose rounding is coarser than any such margin, not.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import suggest
from hybrids.model.model import Model
from hybrids.ops.precision import at_least_float32
from hybrids.rng import SCALE_BITS, Draws, exponentials

TIE = 2.0**-16
"""Logits that differ by less than this share of the largest magnitude in their row count as equal."""

_STREAM = -1
"""Stream of the random numbers; those of a task's splits are 0 and up."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen: the best one at temperature 0, else drawn from softmax(logits / temperature).

    `top_k` keeps the k best tokens, and those that tie with the k-th.
    """

    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature} must be finite and at least 0 (0: the best token)")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be at least 1, or None for all tokens")

    def choose(self, logits: Float[Tensor, "B V"], index: Int[Tensor, " B"], position: int) -> Int[Tensor, " B"]:
        """The token of each row after `position` others, without waiting; `index` names a row's random numbers."""
        logits = at_least_float32(logits)
        margin, num_tokens = TIE * logits.abs().amax(-1, keepdim=True), logits.shape[-1]
        if self.temperature == 0:
            return _first_best(logits, margin)
        if self.top_k is not None and self.top_k < num_tokens:
            kept = logits.topk(self.top_k).values[:, -1:] - margin
            logits = logits.masked_fill(logits < kept, -torch.inf)
        # Arrivals at the rates softmax(logits): token i is the first to arrive with the probability of i.
        words = Draws.of(index, seed=self.seed, stream=_STREAM).bits(f"token {position}", num_tokens)
        waits = exponentials(words).to(torch.float64) * (math.log(2) / 2**SCALE_BITS)
        return _first_best(logits.to(torch.float64) / self.temperature - waits.log(), margin / self.temperature)


def _first_best(scores: Float[Tensor, "B V"], margin: Float[Tensor, "B 1"]) -> Int[Tensor, " B"]:
    """The first token whose score is within the margin of the largest."""
    return (scores >= scores.amax(-1, keepdim=True) - margin).to(torch.uint8).argmax(-1)


@dataclass(frozen=True)
class Generation:
    """What followed each prompt."""

    tokens: list[list[int]]
    """Generated and forced tokens in order; a stop token is the last one."""
    num_generated: list[int]
    num_forced: list[int]
    """Tokens that came from `forced` and from the hook; the prompt does not count."""
    is_stopped: list[bool]
    """Whether a stop token ended the row; otherwise `max_new_tokens` did."""
    logits: list[Float[Tensor, "N V"]] | None
    """For each token, forced ones too, what it was or would have been chosen from; only with `keep_logits`."""


@dataclass
class Continuation:
    """One sequence as a hook sees it."""

    number: int
    """Place in the batch."""
    prompt: Sequence[int]
    tokens: list[int]
    """What followed the prompt so far."""


Hook: TypeAlias = Callable[[int, list[Continuation]], Mapping[int, Sequence[int]] | None]
"""`(position, rows)` -> tokens that rows must consume next, by number of the row; None for none.

Called after every step with the rows that generated a token in it and go on. `position` counts the tokens of each
row, prompt and new one included.
"""


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_tokens: Collection[int] = (),
    forced: Sequence[Sequence[int]] | None = None,
    hook: Hook | None = None,
    index: Sequence[int] | None = None,
    keep_logits: bool = False,
) -> Generation:
    """Continue every prompt until it generates a stop token or has generated `max_new_tokens` tokens.

    The default `sampling` takes the best token. `forced[i]` is consumed right after prompt i. Forced tokens neither
    stop a row nor count towards `max_new_tokens`; those left when a row ends are not consumed. `index[i]` names the
    random numbers of row i (default: its place), so that it can be sampled again in another batch.

    With stop tokens or a hook the host reads the B new tokens of every step; otherwise it never waits for the device
    before the end. Raises ValueError for what does not fit together and for tokens outside the vocabulary.
    """
    batch = _Batch(_start_rows(prompts, forced, max_new_tokens), frozenset(stop_tokens), hook, model)
    sampling = sampling or Sampling()
    device = model.embedding.weight.device
    index = range(len(prompts)) if index is None else index
    _check_length("index", index, len(prompts))
    whose = torch.tensor(list(index), device=device)
    tokens = torch.tensor([prompt[: batch.position] for prompt in prompts], device=device)
    seen, cache = [], None
    with _evaluating(model), torch.inference_mode():
        while not batch.is_done:
            logits, cache = model(tokens, cache)
            seen += [logits[:, 0]] if keep_logits else []
            tokens = batch.advance(sampling.choose(logits[:, 0], whose, batch.position)).unsqueeze(1)
    return batch.finish(torch.stack(seen, dim=1) if keep_logits else None)


class _Turn(Enum):
    """Where the next token of a row comes from."""

    PROMPT = auto()
    FORCED = auto()
    GENERATED = auto()
    IDLE = auto()


@dataclass
class _Growth:
    """A row, and what the host knows of its tokens without asking the device."""

    row: Continuation
    rest_of_prompt: deque[int]
    queue: deque[int]
    num_left: int
    is_stopped: bool = False
    turns: list[_Turn] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return self.is_stopped or self.num_left == 0

    def next_turn(self) -> int | None:
        """The next token if it is known, None where the row generates."""
        if self.is_done:
            turn, token = _Turn.IDLE, 0
        elif self.rest_of_prompt:
            turn, token = _Turn.PROMPT, self.rest_of_prompt.popleft()
        elif self.queue:
            turn, token = _Turn.FORCED, self.queue.popleft()
        else:
            turn, token = _Turn.GENERATED, None
            self.num_left -= 1
        self.turns.append(turn)
        return token

    def steps(self, *turns: _Turn) -> list[int]:
        """The steps in which the token came from there."""
        return [step for step, turn in enumerate(self.turns) if turn in turns]


class _Batch:
    """The rows of one call, advanced together."""

    def __init__(self, rows: list[_Growth], stop_tokens: frozenset[int], hook: Hook | None, model: Model) -> None:
        self.rows, self.stop_tokens, self.hook = rows, stop_tokens, hook
        self.vocab_size = model.embedding.num_embeddings
        self.position = min(len(growth.row.prompt) for growth in rows)
        for growth in rows:
            growth.rest_of_prompt.extend(growth.row.prompt[self.position :])
            _check_tokens(f"prompt {growth.row.number}", growth.row.prompt, self.vocab_size)
            _check_tokens(f"forced tokens of row {growth.row.number}", growth.queue, self.vocab_size)
        _check_tokens("stop_tokens", stop_tokens, self.vocab_size)
        self.columns: list[Tensor] = []

    @property
    def is_done(self) -> bool:
        return all(growth.is_done for growth in self.rows)

    def advance(self, chosen: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """The next token of each row: the chosen one where the row generates."""
        known = [growth.next_turn() for growth in self.rows]
        tokens = chosen
        if any(token is not None for token in known):
            # A plain torch.tensor(..., device=) would wait until the device has done all that was asked of it.
            forced = torch.tensor([-1 if token is None else token for token in known])
            forced = forced.to(chosen.device, non_blocking=True)
            tokens = torch.where(forced >= 0, forced, chosen)
        self.columns.append(tokens)
        self.position += 1
        if self.stop_tokens or self.hook is not None:
            self._record(-1, tokens.tolist())
            self._react()
        return tokens

    def finish(self, seen: Float[Tensor, "B S V"] | None) -> Generation:
        if not self.stop_tokens and self.hook is None:
            for step, column in enumerate(torch.stack(self.columns).tolist()):
                self._record(step, column)
        told = [growth.steps(_Turn.FORCED, _Turn.GENERATED) for growth in self.rows]
        return Generation(
            tokens=[growth.row.tokens for growth in self.rows],
            num_generated=[len(growth.steps(_Turn.GENERATED)) for growth in self.rows],
            num_forced=[len(growth.steps(_Turn.FORCED)) for growth in self.rows],
            is_stopped=[growth.is_stopped for growth in self.rows],
            logits=None if seen is None else [row[steps] for row, steps in zip(seen, told, strict=True)],
        )

    def _record(self, step: int, column: list[int]) -> None:
        for growth, token in zip(self.rows, column, strict=True):
            if growth.turns[step] in (_Turn.FORCED, _Turn.GENERATED):
                growth.row.tokens.append(token)

    def _react(self) -> None:
        """Stop the rows that have just generated a stop token, and ask the hook about the others."""
        new = [growth for growth in self.rows if growth.turns[-1] is _Turn.GENERATED]
        for growth in new:
            growth.is_stopped = growth.row.tokens[-1] in self.stop_tokens
        asking = {growth.row.number: growth for growth in new if not growth.is_done}
        if self.hook is None or not asking:
            return
        for number, tokens in (self.hook(self.position, [growth.row for growth in asking.values()]) or {}).items():
            if number not in asking:
                raise ValueError(f"the hook answers row {number}; {suggest(str(number), map(str, asking))}")
            _check_tokens(f"answer of the hook to row {number}", tokens, self.vocab_size)
            asking[number].queue.extend(tokens)


def _start_rows(
    prompts: Sequence[Sequence[int]], forced: Sequence[Sequence[int]] | None, max_new_tokens: int
) -> list[_Growth]:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens} must be at least 1")
    if not prompts:
        raise ValueError("prompts is empty; give at least one prompt")
    forced = [()] * len(prompts) if forced is None else forced
    _check_length("forced", forced, len(prompts))
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {number} is empty; a prompt needs at least one token")
    pairs = enumerate(zip(prompts, forced, strict=True))
    return [_Growth(Continuation(i, prompt, []), deque(), deque(queue), max_new_tokens) for i, (prompt, queue) in pairs]


def _check_tokens(name: str, tokens: Collection[int], vocab_size: int) -> None:
    for token in tokens:
        if not 0 <= token < vocab_size:
            raise ValueError(f"{name}: token {token} is not in the vocabulary; allowed: 0 to {vocab_size - 1}")


def _check_length(name: str, given: Sequence[object], num_prompts: int) -> None:
    if len(given) != num_prompts:
        raise ValueError(f"{name} has {len(given)} entries; {num_prompts} are needed, one for each prompt")


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
