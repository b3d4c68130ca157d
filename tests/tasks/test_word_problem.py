"""Word problems: groups against sympy, products, lengths, chance and bits by enumeration, what is refused.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import math
import re
from collections import Counter
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sympy.combinatorics import AlternatingGroup, Permutation, PermutationGroup, SymmetricGroup

from hybrids.errors import UserError
from hybrids.task import Batch, Split
from hybrids_plugins.tasks.word_problem import WordProblem

MIN_P = 1e-4


def draw(count: int = 64, *, split: Split = Split.TRAIN, **kwargs) -> tuple[WordProblem, Batch]:
    task = WordProblem(**kwargs)
    return task, task.sample(torch.arange(count), seed=0, split=split)


def to_sympy(spelled: str, num_points: int) -> Permutation:
    """A permutation by its cycles."""
    cycles = [[int(point) for point in cycle] for cycle in re.findall(r"\((\d+)\)", spelled)]
    return Permutation(cycles, size=num_points)


def products(row: list[int], task: WordProblem, num_points: int) -> list[Permutation]:
    """Sympy's `p * q` applies p first."""
    return list(itertools.accumulate((to_sympy(task.spell(token), num_points) for token in row), lambda p, q: p * q))


@pytest.mark.parametrize(
    ("name", "group"),
    [("S3", SymmetricGroup(3)), ("S5", SymmetricGroup(5)), ("A4", AlternatingGroup(4)), ("A5", AlternatingGroup(5))],
)
@pytest.mark.parametrize("tokens", ["elements", "generators"])
def test_products_are_those_of_sympy(name, group, tokens):
    task, batch = draw(40, group=name, length=12, tokens=tokens)
    assert task.vocab_size == group.order()
    for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        expected = products(row, task, group.degree)
        assert [to_sympy(task.spell(token), group.degree) for token in targets] == expected
        assert all(group.contains(product) for product in expected)


@pytest.mark.parametrize("name", ["S2", "S3", "S4", "S5", "A3", "A4", "A5", "A6"])
def test_generators_generate_the_group_and_no_less(name):
    task, batch = draw(200, group=name, tokens="generators")
    spelled = {task.spell(token) for token in batch.tokens.flatten().tolist()}
    found = PermutationGroup([to_sympy(word, int(name[1])) for word in spelled])
    assert found.order() == task.vocab_size and "()" in spelled and len(spelled) <= 3


@pytest.mark.parametrize("n", [2, 3, 5])
def test_swaps_are_the_identity_and_all_transpositions(n):
    task, batch = draw(300, group=f"S{n}", tokens="swaps")
    found = {task.spell(token) for token in batch.tokens.flatten().tolist()}
    assert found == {"()", *(f"({i}{j})" for i, j in itertools.combinations(range(n), 2))}


@pytest.mark.parametrize("tokens", ["elements", "generators"])
@pytest.mark.parametrize("n", [2, 5, 60, 1000])
def test_cyclic_groups_add_and_parity_is_that_of_two(n, tokens):
    _, batch = draw(group=f"Z{n}", length=50, tokens=tokens)
    assert np.array_equal(batch.targets, batch.tokens.numpy().cumsum(axis=1) % n)
    assert set(batch.tokens.flatten().tolist()) <= ({0, 1} if tokens == "generators" else set(range(n)))


def test_a_direct_product_multiplies_each_factor_by_itself():
    task, batch = draw(group="A4xZ5", length=10)
    assert task.vocab_size == 12 * 5
    for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        pairs = [task.spell(token).split("*") for token in row]
        answers = [task.spell(token).split("*") for token in targets]
        whole = reduce(lambda p, q: p * q, (to_sympy(cycles, 4) for cycles, _ in pairs))
        assert to_sympy(answers[-1][0], 4) == whole
        assert int(answers[-1][1]) == sum(int(residue) for _, residue in pairs) % 5


groups = st.sampled_from(["Z2", "Z7", "S3", "S4", "A4", "S2xZ3", "Z2xS3xZ2"])


@settings(max_examples=60, deadline=None)
@given(groups, st.integers(-1, 70), st.none() | st.integers(-1, 70), st.booleans(), st.integers(0, 2**32))
def test_every_length_gives_sound_examples_or_is_refused(group, length, least, of_generators, seed):
    tokens = "generators" if of_generators else "elements"
    kwargs = {"group": group, "length": length, "min_length": least, "tokens": tokens}
    if length < 2 or (least is not None and not 1 <= least <= length):
        with pytest.raises(UserError, match=r"length=-?\d+ must be"):
            WordProblem(**kwargs)
        return
    task = WordProblem(**kwargs)
    batch = task.sample(torch.arange(6), seed=seed, split=Split.VAL)
    shown = batch.valid.sum(dim=1)
    assert ((shown >= (least or length)) & (shown <= length)).all()
    assert torch.equal(batch.valid, torch.arange(length) < shown[:, None])
    assert torch.equal(batch.positions, torch.arange(length).expand(6, -1))
    right = task.solve(batch.tokens, batch.positions) == batch.targets
    assert (right | ~batch.valid).all()
    expected = [2 ** math.ceil(math.log2(t)) for t in range(1, length + 1)]
    assert batch.slices["prefix"].tolist() == [expected] * 6
    assert tuple(sorted(set(expected))) == task.slice_values["prefix"]


def test_lengths_tokens_and_products_are_uniform():
    task, batch = draw(6000, group="S3", length=10, min_length=3)
    lengths = batch.valid.sum(dim=1).numpy()
    assert stats.chisquare(np.bincount(lengths, minlength=11)[3:]).pvalue > MIN_P
    for position in range(10):
        seen = batch.valid[:, position]
        for values in (batch.tokens, batch.targets):
            counts = np.bincount(values[seen, position], minlength=task.vocab_size)
            assert stats.chisquare(counts).pvalue > MIN_P


@pytest.mark.parametrize(
    ("group", "tokens", "alphabet"),
    [
        ("S3", "generators", ["()", "(01)", "(012)"]),
        ("S3", "swaps", ["()", "(01)", "(02)", "(12)"]),
        ("Z5", "generators", ["0", "1"]),
    ],
)
def test_chance_and_bits_are_those_of_all_words(group, tokens, alphabet):
    """Every word of five tokens, multiplied by the oracle; lengths from 2 to 5 are as likely each."""
    task = WordProblem(group=group, tokens=tokens, length=5, min_length=2)
    numbers = {task.spell(token): token for token in range(task.vocab_size)}
    words = torch.tensor(list(itertools.product([numbers[word] for word in alphabet], repeat=5)))
    answers = task.solve(words, torch.arange(5).expand_as(words)).T.tolist()
    laws = [np.array(list(Counter(column).values())) / len(words) for column in answers]
    asked = np.array([1, 1, 3 / 4, 1 / 2, 1 / 4])
    assert task.chance_accuracy == pytest.approx(asked @ [law.max() for law in laws] / asked.sum())
    entropies = np.array([-law @ np.log2(law) for law in laws])
    assert task.bits == pytest.approx(asked[1:] @ entropies[:-1] / asked[1:].sum())


@pytest.mark.parametrize(("group", "order"), [("Z2", 2), ("S3", 6), ("A5", 60), ("S5", 120)])
def test_uniform_elements_leave_a_uniform_product(group, order):
    task = WordProblem(group=group, length=40, min_length=3)
    assert task.chance_accuracy == pytest.approx(1 / order)
    assert task.bits == pytest.approx(math.log2(order))


def test_recalled_bits_of_a_state_that_is_right_half_of_the_time_are_not_more_than_it_keeps():
    """It holds the product in half of the examples, else nothing: 1.29 of 2.58 bits. The first answer is free."""
    task = WordProblem(group="S3", length=11)
    error = 10 / 11 * 1 / 2 * 5 / 6
    recalled = task.recalled_bits(torch.tensor([0.0, error, 10 / 11 * 5 / 6], dtype=torch.float64))
    assert recalled[0].item() == pytest.approx(math.log2(6))
    assert 0 < recalled[1].item() < math.log2(6) / 2
    assert recalled[2].item() == pytest.approx(0, abs=1e-9)


def test_a_stateless_reader_recalls_nothing():
    """The last token is a right answer at the first position and 1 / |G| of the time later."""
    task, batch = draw(2000, group="Z5", length=8)
    wrong = (batch.tokens != batch.targets).double().mean()
    assert task.recalled_bits(wrong) < 0.01


def test_splits_do_not_share_words():
    words = [draw(2000, split=split, length=16)[1].tokens.unique(dim=0) for split in Split]
    assert len(torch.cat(words).unique(dim=0)) == sum(map(len, words))


def test_sizes_reach_as_far_as_published_and_examples_of_a_size_have_one_length():
    task = WordProblem(group="Z2", length=40, min_length=3)
    assert task.sizes == {"length": (40, 80, 160, 256)}
    resized = task.resize(length=256)
    assert (resized.length, resized.vocab_size) == (256, 2)
    assert resized.sample(torch.arange(4), seed=0, split=Split.TEST).valid.all()
    kept = task.resize(length=80, min_length=3).settings()
    assert (kept["length"], kept["min_length"]) == (80, 3)
    assert task.at_context(100).length == 100


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"group": "D4"}, "group='D4' is unknown; allowed: S, A or Z with a number, as S5, A5, Z60, or A4xZ5"),
        ({"group": "S7"}, "group='S7' must have from 2 to 1000 elements: at most S6, A6 or Z1000"),
        ({"group": "Z1"}, "group='Z1' must have from 2 to 1000 elements"),
        ({"group": "S9999"}, "group='S9999' must have from 2 to 1000 elements"),
        ({"length": 1}, "length=1 must be at least 2"),
        ({"min_length": 33}, "min_length=33 must be from 1 to 32 (length=32)"),
        ({"group": "A5", "tokens": "swaps"}, "tokens='swaps' needs a symmetric group as S5; group='A5' is none"),
        ({"group": "S3xZ2", "tokens": "swaps"}, "group='S3xZ2' is none"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(UserError, match=re.escape(message)):
        WordProblem(**kwargs)
