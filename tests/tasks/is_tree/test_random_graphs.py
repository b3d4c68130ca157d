"""Random graphs of n - 1 edges: trees and others against networkx, laws against enumeration.

Seeds are fixed; a threshold on p rejects a sound generator once in 10,000.
"""

import itertools
from collections import Counter
from fractions import Fraction

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.rng import Draws
from hybrids_plugins.tasks.is_tree.random_graphs import (
    Graphs,
    decode_tree,
    hub_graphs,
    order_edges,
    rewire,
    uniform_graphs,
)

MIN_P = 1e-4
GENERATORS = {"hub": hub_graphs, "uniform": uniform_graphs}


def draws(count: int, seed: int = 0) -> Draws:
    return Draws.of(torch.arange(count), seed=seed, stream=0)


def edge_sets(parent: torch.Tensor, chord: torch.Tensor | None = None) -> list[frozenset]:
    """The edges that parents and, where there is a second root, a chord stand for."""
    graphs, chords = [], itertools.repeat([]) if chord is None else chord.tolist()
    for parents, ends in zip(parent.tolist(), chords, strict=False):
        edges = [frozenset((v, p)) for v, p in enumerate(parents) if v != p]
        graphs.append(frozenset(edges + [frozenset(ends)] * (len(parents) - 1 - len(edges))))
    return graphs


def as_graph(edges: frozenset, num_nodes: int) -> nx.Graph:
    graph = nx.Graph(tuple(edge) for edge in edges)
    graph.add_nodes_from(range(num_nodes))
    return graph


def follows(counts: Counter, law: dict) -> float:
    """p of a chi-square test of counts against probabilities that sum to 1."""
    assert sum(law.values()) == 1
    assert set(counts) <= set(law)
    total = sum(counts.values())
    if len(law) == 1:
        return 1.0
    return stats.chisquare([counts[x] for x in law], [total * float(p) for p in law.values()]).pvalue


def uniform_law(outcomes: list) -> dict:
    return {x: Fraction(count, len(outcomes)) for x, count in Counter(outcomes).items()}


def published_hub_graph(perm: tuple, sides: tuple, i: int) -> frozenset:
    """The graph of the published generator for these random choices, i from 2."""
    edges = [frozenset((perm[j], perm[sides[j - 2]])) for j in range(2, len(perm))]
    return frozenset([*edges, frozenset((perm[i], perm[i + 1]))])


def hub_choices(n: int) -> itertools.product:
    return itertools.product([0, 1], repeat=n - 2)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_codes_and_labelled_trees_are_in_bijection(n):
    codes = torch.tensor(list(itertools.product(range(n), repeat=n - 2)))
    parent = decode_tree(codes)
    trees = edge_sets(parent)
    assert len(set(trees)) == n ** (n - 2) == len(codes)
    assert all(nx.is_tree(as_graph(edges, n)) for edges in trees)
    assert (parent[:, 0] == 0).all()


def test_a_node_has_one_neighbour_more_than_places_in_the_code():
    codes = draws(50).integers("code", 28, 30)
    for code, edges in zip(codes.tolist(), edge_sets(decode_tree(codes)), strict=True):
        # Of node 0, the last place is left out of the code.
        assert dict(as_graph(edges, 30).degree) == {v: code.count(v) + 1 for v in range(30)}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(GENERATORS)), st.integers(4, 40), st.integers(0, 2**40))
def test_graphs_are_trees_or_have_one_cycle_and_two_components(name, n, seed):
    graphs = GENERATORS[name](draws(16, seed), n)
    for edges, is_tree in zip(edge_sets(*graphs[:2]), graphs.is_tree.tolist(), strict=True):
        graph = as_graph(edges, n)
        assert graph.number_of_edges() == n - 1
        assert not nx.number_of_selfloops(graph)
        assert nx.is_tree(graph) == is_tree
        assert nx.number_connected_components(graph) == (1 if is_tree else 2)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_a_published_hub_graph_is_a_tree_with_probability_one_half(n):
    graphs = [published_hub_graph(range(n), sides, i) for sides in hub_choices(n) for i in range(2, n - 1)]
    assert sum(nx.is_tree(as_graph(edges, n)) for edges in graphs) * 2 == len(graphs)


@pytest.mark.parametrize("n", [4, 5])
def test_hub_graphs_follow_the_published_law(n):
    law = uniform_law(
        [
            published_hub_graph(perm, sides, i)
            for perm in itertools.permutations(range(n))
            for sides in hub_choices(n)
            for i in range(2, n - 1)
        ]
    )
    assert follows(Counter(edge_sets(*hub_graphs(draws(8000), n)[:2])), law) > MIN_P


@pytest.mark.parametrize("n", [4, 5])
def test_uniform_trees_are_uniform(n):
    graphs = uniform_graphs(draws(8000), n)
    trees = edge_sets(graphs.parent[graphs.is_tree])
    assert stats.binomtest(len(trees), 8000, 0.5).pvalue > MIN_P
    codes = torch.tensor(list(itertools.product(range(n), repeat=n - 2)))
    law = uniform_law(edge_sets(decode_tree(codes)))
    assert follows(Counter(trees), law) > MIN_P


def rewirings(edges: frozenset, n: int) -> list[frozenset]:
    """What the docstring of `rewire` allows, one entry for each equally likely choice."""
    tree = as_graph(edges, n)
    lengths = dict(nx.all_pairs_shortest_path_length(tree))
    outcomes = []
    for e, f in itertools.combinations(edges, 2):
        if min(lengths[x][y] for x in e for y in f) < 2:
            continue
        (a, b), (c, d) = e, f
        for new in ({frozenset((a, c)), frozenset((b, d))}, {frozenset((a, d)), frozenset((b, c))}):
            changed = edges - {e, f} | new
            if not nx.is_tree(as_graph(changed, n)):
                outcomes.append(frozenset(changed))
    if outcomes:
        return outcomes
    for e, f in itertools.combinations(edges, 2):
        for removed in edges - {e, f}:
            if e & f:
                outcomes.append(frozenset(edges - {removed} | {e ^ f}))
    return outcomes


TREES = {
    "path": [0, 0, 1, 2, 3, 4, 5],
    "path through 0": [0, 0, 1, 2, 0, 4, 5],
    "legs of three lengths": [0, 0, 1, 0, 3, 4, 0],
    "0 at the end of a leg": [0, 0, 1, 2, 3, 2, 5],
    "star": [0, 0, 0, 0, 0, 0, 0],
    "star around another": [0, 0, 1, 1, 1, 1, 1],
    "two stars": [0, 0, 0, 0, 1, 1, 1],
}


@pytest.mark.parametrize("name", TREES)
def test_rewiring_is_uniform_over_what_it_allows(name):
    parent = torch.tensor([TREES[name]]).expand(4000, -1).contiguous()
    (tree,) = edge_sets(parent[:1])
    rewired = edge_sets(*rewire(parent, draws(4000).bits("words", 3)))
    assert follows(Counter(rewired), uniform_law(rewirings(tree, 7))) > MIN_P


def test_rewiring_keeps_degrees_exactly_if_the_diameter_allows_it():
    codes = torch.cat([draws(300).integers("code", 5, 7), torch.tensor([[3] * 5, [3, 3, 3, 4, 4]])])
    parent = decode_tree(codes)
    before, after = edge_sets(parent), edge_sets(*rewire(parent, draws(302).bits("words", 3)))
    kept = []
    for old, new in zip(before, after, strict=True):
        same = dict(as_graph(old, 7).degree) == dict(as_graph(new, 7).degree)
        assert same == (nx.diameter(as_graph(old, 7)) >= 4)
        kept.append(same)
    assert 0 < sum(kept) < len(kept)


@pytest.mark.parametrize("name", GENERATORS)
def test_edges_come_in_the_order_given(name):
    graphs = GENERATORS[name](draws(200), 9)
    order = draws(200, seed=1).distinct("order", 8, 8)
    ordered = order_edges(graphs, order)
    assert (ordered.ends[:, :, 0] > ordered.ends[:, :, 1]).all()
    for b, edges in enumerate(edge_sets(*graphs[:2])):
        listed = [frozenset(ends) for ends in ordered.ends[b].tolist()]
        assert frozenset(listed) == edges
        for v, p in enumerate(graphs.parent[b].tolist()):
            assert v == p or listed[ordered.key[b, v]] == {v, p}
        assert graphs.is_tree[b] or listed[ordered.chord_key[b]] == set(graphs.chord[b].tolist())


def test_which_edge_comes_where_depends_on_the_order_alone():
    graphs = Graphs(
        torch.tensor([[0, 0, 0, 0]]).expand(24, -1), torch.zeros(24, 2, dtype=torch.int64), torch.ones(24) > 0
    )
    orders = torch.tensor(list(itertools.permutations(range(3))) * 4)
    assert len(set(map(str, order_edges(graphs, orders).ends[:6].tolist()))) == 6
