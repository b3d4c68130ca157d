"""2-Sum: the oracle, the definition restated, shares of ones, the balanced law, sizes, bits.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.task import Batch, Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.two_sum import TwoSum

MIN_P = 1e-4


def draw(count: int = 64, split: Split = Split.TRAIN, **kwargs) -> Batch:
    return TwoSum(**kwargs).sample(torch.arange(count), seed=0, split=split)


def cancels(numbers: list[int], i: int, modulus: int) -> bool:
    """Whether number i has its negative among those before it."""
    return (modulus - numbers[i]) % modulus in set(numbers[:i])


def assert_sound(task: TwoSum, batch: Batch) -> None:
    no = task.max_modulus
    for numbers, positions, targets in zip(*(x.tolist() for x in batch[:3]), strict=True):
        assert all(0 <= number < task.modulus for number in numbers)
        assert targets == [no + cancels(numbers, i, task.modulus) for i in positions]
        if not task.balanced:
            assert positions == list(range(1, task.length))
        assert min(positions) > 0 and max(positions) < task.length
    if task.balanced:
        assert torch.equal(batch.slices["answer"] + no, batch.targets[:, 0])


@settings(max_examples=80, deadline=None)
@given(st.integers(-1, 50), st.integers(-1, 60), st.integers(-1, 60), st.booleans(), st.integers(0, 2**32))
def test_every_size_gives_sound_examples_or_is_refused(length, modulus, largest, balanced, seed):
    kwargs = {"length": length, "modulus": modulus, "max_modulus": largest, "balanced": balanced}
    if length >= 2 and 2 <= modulus <= largest:
        task = TwoSum(**kwargs)
        assert_sound(task, task.sample(torch.arange(6), seed=seed, split=Split.VAL))
    else:
        with pytest.raises(ValueError, match=r"(length|modulus|max_modulus)=-?\d+ must be (at least 2|from 2 to \d+)"):
            TwoSum(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"length": 1}, "length=1 must be at least 2"),
        ({"modulus": 257}, r"modulus=257 must be from 2 to 256 \(max_modulus=256\)"),
        ({"max_modulus": 1}, "max_modulus=1 must be from 2 to 16777216"),
    ],
)
def test_impossible_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TwoSum(**kwargs)


def test_the_example_of_the_docstring_is_right():
    task = TwoSum(length=6, modulus=5)
    answers = task.solve(torch.tensor([[4, 2, 3, 0, 3, 1]]), torch.arange(1, 6)[None])
    assert [task.spell(token) for token in answers[0].tolist()] == ["[NO]", "[YES]", "[NO]", "[YES]", "[YES]"]


def test_all_sequences_are_equally_likely():
    counts = np.unique(draw(8100, length=4, modulus=3).tokens.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 3**4
    assert stats.chisquare(counts).pvalue > MIN_P


def test_ones_have_the_published_share():
    """M = n: about 37 % (1/e in the limit); M = n^2: almost none."""
    n = 200
    share = draw(500, length=n + 1, modulus=n).targets.sub(256).double().mean().item()
    assert share == pytest.approx(1 / math.e, abs=0.01)
    sparse = draw(500, length=n + 1, modulus=n * n, max_modulus=n * n).targets.sub(n * n).double().mean().item()
    assert 0 < sparse < 0.004


def test_chance_is_what_the_majority_at_each_place_gets():
    task, targets = TwoSum(length=24, modulus=16), draw(20_000, length=24, modulus=16).targets - 256
    ones = targets.double().mean(dim=0)
    majority = torch.maximum(ones, 1 - ones).mean().item()
    assert abs(majority - task.chance_accuracy) < 4 * math.sqrt(0.25 / 20_000)
    assert task.replace(balanced=True).chance_accuracy == 0.5


def test_chance_is_exact_where_all_sequences_can_be_listed():
    sequences = list(itertools.product(range(3), repeat=4))
    shares = [np.mean([cancels(list(x), i, 3) for x in sequences]) for i in (1, 2, 3)]
    majority = np.mean([max(q, 1 - q) for q in shares])
    assert TwoSum(length=4, modulus=3).chance_accuracy == pytest.approx(majority)


def test_a_balanced_query_is_anywhere_and_right_half_of_the_time():
    batch = draw(12_000, length=9, modulus=7, balanced=True)
    place, answer = batch.positions[:, 0].numpy() - 1, batch.slices["answer"].numpy()
    assert stats.chisquare(np.bincount(2 * place + answer, minlength=16)).pvalue > MIN_P
    asked = batch.tokens.gather(1, batch.positions)[:, 0].numpy()
    assert stats.chisquare(np.bincount(2 * asked + answer, minlength=14)).pvalue > MIN_P
    after = batch.tokens[batch.positions[:, 0] < 8][:, -1].numpy()
    assert stats.chisquare(np.bincount(after, minlength=7)).pvalue > MIN_P


def test_the_partner_is_anywhere_before_a_balanced_query():
    batch = draw(8000, length=13, modulus=2**20, max_modulus=2**20, balanced=True)
    rows = ((batch.positions[:, 0] == 12) & (batch.slices["answer"] == 1)).nonzero()[:, 0]
    tokens = batch.tokens[rows]
    partner = ((tokens[:, :12] + tokens[:, 12:]) % 2**20 == 0).to(torch.uint8).argmax(dim=1)
    assert len(rows) > 200
    assert stats.chisquare(np.bincount(partner, minlength=12)).pvalue > MIN_P


def balanced_law(length: int, modulus: int) -> dict[tuple[int, ...], Fraction]:
    """Probability of (numbers, position, answer), by carrying out the documented procedure with all outcomes."""
    law: Counter = Counter()
    for numbers in itertools.product(range(modulus), repeat=length):
        for i in range(1, length):
            weight = Fraction(1, modulus**length * (length - 1) * 2)
            partner = -numbers[i] % modulus
            for j in range(i):
                law[*numbers[:j], partner, *numbers[j + 1 :], i, 1] += weight / i
            others = [v for v in range(modulus) if v != partner]
            for before in itertools.product(others, repeat=i):
                law[*before, *numbers[i:], i, 0] += weight / len(others) ** i
    return law


@pytest.mark.parametrize(("length", "modulus"), [(2, 3), (3, 2), (3, 3)])
def test_balanced_examples_follow_the_documented_law(length, modulus):
    batch, law = draw(15_000, length=length, modulus=modulus, balanced=True), balanced_law(length, modulus)
    rows = torch.cat([batch.tokens, batch.positions, batch.slices["answer"][:, None]], dim=1).tolist()
    counts = Counter(map(tuple, rows))
    assert set(counts) <= set(law)
    observed, expected = zip(*((counts[row], float(15_000 * p)) for row, p in law.items()), strict=True)
    assert stats.chisquare(observed, expected).pvalue > MIN_P


def test_splits_do_not_overlap():
    for kwargs in ({}, {"balanced": True}):
        for split in (Split.VAL, Split.TEST):
            assert measure_overlap(TwoSum(**kwargs), 0, split, num_train=30_000, num_eval=30_000) == 0


@pytest.mark.parametrize(("length", "modulus"), [(2, 2), (4, 3), (5, 4), (7, 2)])
def test_bits_are_the_entropy_of_the_answers_that_any_next_number_could_need(length, modulus):
    """Every prefix, by its answers to every number that may follow; the mean over the numbers of predecessors."""
    entropies = []
    for k in range(1, length):
        prefixes = itertools.product(range(modulus), repeat=k)
        answers = Counter(tuple(cancels([*x, v], k, modulus) for v in range(modulus)) for x in prefixes)
        p = np.array(list(answers.values())) / modulus**k
        entropies.append(-(p @ np.log2(p)))
    assert TwoSum(length=length, modulus=modulus).bits == pytest.approx(np.mean(entropies))


def information_of_a_forgetful_store(length: int, modulus: int, kept: int) -> tuple[float, float]:
    """Bits about the set, and error, of a store that knows the numbers below `kept` that were seen, and else says no.

    Both are means over the queries, by listing all prefixes.
    """
    bits, errors = [], []
    for k in range(1, length):
        prefixes = list(itertools.product(range(modulus), repeat=k))
        p = np.array(list(Counter(frozenset(v for v in x if v < kept) for x in prefixes).values())) / len(prefixes)
        bits.append(-(p @ np.log2(p)))
        errors.append(np.mean([len({v for v in x if v >= kept}) / modulus for x in prefixes]))
    return float(np.mean(bits)), float(np.mean(errors))


@pytest.mark.parametrize("kept", [5, 6])
def test_recalled_bits_of_a_store_that_forgets_are_not_more_than_it_keeps(kept):
    bits, error = information_of_a_forgetful_store(5, 6, kept)
    recalled = TwoSum(length=5, modulus=6).recalled_bits(torch.tensor(error, dtype=torch.float64)).item()
    assert 0 < recalled < bits + 1e-9


def test_recalled_bits_lose_the_doubt_about_every_number():
    task = TwoSum(length=16, modulus=64)
    errors = torch.tensor([0.0, 0.001, 0.1, 0.5, 1.0], dtype=torch.float64)
    recalled = task.recalled_bits(errors)
    doubt = -0.001 * math.log2(0.001) - 0.999 * math.log2(0.999)
    assert recalled[:2].tolist() == pytest.approx([task.bits, task.bits - 64 * doubt])
    assert recalled[3:].tolist() == [0, 0]
    balanced = task.replace(balanced=True)
    assert (balanced.bits, balanced.recalled_bits(errors)) == (None, None)


def test_sizes_and_contexts_keep_the_share_of_ones():
    task = TwoSum(length=32, modulus=64)
    assert task.sizes == {"length": (16, 32, 64, 128), "modulus": (32, 64, 128, 256)}
    other = task.at_context(100)
    assert (other.length, other.settings()["modulus"], other.vocab_size) == (100, 200, 258)
    with pytest.raises(ValueError, match="modulus=400 must be from 2 to 256"):
        task.at_context(200)
