"""The contract of a task: a family of examples with an answer."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybrids.errors import check_choice


class Split(IntEnum):
    """Independent streams of examples; the number enters the random key."""

    TRAIN = 0
    VAL = 1
    TEST = 2


class Batch(NamedTuple):
    """Examples of one step. Shapes depend on the task alone, never on the index."""

    tokens: Int[Tensor, "B T"]
    """Right-padded with any token: a causal model never sees the padding."""
    positions: Int[Tensor, "B P"]
    """Where an answer is read: the output at `positions[b, p]` is compared with `targets[b, p]`."""
    targets: Int[Tensor, "B P"]
    valid: Bool[Tensor, "B P"]
    """False where fewer than P answers are asked; such entries count nowhere."""
    slices: dict[str, Int[Tensor, " B"] | Int[Tensor, "B P"]]
    """What to report by: for each slice key one value per example, or one per answer. Answers that are not valid have
    any value that is declared."""


class Task(ABC):
    """A family of examples, each a pure function of (seed, split, index).

    Keyword-only constructor arguments are the configuration, and each is kept as an attribute of the same
    name (so that `replace` works). The constructor checks them and raises UserError.
    """

    generated_on: ClassVar[str] = "device"
    """`device`: sampled where the model is. `host`: needs compiled host code, sampled in loader workers."""
    alternatives: ClassVar[str | None] = None
    """A size that chooses which answer to the same prompt is the target; at most one of its values can be met."""

    facts_slice: ClassVar[str | None] = None
    """Slice key of the number of facts; None where no slice counts them."""
    choices: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Settings that take one of some words, and these words."""

    vocab_size: int
    length: int
    """T of every batch."""
    num_targets: int
    """P of every batch."""
    facts_end: int | None = None
    """Tokens after which all facts have been shown and no query has, in every example: what is carried there is all
    that answers can be read from. None where there is no such place."""

    @abstractmethod
    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        """Examples `index` of a split, on the device of `index`; no loop over examples, no host transfer."""

    @abstractmethod
    def solve(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        """The answers an exact reader gives; written independently of `sample`. Entries that are not valid: any."""

    @abstractmethod
    def spell(self, token: int) -> str:
        """How a person reads a token: without spaces, specials in square brackets such as `[BOS]`."""

    @property
    @abstractmethod
    def chance_accuracy(self) -> float:
        """Accuracy of the best answer that ignores the example; where a glance at it tells more (the degrees of a
        graph), of whoever takes that: the docstring of the task says so."""

    @property
    @abstractmethod
    def slice_values(self) -> dict[str, tuple[int, ...]]:
        """For each slice key, the values that can occur, ascending."""

    @property
    @abstractmethod
    def facts(self) -> int | None:
        """Facts that an example shows (pairs, tokens, table entries), or None where they have no single number."""

    @property
    @abstractmethod
    def bits(self) -> float | None:
        """Bits an exact answerer must have stored per example when the query arrives; None with a reason."""

    @abstractmethod
    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """Lower bound on the bits a model with these mean error rates has stored; None as for `bits`."""

    @property
    @abstractmethod
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Settings that evaluation varies beyond training, with the values of the default grid."""

    @abstractmethod
    def resize(self, **sizes: int) -> "Task":
        """The same task at other `sizes`; UserError where they do not fit together."""

    @abstractmethod
    def at_context(self, context: int) -> "Task":
        """The same task at another context, its number of facts in proportion."""

    def check_choices(self) -> None:
        """UserError unless every setting in `choices` is one of its words."""
        for name, words in self.choices.items():
            check_choice(name, getattr(self, name), words)

    def settings(self) -> dict[str, Any]:
        """Constructor arguments of this task, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def replace(self, **changes: Any) -> "Task":
        """The same task with some settings changed."""
        return type(self)(**{**self.settings(), **changes})


@runtime_checkable
class VariesFacts(Protocol):
    """What the class of a task has whose examples can show different numbers of facts; capacity asks for it.

    The values of the facts are then independent and uniform over one alphabet.
    """

    facts_slice: str
    """Slice key of the number of facts."""

    def vary_facts(self, facts: Sequence[int], settings: Mapping[str, Any]) -> dict[str, Any]:
        """A class method: what to change in `settings` so that each of `facts` is equally likely, at one length."""
        ...


class Episode(NamedTuple):
    """One example as it is decoded, in lists of tokens."""

    prompt: list[int]
    trace: list[int]
    """What a perfect model writes after the prompt, to the end of its answer, and what searches return."""
    answers: list[list[int]]
    """What the searches in `trace` return, in order; empty without searches."""


class DecodedTask(Task):
    """A task whose model writes a trace before its answer, scored by what it generates.

    `sample` gives the prompts with their reference traces, for teacher forcing: targets are the tokens of the trace
    that the model itself has to write. `episodes` gives the same examples for decoding.
    """

    max_new_tokens: int
    """Tokens that a model may generate per example; what searches return does not count."""
    stop_tokens: tuple[int, ...]
    """Tokens that end an answer."""

    @abstractmethod
    def episodes(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> list[Episode]:
        """Examples `index` of a split."""

    @abstractmethod
    def search(self, tokens: Sequence[int]) -> list[int] | None:
        """What the search that `tokens` (prompt and all that followed) end in returns; None if they end in none."""

    @abstractmethod
    def judge(self, episode: Episode, written: Sequence[int]) -> bool | None:
        """Whether the answer in `written` (all that followed the prompt) is right; None where there is none."""
