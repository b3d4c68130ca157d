"""Checks of a task: examples are functions of (seed, split, index), and their answers are the oracle's."""

import math
import pickle
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hybrids import registry
from hybrids.checks.settings import settings_are_a_schema
from hybrids.checks.subject import Check, Subject, no_error, resized
from hybrids.errors import UserError
from hybrids.task import Batch, Split

NUM_EXAMPLES = 48
NUM_CHANCE_EXAMPLES = 512
NUM_SPELLED = 2**14
ERRORS = (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0)


def declarations_are_plausible(subject: Subject) -> None:
    """Sizes are positive integers, and `generated_on` is one of the two places."""
    task = subject.task()
    for name in ("vocab_size", "length", "num_targets"):
        value = getattr(task, name, None)
        assert isinstance(value, int), f"{name} is {value!r}; it must be an integer"
        assert value > 0, f"{name} is {value}; it must be positive"
    assert task.generated_on in ("device", "host"), f"generated_on is {task.generated_on!r}; allowed: device, host"


def choices_are_words_of_settings(subject: Subject) -> None:
    """Each key of `choices` is a setting, its default is one of its words, and any other word raises UserError."""
    defaults = registry.defaults_of(subject.cls)
    for name, words in subject.cls.choices.items():
        assert name in defaults, f"choices has {name!r}, which is no setting: {', '.join(defaults)}"
        allowed = f"choices[{name!r}] is {', '.join(words)}"
        assert defaults[name] in words, f"{name} is {defaults[name]!r} by default, {allowed}"
        try:
            subject.cls(**{**subject.settings, name: "?"})
        except UserError:
            continue
        raise AssertionError(f"{name}='?' is accepted, {allowed}")


def batches_have_declared_shapes(subject: Subject) -> None:
    """Shapes are those that the task declares, and dtypes those of a Batch."""
    task = subject.task()
    for batch_size in (1, 5):
        batch = _sample(task, range(batch_size))
        _assert_tensor("tokens", batch.tokens, (batch_size, task.length))
        for name in ("positions", "targets", "valid"):
            _assert_tensor(name, getattr(batch, name), (batch_size, task.num_targets), is_boolean=name == "valid")
        for key, values in batch.slices.items():
            of_answers = isinstance(values, Tensor) and values.dim() == 2
            shape = (batch_size, task.num_targets) if of_answers else (batch_size,)
            _assert_tensor(f"slices[{key!r}]", values, shape)


def numbers_are_in_range(subject: Subject) -> None:
    """Tokens and valid targets are in the vocabulary, positions in the sequence; every example asks."""
    task = subject.task()
    for split in Split:
        batch = _sample(task, range(NUM_EXAMPLES), split=split)
        _assert_range("tokens", batch.tokens, task.vocab_size)
        _assert_range("targets", batch.targets[batch.valid], task.vocab_size)
        _assert_range("positions", batch.positions, task.length)
        silent = (~batch.valid.any(dim=1)).nonzero().flatten().tolist()
        assert not silent, f"examples {silent[:5]} of {split.name} have no valid answer"


def examples_depend_on_their_index_alone(subject: Subject) -> None:
    """An example is the same in any batch, in any order, from any instance, whatever torch's global seed."""
    first, second = subject.task(), subject.task()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = _tensors(_sample(first, range(NUM_EXAMPLES)))
        torch.manual_seed(2)
        for index in ([7], [3, 40, 3], list(reversed(range(NUM_EXAMPLES)))):
            rows = {name: values[index] for name, values in expected.items()}
            short = index if len(index) < 5 else f"[{index[0]} ... {index[-1]}]"
            for task in (first, second):
                _assert_same_batch(_sample(task, index), rows, f"sampled as batch {short}")


def splits_seeds_and_indices_differ(subject: Subject) -> None:
    """Another split, seed or index gives other examples."""
    task, index = subject.task(), range(NUM_EXAMPLES)
    tokens = _sample(task, index).tokens
    others = {f"split {split.name}": _sample(task, index, split=split).tokens for split in (Split.VAL, Split.TEST)}
    others["seed 1"] = _sample(task, index, seed=1).tokens
    others["indices that start elsewhere"] = _sample(task, range(10**6, 10**6 + NUM_EXAMPLES)).tokens
    for what, other in others.items():
        assert not torch.equal(tokens, other), f"{what}: the same examples as split TRAIN, seed 0, indices from 0"
    assert (tokens != tokens[:1]).any(), "all examples are the same"


def oracle_agrees(subject: Subject) -> None:
    """`solve` gives the targets from tokens and positions alone: in an instance that never sampled them."""
    for seed, split in ((0, Split.TRAIN), (1, Split.TEST)):
        _assert_solved(subject.task(), _sample(subject.task(), range(NUM_EXAMPLES), seed=seed, split=split))


def answers_can_be_known(subject: Subject) -> None:
    """No answer hangs on a token after the last position asked: a causal model never sees it."""
    task = subject.task()
    batch = _sample(task, range(NUM_EXAMPLES))
    last = torch.where(batch.valid, batch.positions, -1).amax(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(task.vocab_size, batch.tokens.shape, generator=generator, dtype=batch.tokens.dtype)
    hidden = torch.where(torch.arange(task.length) > last, noise, batch.tokens)
    _assert_solved(task, batch._replace(tokens=hidden), " once the tokens after the last position asked are replaced")


def slices_are_declared(subject: Subject) -> None:
    """The slice keys and values that occur are those of `slice_values`, which are ascending."""
    task = subject.task()
    declared, found = task.slice_values, _sample(task, range(NUM_EXAMPLES)).slices
    assert set(declared) == set(found), f"slice_values has keys {sorted(declared)}, batches have {sorted(found)}"
    for key, values in declared.items():
        assert list(values) == sorted(set(values)), f"slice_values[{key!r}] = {values} is not ascending"
        stray = set(found[key].flatten().tolist()) - set(values)
        assert not stray, f"slices[{key!r}] takes values {sorted(stray)}, which slice_values does not declare"


def facts_slice_counts_facts(subject: Subject) -> None:
    """`facts_slice`, where there is one, is a slice key whose values are `facts`, where that is a number."""
    task = subject.task()
    key, slices = task.facts_slice, _sample(task, range(NUM_EXAMPLES)).slices
    assert key is None or key in slices, f"facts_slice is {key!r}; slices are {', '.join(slices) or 'none'}"
    assert key is None or slices[key].dim() == 1, f"slices[{key!r}] has a value per answer; facts are of an example"
    if key is not None and task.facts is not None:
        found = set(slices[key].tolist())
        assert found == {task.facts}, f"slices[{key!r}] takes values {sorted(found)}, facts is {task.facts}"


def chance_is_not_beaten_by_a_constant(subject: Subject) -> None:
    """`chance_accuracy` is in [0, 1], and no constant answer does better than it by more than luck."""
    task = subject.task()
    chance = task.chance_accuracy
    assert 0 <= chance <= 1, f"chance_accuracy is {chance}; it must be from 0 to 1"
    batch = _sample(task, range(NUM_CHANCE_EXAMPLES))
    best = batch.targets[batch.valid].unique(return_counts=True)[1].max().item() / int(batch.valid.sum())
    # Answers of one example may be alike: luck is that of as many draws as examples, and 10 for rare answers.
    luck = 6 * math.sqrt(chance * (1 - chance) / NUM_CHANCE_EXAMPLES) + 10 / NUM_CHANCE_EXAMPLES
    assert best <= chance + luck, f"a constant answer is right {best:.1%} of the time, chance_accuracy is {chance:.1%}"


def tokens_have_spellings(subject: Subject) -> None:
    """`spell` gives every token a text of its own, without spaces."""
    task = subject.task()
    spelled: dict[str, int] = {}
    for token in range(min(task.vocab_size, NUM_SPELLED)):
        text = task.spell(token)
        assert text and not any(c.isspace() for c in text), f"spell({token}) is {text!r}: empty, or with a space"
        assert text not in spelled, f"spell({token}) and spell({spelled[text]}) are both {text!r}"
        spelled[text] = token


def recalled_bits_are_consistent(subject: Subject) -> None:
    """Without errors all bits are recalled; more errors never recall more; never less than none."""
    task = subject.task()
    errors = torch.tensor(ERRORS, dtype=torch.float64)
    bits, recalled = task.bits, task.recalled_bits(errors)
    assert task.facts is None or task.facts > 0, f"facts is {task.facts}; it must be positive, or None"
    assert (bits is None) == (recalled is None), "bits and recalled_bits must both be None, or neither"
    if bits is None:
        return
    assert bits > 0, f"bits is {bits}; it must be positive, or None where nothing has to be stored"
    assert recalled.shape == errors.shape, f"recalled_bits changes the shape {list(errors.shape)} of the errors"
    assert math.isclose(recalled[0].item(), bits, rel_tol=1e-6), f"recalled_bits(0) is {recalled[0]}, bits is {bits}"
    assert (recalled >= 0).all(), f"recalled_bits is negative: {recalled.tolist()} at errors {ERRORS}"
    assert (recalled.diff() <= 1e-9).all(), f"recalled_bits rises with errors: {recalled.tolist()} at {ERRORS}"


def settings_make_the_task_again(subject: Subject) -> None:
    """`settings()` and `replace()` give a task with the same settings and examples; so does pickling."""
    task = subject.task()
    expected = _tensors(_sample(task, range(4)))
    for what, made in _remade(task):
        assert type(made) is type(task), f"{what} gives a {type(made).__name__}"
        assert made.settings() == task.settings(), f"{what} changes settings: {made.settings()}, {task.settings()}"
        _assert_same_batch(_sample(made, range(4)), expected, f"after {what}")


def sizes_keep_the_vocabulary(subject: Subject) -> None:
    """`resize` to a value of `sizes` raises UserError, or gives that size, the same vocabulary, right answers."""
    task = subject.task()
    for name, values in task.sizes.items():
        assert name in task.settings(), f"sizes has {name!r}, which is no setting: {', '.join(task.settings())}"
        assert values, f"sizes[{name!r}] is empty"
    for name, value, other in resized(task):
        what, got = f"resize({name}={value})", other.settings()[name]
        assert got == value, f"{what} gives a task with {name}={got}"
        _assert_vocabulary(other, task, what)
        _assert_solved(other, _sample(other, range(4)), f" after {what}")


def contexts_scale(subject: Subject) -> None:
    """`at_context(n)` is the same task and vocabulary, longer but within n; the oracle agrees there, too."""
    task = subject.task()
    for factor in (2, 4):
        context = factor * task.length
        other = task.at_context(context)
        assert type(other) is type(task), f"at_context({context}) gives a {type(other).__name__}"
        _assert_vocabulary(other, task, f"at_context({context})")
        within = task.length < other.length <= context
        assert within, f"at_context({context}) has length {other.length}; expected above {task.length}, within it"
        _assert_solved(other, _sample(other, range(8)), f" at_context({context})")


TASK_CHECKS: tuple[Check, ...] = (
    settings_are_a_schema,
    settings_make_the_task_again,
    declarations_are_plausible,
    choices_are_words_of_settings,
    batches_have_declared_shapes,
    numbers_are_in_range,
    examples_depend_on_their_index_alone,
    splits_seeds_and_indices_differ,
    oracle_agrees,
    answers_can_be_known,
    slices_are_declared,
    facts_slice_counts_facts,
    tokens_have_spellings,
    chance_is_not_beaten_by_a_constant,
    recalled_bits_are_consistent,
    sizes_keep_the_vocabulary,
    contexts_scale,
)


def _sample(task: Any, index: Any, *, seed: int = 0, split: Split = Split.TRAIN) -> Batch:
    return task.sample(torch.tensor(list(index)), seed=seed, split=split)


def _remade(task: Any) -> Iterator[tuple[str, Any]]:
    yield "type(task)(**task.settings())", type(task)(**task.settings())
    yield "replace()", task.replace()
    with no_error("cannot be pickled, which loader workers need"):
        pickled = pickle.loads(pickle.dumps(task))
    yield "pickling", pickled


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch by name, slices included."""
    slices = {f"slices[{key!r}]": values for key, values in batch.slices.items()}
    return {name: getattr(batch, name) for name in Batch._fields if name != "slices"} | slices


def _assert_same_batch(batch: Batch, expected: dict[str, Tensor], when: str) -> None:
    got = _tensors(batch)
    for name, value in expected.items():
        same = name in got and torch.equal(got[name], value)
        assert same, f"{name} of the same examples differ when {when}: use (seed, split, index) and nothing else"


def _assert_tensor(name: str, value: Any, shape: tuple[int, ...], *, is_boolean: bool = False) -> None:
    assert isinstance(value, Tensor), f"{name} is a {type(value).__name__}, not a tensor"
    assert value.shape == shape, f"{name} has shape {list(value.shape)}, declared is {list(shape)}"
    is_integer = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    is_right = value.dtype == torch.bool if is_boolean else is_integer
    assert is_right, f"{name} has dtype {value.dtype}; it must be {'boolean' if is_boolean else 'an integer'}"


def _assert_range(name: str, values: Tensor, limit: int) -> None:
    low, high = values.min().item(), values.max().item()
    assert low >= 0 and high < limit, f"{name} go from {low} to {high}; allowed: 0 to {limit - 1}"


def _assert_solved(task: Any, batch: Batch, when: str = "") -> None:
    answers = task.solve(batch.tokens, batch.positions)
    assert answers.shape == batch.targets.shape, f"solve gives shape {list(answers.shape)}{when}"
    wrong = ((answers != batch.targets) & batch.valid).nonzero()
    assert not len(wrong), (
        f"solve and targets disagree on {len(wrong)} of {int(batch.valid.sum())} answers{when}; "
        f"the first is answer {wrong[0, 1]} of example {wrong[0, 0]}"
    )


def _assert_vocabulary(other: Any, task: Any, what: str) -> None:
    assert other.vocab_size == task.vocab_size, (
        f"{what} changes vocab_size from {task.vocab_size} to {other.vocab_size}: no trained model fits"
    )
