"""Modular arithmetic: values by Python's own eval, published examples, the law of expressions, chance and bits.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import re
from collections import Counter, defaultdict
from functools import cache, reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.errors import UserError
from hybrids.task import Batch, Split
from hybrids_plugins.tasks.modular_arithmetic import ModularArithmetic

MIN_P = 1e-4


def draw(count: int = 200, **kwargs) -> tuple[ModularArithmetic, Batch]:
    task = ModularArithmetic(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=Split.TRAIN)


def expressions(task: ModularArithmetic, batch: Batch) -> list[str]:
    """What stands before `=`, as Python reads it."""
    ends = batch.positions[:, 0].tolist()
    return [" ".join(map(task.spell, row[:end])) for row, end in zip(batch.tokens.tolist(), ends, strict=True)]


def from_left(expression: str, modulus: int) -> int:
    """Brackets around every step."""
    first, *rest = expression.split()
    steps = zip(rest[::2], rest[1::2], strict=True)
    return eval(reduce(lambda text, step: f"({text} {step[0]} {step[1]}) % {modulus}", steps, first)) % modulus


@settings(max_examples=80, deadline=None)
@given(
    st.integers(-1, 60),
    st.none() | st.integers(-1, 60),
    st.integers(1, 14),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["usual", "left_to_right"]),
    st.integers(0, 2**32),
)
def test_values_are_those_of_python_or_settings_are_refused(length, least, modulus, brackets, mult, precedence, seed):
    kwargs = {"length": length, "min_length": least, "modulus": modulus, "brackets": brackets, "multiplies": mult}
    fits = length >= 2 and (least is None or 2 <= least <= length) and (brackets or length % 2 == 0)
    if not fits or modulus < 2 or (brackets and precedence != "usual"):
        with pytest.raises(UserError):
            ModularArithmetic(**kwargs, precedence=precedence)
        return
    task = ModularArithmetic(**kwargs, precedence=precedence)
    batch = task.sample(torch.arange(8), seed=seed, split=Split.VAL)
    found = expressions(task, batch)
    value = eval if precedence == "usual" else lambda text: from_left(text, modulus)
    assert [value(text) % modulus for text in found] == batch.targets[:, 0].tolist()
    assert torch.equal(task.solve(batch.tokens, batch.positions), batch.targets)
    lengths = [len(text.split()) + 1 for text in found]
    assert lengths == batch.slices["length"].tolist() and set(lengths) <= set(task.slice_values["length"])
    assert all((least or length) <= n <= length for n in lengths)
    rows = zip(batch.tokens.tolist(), lengths, strict=True)
    assert all(task.spell(row[n - 1]) == "=" and not any(row[n:]) for row, n in rows)
    assert mult or not any("*" in text for text in found)
    assert brackets or not any("(" in text for text in found)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 2),  # the three of the published generator
        ("1 - 1 - 1", 4),
        ("0 * 1 + 4 * 3 - 2", 0),
        ("2 - 3 - 3 * 2", 3),  # these by hand
        ("( ( 1 + - 4 ) - ( ( 2 ) * 3 ) )", 1),
        ("( - 3 )", 2),
    ],
)
def test_the_oracle_reads_examples_of_the_published_generator_and_by_hand(expression, value):
    words = [*expression.split(), "="]
    task = ModularArithmetic(length=len(words), brackets="(" in expression)
    tokens = {task.spell(token): token for token in range(task.vocab_size)}
    row = torch.tensor([[tokens[word] for word in words]])
    assert task.solve(row, torch.tensor([[len(words) - 1]])).item() == value


def test_the_oracle_goes_from_left_to_right_where_asked():
    task = ModularArithmetic(length=8, precedence="left_to_right")
    tokens = {task.spell(token): token for token in range(task.vocab_size)}
    row = torch.tensor([[tokens[word] for word in "2-3-3*2="]])
    assert task.solve(row, torch.tensor([[7]])).item() == 2


@cache
def all_shapes(length: int) -> dict[str, float]:
    """Every bracketed expression of this length with its probability, numbers and operators left open."""
    if length < 5:
        return {{1: "d", 2: "-d", 3: "(d)", 4: "(-d)"}[length]: 1.0}
    shapes: dict[str, float] = defaultdict(float)
    for left in range(1, length - 3):
        for (x, p), (y, q) in itertools.product(all_shapes(left).items(), all_shapes(length - 3 - left).items()):
            shapes[f"({x}o{y})"] += p * q / (length - 4)
    return shapes


@pytest.mark.parametrize("length", [7, 11, 13])
def test_bracketed_expressions_have_the_published_law(length):
    task, batch = draw(6000, length=length + 1, brackets=True)
    found = [re.sub(r"[0-4]", "d", text.replace(" ", "")) for text in expressions(task, batch)]
    counts = Counter(re.sub(r"(?<=[d)])[-+*]", "o", text) for text in found)
    expected = all_shapes(length)
    assert set(counts) <= set(expected)
    pairs = [(counts[shape], 6000 * share) for shape, share in expected.items()]
    common = [pair for pair in pairs if pair[1] > 5]
    rare = [sum(column) for column in zip(*(pair for pair in pairs if pair[1] <= 5), strict=True)]
    observed, wanted = np.array([*common, *([rare] if rare else [])]).T
    assert stats.chisquare(observed, wanted).pvalue > MIN_P


@pytest.mark.parametrize("brackets", [False, True])
def test_numbers_operators_and_lengths_are_uniform(brackets):
    task, batch = draw(6000, length=20, min_length=8, brackets=brackets)
    words = Counter(word for text in expressions(task, batch) for word in text.split())
    assert stats.chisquare([words[str(d)] for d in range(5)]).pvalue > MIN_P
    operators = re.findall(r"[\d)] ([-+*])", "\n".join(expressions(task, batch)))
    assert stats.chisquare(list(Counter(operators).values())).pvalue > MIN_P
    lengths = Counter(batch.slices["length"].tolist())
    assert set(lengths) == set(range(8, 21, 1 if brackets else 2))
    assert stats.chisquare(list(lengths.values())).pvalue > MIN_P


def values_of_all(length: int, modulus: int, **kwargs) -> np.ndarray:
    """The law of the value, by enumeration of all expressions; Python evaluates them."""
    signs = "+-*" if kwargs.get("multiplies", True) else "+-"
    flat = {"o".join("d" * (length // 2)): 1.0}
    law = np.zeros(modulus)
    for shape, share in (all_shapes(length - 1) if kwargs.get("brackets") else flat).items():
        choices = [range(modulus) if letter == "d" else signs if letter == "o" else letter for letter in shape]
        texts = list(itertools.product(*choices))
        for text in texts:
            joined = " ".join(map(str, text))
            value = from_left(joined, modulus) if "precedence" in kwargs else eval(joined)
            law[value % modulus] += share / len(texts)
    return law


@pytest.mark.parametrize(
    ("length", "kwargs"),
    [
        (8, {}),
        (8, {"multiplies": False}),
        (8, {"precedence": "left_to_right"}),
        (12, {"brackets": True}),
        (13, {"brackets": True}),
        (9, {"brackets": True, "multiplies": False}),
    ],
)
def test_chance_and_bits_are_those_of_all_expressions(length, kwargs):
    task = ModularArithmetic(length=length, modulus=3, **kwargs)
    law = values_of_all(length, 3, **kwargs)
    assert task.chance_accuracy == pytest.approx(law.max())
    assert task.bits == pytest.approx(-law @ np.log2(law))


def test_chance_of_a_mixture_is_the_mean_over_its_lengths():
    task = ModularArithmetic(length=8, min_length=3)
    single = [ModularArithmetic(length=n) for n in (4, 6, 8)]
    assert task.chance_accuracy == pytest.approx(np.mean([other.chance_accuracy for other in single]))
    assert task.bits == pytest.approx(np.mean([other.bits for other in single]))
    assert (task.facts_end, single[-1].facts_end) == (None, 7)


@pytest.mark.parametrize("kwargs", [{}, {"brackets": True}, {"precedence": "left_to_right"}])
def test_values_of_long_expressions_have_the_stated_chance(kwargs):
    task, batch = draw(8000, length=60, **kwargs)
    counts = np.bincount(batch.targets[:, 0], minlength=5)
    assert abs(counts.max() / 8000 - task.chance_accuracy) < 4 * np.sqrt(0.25 / 8000)
    assert task.chance_accuracy > 1 / 5


def test_without_multiplication_all_values_are_as_likely():
    for brackets in (False, True):
        assert ModularArithmetic(multiplies=False, brackets=brackets).chance_accuracy == pytest.approx(1 / 5)


def test_sizes_keep_to_what_is_possible():
    task = ModularArithmetic(length=40, min_length=3)
    assert task.sizes == {"length": (40, 80, 160, 256)}
    assert task.resize(length=256).slice_values == {"length": (256,)}
    assert (task.at_context(99).length, task.replace(brackets=True).at_context(99).length) == (98, 99)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"length": 41}, "length=41 must be even without brackets"),
        ({"length": 0}, "length=0 must be from 2"),
        ({"modulus": 1}, "modulus=1 must be from 2 to 100"),
        ({"min_length": 41}, "min_length=41 must be from 2 to 40 (length=40)"),
        (
            {"brackets": True, "precedence": "left_to_right"},
            "precedence=left_to_right has no effect with brackets=True",
        ),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ModularArithmetic(**kwargs)
