"""Depth-first walks over graphs with at most one cycle, all visits at once.

A walk starts at node 0, takes the edges of a node in ascending order of their keys, returns after each, and stops at
a node whose next edge, other than the one to its parent, leads to a node that was visited. Nothing here goes visit
by visit: subtree sizes, and the time of a visit from the sizes of what comes before it, are sums along parents that
double their reach. n nodes; a walk makes at most V = 2n - 1 visits.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids_plugins.tasks.is_tree.forests import ancestors, num_doublings, reroot, roots, scatter_where, turn_path

NEVER = 2**40
"""A time that no walk reaches."""


class Forest(NamedTuple):
    """The tree of a depth-first walk from 0, what it does not reach, and the edge that closes a cycle."""

    parent: Int[Tensor, "B n"]
    key: Int[Tensor, "B n"]
    """Of the edge from a node to its parent."""
    back: Int[Tensor, "B 2"]
    """The edge that closes a cycle: its end visited last, the one visited first; n and n where there is none."""
    back_key: Int[Tensor, " B"]


class Visits(NamedTuple):
    """Visits of walks in their order, V = 2n - 1 columns; from `number` on they have no meaning."""

    number: Int[Tensor, " B"]
    place: Int[Tensor, "B V"]
    """w: the first visit of node w. n + w: the visit of its parent on return from w."""
    node: Int[Tensor, "B V"]


class Next(NamedTuple):
    """What a node's list of edges gives, by keys: the node at the other end of the next edge; n for none."""

    first: Int[Tensor, "B n"]
    """At the first edge of each node."""
    after_child: Int[Tensor, "B n"]
    """At the edge, of the parent of v, after the one to v."""
    after_parent: Int[Tensor, "B n"]
    """At the edge, of v, after the one to its parent."""


def walk_forest(
    parent: Int[Tensor, "B n"],
    key: Int[Tensor, "B n"],
    chord: Int[Tensor, "B 2"],
    chord_key: Int[Tensor, " B"],
    has_chord: Bool[Tensor, " B"],
    *,
    whole: bool,
) -> Forest:
    """The forest of walks over trees, at most two in an example, with a chord inside one of them; keys are below n.

    `whole`: walks that pass over edges to visited nodes, and go on from 0, when all its edges are done, to the
    smallest node that is left, as if an edge led there. So they visit every node.
    """
    num_nodes = parent.shape[1]
    parent, key = reroot(parent, key, torch.zeros_like(chord_key))
    if not whole:
        return _close_cycle(parent, key, chord, chord_key, has_chord)
    rest = (roots(parent) > 0).to(torch.uint8).argmax(1)  # its smallest node; 0 if there is none
    forest = _close_cycle(*reroot(parent, key, rest), chord, chord_key, has_chord)
    rest = rest[:, None]
    joined = forest.parent.scatter(1, rest, 0), forest.key.scatter(1, rest, num_nodes)
    return Forest(*joined, torch.full_like(forest.back, num_nodes), forest.back_key)


def _close_cycle(
    parent: Int[Tensor, "B n"],
    key: Int[Tensor, "B n"],
    chord: Int[Tensor, "B 2"],
    chord_key: Int[Tensor, " B"],
    has_chord: Bool[Tensor, " B"],
) -> Forest:
    """Turn the branch of a cycle by which a walk comes back.

    The cycle leaves its node nearest to the root by two edges. A walk takes the one of the lower key and stops before
    the other; that branch hangs by the chord, upside down.
    """
    chord = torch.where(has_chord[:, None], chord, 0)
    paths = ancestors(parent, chord).unbind(1)
    (length, edge), (other_length, other_edge) = (
        _branch(parent, key, chord_key, path, other) for path, other in (paths, paths[::-1])
    )
    is_late = edge > other_edge
    path = torch.where(is_late[:, None], *paths)
    length = torch.where(is_late, length, other_length)
    start = torch.where(is_late, chord[:, 1], chord[:, 0])
    nearest = path.gather(1, length[:, None])
    last = path.gather(1, (length - 1).clamp(min=0)[:, None])
    last = torch.where(length[:, None] > 0, last, start[:, None])
    back = torch.where(has_chord[:, None], torch.cat([last, nearest], dim=1), parent.shape[1])
    return Forest(*turn_path(parent, key, path, length, start, chord_key), back, torch.maximum(edge, other_edge))


def _branch(
    parent: Int[Tensor, "B n"],
    key: Int[Tensor, "B n"],
    chord_key: Int[Tensor, " B"],
    path: Int[Tensor, "B L"],
    other: Int[Tensor, "B L"],
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Nodes of `path` before it joins `other`, and the key of the edge by which it does (without nodes, the chord)."""
    shared = torch.zeros_like(parent).scatter_(1, other, 1).gather(1, path)
    length = (shared == 0).sum(1)
    top = path.gather(1, (length - 1).clamp(min=0)[:, None])
    return length, torch.where(length > 0, key.gather(1, top)[:, 0], chord_key)


def visit(forest: Forest) -> Visits:
    """The visits of a walk: each node at its first visit, and again on every return to it."""
    parent, num_nodes = forest.parent, forest.parent.shape[1]
    nodes = torch.arange(num_nodes, device=parent.device)
    size = _sizes(parent)
    # From the first visit of a node to that of its child: one, and all visits on behalf of the children before.
    enter = torch.where(parent == nodes, NEVER, 1 + 2 * _earlier_sizes(forest, size))
    enter[:, 0] = 0
    jump = parent
    for _ in range(num_doublings(parent)):  # a root adds its own again and again: 0, or so much that it stays out
        enter = (enter + enter.gather(1, jump)).clamp_(max=NEVER)
        jump = jump.gather(1, jump)
    times = torch.cat([enter, enter + 2 * size - 1], dim=1).clamp_(max=2 * num_nodes - 1)
    places = torch.arange(2 * num_nodes, device=parent.device).expand_as(times)
    place = torch.zeros_like(times).scatter_(1, times, places)[:, :-1]
    node = torch.cat([nodes.expand_as(parent), parent], dim=1).gather(1, place)
    return Visits(torch.minimum(2 * size[:, 0] - 1, _stop(forest, enter, size) + 1), place, node)


def _sizes(parent: Int[Tensor, "B n"]) -> Int[Tensor, "B n"]:
    """Nodes of the tree below each node, with it."""
    num_nodes = parent.shape[1]
    nodes = torch.arange(num_nodes, device=parent.device)
    above = torch.where(parent == nodes, num_nodes, parent)
    jump = torch.cat([above, torch.full_like(above[:, :1], num_nodes)], dim=1)
    size = torch.ones_like(jump)  # the last column is what is above a root
    for _ in range(num_doublings(parent)):
        size = size.scatter_add(1, jump, size)
        jump = jump.gather(1, jump)
    return size[:, :-1]


def _earlier_sizes(forest: Forest, size: Int[Tensor, "B n"]) -> Int[Tensor, "B n"]:
    """The sizes of the siblings with lower keys, summed; at roots, without meaning."""
    parent, num_nodes = forest.parent, forest.parent.shape[1]
    nodes = torch.arange(num_nodes, device=parent.device)
    group = torch.where(parent == nodes, num_nodes, parent)
    order = (group * (num_nodes + 1) + forest.key).argsort(dim=1)
    ordered = size.gather(1, order)
    before = torch.zeros_like(size).scatter_(1, order, ordered.cumsum(1) - ordered)
    children = size - 1
    return before - (children.cumsum(1) - children).gather(1, parent)


def _stop(forest: Forest, enter: Int[Tensor, "B n"], size: Int[Tensor, "B n"]) -> Int[Tensor, " B"]:
    """When a walk stands before the edge that closes the cycle: after the children of lower keys; or NEVER."""
    num_nodes = size.shape[1]
    last = forest.back[:, :1]
    nodes = torch.arange(num_nodes, device=last.device)
    before = (forest.parent == last) & (nodes != last) & (forest.key < forest.back_key[:, None])
    arrival = torch.cat([enter, torch.full_like(last, NEVER)], dim=1).gather(1, last)[:, 0]
    return arrival + 2 * (before * size).sum(1)


def next_neighbours(forest: Forest) -> Next:
    """The lists of edges, with those of the cycle."""
    parent, num_nodes = forest.parent, forest.parent.shape[1]
    nodes = torch.arange(num_nodes, device=parent.device).expand_as(parent)
    lower, upper = torch.where(parent == nodes, num_nodes, nodes), torch.where(parent == nodes, num_nodes, parent)
    key = forest.key.clone()
    # Node 0 has no parent: its place is that of the edge that closes the cycle.
    lower[:, 0], upper[:, 0], key[:, 0] = forest.back[:, 0], forest.back[:, 1], forest.back_key
    owner, other = torch.cat([lower, upper], dim=1), torch.cat([upper, lower], dim=1)
    order = (owner * (num_nodes + 1) + key.repeat(1, 2)).argsort(dim=1)
    owner, other = owner.gather(1, order), other.gather(1, order)
    is_last = owner[:, 1:] != owner[:, :-1]
    nothing = torch.full_like(owner[:, :1], num_nodes)
    after = torch.cat([other[:, 1:].masked_fill(is_last, num_nodes), nothing], dim=1)
    after = torch.zeros_like(after).scatter_(1, order, after)
    is_first = torch.cat([owner[:, :1] < num_nodes, is_last & (owner[:, 1:] < num_nodes)], dim=1)
    first = scatter_where(nothing.expand_as(parent), owner, other, is_first)
    return Next(first, after[:, num_nodes:], after[:, :num_nodes])
