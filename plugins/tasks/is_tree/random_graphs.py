"""Random graphs of n nodes and n - 1 edges, half of them trees, without loops over examples or nodes.

A graph of n - 1 edges that is no tree has a cycle and is not connected. Those made here have one cycle and two
components. Below, p(v) is the parent of v.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids.rng import Draws
from hybrids_plugins.tasks.is_tree.forests import ancestors, scatter_where


class Graphs(NamedTuple):
    """A tree, or a forest of two trees and one edge more."""

    parent: Int[Tensor, "B n"]
    """Of each node; a root is its own. One root in a tree, two in the others."""
    chord: Int[Tensor, "B 2"]
    """Ends of the edge that closes the cycle; in a tree without meaning."""
    is_tree: Bool[Tensor, " B"]


class Ordered(NamedTuple):
    """The edges of graphs in an order."""

    ends: Int[Tensor, "B n_1 2"]
    """The larger node first."""
    key: Int[Tensor, "B n"]
    """The place of the edge from each node to its parent; at roots without meaning."""
    chord_key: Int[Tensor, " B"]
    """The place of the chord; in a tree without meaning."""


def order_edges(graphs: Graphs, order: Int[Tensor, "B n_1"]) -> Ordered:
    """The edges with `order`, a permutation of the n - 1 places, which does not know the graph."""
    parent, chord, _ = graphs
    nodes = torch.arange(parent.shape[1], device=parent.device)
    # The chord has the number of the second root, which has no edge to a parent, and the first root has no number.
    is_root = parent == nodes
    first = is_root.to(torch.uint8).argmax(1, keepdim=True)
    key = order.gather(1, (nodes - (nodes > first).to(torch.int64)).clamp(max=order.shape[1] - 1))
    is_edge = nodes != first
    u, v = (torch.where(is_root, end, x) for end, x in zip(chord[:, :, None].unbind(1), (nodes, parent), strict=True))
    ends = [scatter_where(torch.zeros_like(order), key, x, is_edge) for x in (torch.maximum(u, v), torch.minimum(u, v))]
    return Ordered(torch.stack(ends, dim=2), key, (key * (is_root & is_edge)).sum(1))


def hub_graphs(draws: Draws, num_nodes: int) -> Graphs:
    """Two hubs, every other node on one of them, and an edge between two neighbours in the order of the others.

    The type `binary` of arXiv:2402.18510: names are a random permutation, each node takes either hub with
    probability 1/2, and the edge joins the i-th and the next of the n - 2 others, i uniform. A tree exactly if these
    two are on different hubs, hence with probability 1/2; otherwise they make a triangle with their hub.
    """
    names = draws.distinct("names", num_nodes, num_nodes)
    others = names[:, 2:]
    hub_of = names[:, :2].gather(1, draws.bits("hubs", num_nodes - 2) & 1)
    at = draws.integers("chord", 1, num_nodes - 3) + torch.arange(2, device=names.device)
    chord, hubs = others.gather(1, at), hub_of.gather(1, at)
    is_tree = hubs[:, 0] != hubs[:, 1]
    nodes = torch.arange(num_nodes, device=names.device).expand_as(names)
    parent = nodes.scatter(1, others, hub_of)
    # In a tree the second hub hangs from its end of the chord, and that from the other end.
    hung = torch.stack([chord[:, 1], hubs[:, 1]], dim=1)
    return Graphs(scatter_where(parent, hung, chord, is_tree[:, None].expand_as(hung)), chord, is_tree)


def uniform_graphs(draws: Draws, num_nodes: int) -> Graphs:
    """A tree, uniform among the n^(n-2) labelled ones; with probability 1/2 it is rewired (`rewire`)."""
    tree = decode_tree(draws.integers("code", num_nodes - 2, num_nodes))
    words = draws.bits("label and rewiring", 4)
    is_tree = words[:, 0] % 2 == 1
    parent, chord = rewire(tree, words[:, 1:])
    return Graphs(torch.where(is_tree[:, None], tree, parent), chord, is_tree)


def decode_tree(code: Int[Tensor, "B n_2"]) -> Int[Tensor, "B n"]:
    """Parents, towards 0, in the tree of a Pruefer-like code, n - 2 numbers of [0, n): a bijection.

    The code of Deo and Micikevicius: leaves other than 0 are taken off, those of the tree by number and then others
    as they become leaves, and for each one its neighbour is written down; the last neighbour is 0 and left out. So a
    node becomes a leaf at the last place where the code has it, and one sort gives the order of removal, where
    Pruefer's rule (the smallest leaf) goes node by node.
    Source: Caminiti, Finocchi, Petreschi: On coding labeled trees, Theoretical Computer Science 382 (2007).
    """
    num_nodes = code.shape[1] + 2
    nodes = torch.arange(num_nodes, device=code.device)
    neighbour = torch.cat([code, torch.zeros_like(code[:, :1])], dim=1)
    never = code.new_full((len(code), num_nodes), -1)
    last = never.scatter_reduce_(1, neighbour, nodes[:-1].expand_as(neighbour), "amax")
    removal = torch.where(last < 0, nodes, num_nodes + last).argsort(dim=1)
    return torch.zeros_like(removal).scatter_(1, removal[:, :-1], neighbour)


def rewire(parent: Int[Tensor, "B n"], words: Int[Tensor, "B 3"]) -> tuple[Int[Tensor, "B n"], Int[Tensor, "B 2"]]:
    """A graph that is no tree, with the degrees of the tree where that is possible: its parents and its chord.

    Two edges at distance 2 or more, a-b and c-d along a path a b ... c d, become a-d and b-c: what is between them is
    cut off, with a cycle, and every node keeps its degree. The pair is uniform among those of the tree. Trees of
    diameter 3 or less have no such pair, and no other graph has their degrees; there, two edges that meet, uniform
    among such pairs, are closed to a triangle, and one of the other edges, uniform, is removed. `parent` has root 0;
    an edge is named by its lower end; `words` are random 32-bit words.
    """
    pair, is_swap = _draw_pair(parent, words)
    is_below = (ancestors(parent, pair) == pair.flip(1)[:, :, None]).any(2)
    pair, is_nested = torch.where(is_below[:, 1:], pair.flip(1), pair), is_below.any(1)
    low, high = pair.unbind(1)
    over_low, over_high = parent.gather(1, pair).unbind(1)
    # The path is low p(low) ... high p(high) if one edge is above the other, else low p(low) ... p(high) high.
    onto = torch.stack([torch.where(is_nested, over_high, low), torch.where(is_nested, high, low)], dim=1)
    swapped = scatter_where(parent, pair, onto, is_swap[:, None].expand_as(pair))
    removed = _choose_third(pair, parent.shape[1] - 1, words[:, 2])
    chord = [torch.where(is_swap, over_low, low), torch.where(is_swap == is_nested, high, over_high)]
    return scatter_where(swapped, removed, removed, ~is_swap[:, None]), torch.stack(chord, dim=1)


def _draw_pair(parent: Int[Tensor, "B n"], words: Int[Tensor, "B 3"]) -> tuple[Int[Tensor, "B 2"], Bool[Tensor, " B"]]:
    """Two edges, named by their lower ends, and whether they are at distance 2 or more; if no two are, they meet.

    The first edge is drawn in proportion to how many partners it has, from degrees alone; the second is one of them.
    """
    lower, upper = torch.arange(1, parent.shape[1], device=parent.device), parent[:, 1:]
    meet, apart = _count_partners(parent)
    is_swap = (apart > 0).any(1)
    first = 1 + _choose(torch.where(is_swap[:, None], apart, meet), words[:, 0])
    over = parent.gather(1, first)
    over_upper, over_over = parent.gather(1, upper), parent.gather(1, over)
    meets = ((upper == over) | (upper == first) | (lower == over)) & (lower != first)
    adjacent = (lower == over_over) | (upper == over_over) | (over_upper == first) | (over_upper == over)
    partners = torch.where(is_swap[:, None], ~(meets | adjacent | (lower == first)), meets)
    second = 1 + _choose(partners.to(torch.int64), words[:, 1])
    return torch.cat([first, second], dim=1), is_swap


def _count_partners(parent: Int[Tensor, "B n"]) -> tuple[Int[Tensor, "B n_1"], Int[Tensor, "B n_1"]]:
    """For every edge of trees with root 0, the edges that meet it, and those at distance 2 or more."""
    upper = parent[:, 1:]
    degree = torch.zeros_like(parent).scatter_add_(1, upper, torch.ones_like(upper))
    degree[:, 1:] += 1
    around = torch.zeros_like(parent).scatter_add_(1, upper, degree[:, 1:])  # degrees of the neighbours, summed
    around[:, 1:] += degree.gather(1, upper)
    meet = degree[:, 1:] + degree.gather(1, upper) - 2
    # Edges with an end next to this edge or on it: that many ends, less the edges that have both there.
    near = around[:, 1:] + around.gather(1, upper) - (meet + 1)
    return meet, upper.shape[1] - near


def _choose(weights: Int[Tensor, "B m"], word: Int[Tensor, " B"]) -> Int[Tensor, "B 1"]:
    """A column in proportion to its weight, to within 2**-32; the weights sum to less than 2**31."""
    ends = weights.cumsum(1)
    return (ends <= word[:, None] * ends[:, -1:] >> 32).sum(1, keepdim=True)


def _choose_third(pair: Int[Tensor, "B 2"], high: int, word: Int[Tensor, " B"]) -> Int[Tensor, "B 1"]:
    """One of 1 ... high that is not in the pair."""
    place = 1 + (word * (high - 2) >> 32)
    place += place >= pair.amin(1)
    return (place + (place >= pair.amax(1)))[:, None]
