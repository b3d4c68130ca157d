"""The published algorithm of multi-query associative recall, restated."""

import numpy as np
from scipy import stats

FIGURE_2 = [[64, 4, 100], [128, 8, 20], [256, 16, 20], [256, 32, 20], [256, 64, 20]]


def published(rng: np.random.Generator, vocab: int, length: int, n: int, power: float) -> tuple:
    """One example of the published algorithm, restated: tokens, position of each key's query, values."""
    keys = rng.choice(np.arange(1, vocab // 2), n, replace=False)
    values = rng.choice(np.arange(vocab // 2, vocab), n, replace=False)
    weights = np.arange(1, (length - 2 * n) // 2 + 1) ** (power - 1)
    slots = rng.choice(len(weights), n, replace=False, p=weights / weights.sum())
    tokens = rng.integers(vocab, size=length)
    tokens[: 2 * n : 2], tokens[1 : 2 * n : 2] = keys, values
    tokens[2 * n + 2 * slots] = keys
    return tokens, 2 * n + 2 * slots, values


def published_batch(count: int, *args) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple(np.stack(part) for part in zip(*(published(rng, *args) for _ in range(count)), strict=True))


def assert_published_places(slots: np.ndarray, num_slots: int, power: float, min_p: float) -> None:
    """The slots of n queries, a row for each example, in the order drawn: NumPy's `choice` without replacement, with
    which zoology places them, gives the first and the last of each row as often."""
    rng, (count, num) = np.random.default_rng(0), slots.shape
    weights = np.arange(1, num_slots + 1) ** (power - 1)
    shares = weights / weights.sum()
    assert stats.chisquare(np.bincount(slots[:, 0], minlength=num_slots), count * shares).pvalue > min_p
    theirs = np.stack([rng.choice(num_slots, num, replace=False, p=shares) for _ in range(count)])
    counts = [np.bincount(x[:, -1], minlength=num_slots) for x in (slots, theirs)]
    assert stats.chi2_contingency(counts).pvalue > min_p
