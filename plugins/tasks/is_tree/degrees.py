"""How often whoever sees the degrees of a graph alone tells right whether it is a tree: the laws of random_graphs.py.

Names are uniform, so that a degree says nothing by the name of its node.
"""

import math


def guess_hub(num_nodes: int) -> float:
    """Of `hub_graphs`, where the two large degrees tell that k of the m = n - 2 others are on one hub.

    k is binomial, and the ends of the chord, two of the others, are on different hubs with probability
    q = 2 k (m - k) / (m (m - 1)): the mean of max(q, 1 - q).
    """
    m = num_nodes - 2
    total = math.lgamma(m + 1) - m * math.log(2)
    weights = [math.exp(total - math.lgamma(k + 1) - math.lgamma(m - k + 1)) for k in range(m + 1)]
    trees = [2 * k * (m - k) / (m * (m - 1)) for k in range(m + 1)]
    return math.fsum(weight * max(q, 1 - q) for weight, q in zip(weights, trees, strict=True))


def guess_uniform(num_nodes: int) -> float:
    """Of `uniform_graphs`, where every tree keeps its degrees unless its diameter is 3 or less.

    No other graph has the degrees of those trees: n stars, and for each pair of inner nodes the ways in which both
    have leaves. Where one was drawn the guess is right, elsewhere in half of all cases.
    """
    n = num_nodes
    flat = n + math.comb(n, 2) * (2 ** (n - 2) - 2)
    return 0.5 + flat / n ** (n - 2) / 2
