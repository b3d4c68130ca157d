"""Depth-first walks over whole batches, against recursion, on every graph of five nodes and on random larger ones."""

import itertools

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrids.rng import Draws
from hybrids_plugins.tasks.is_tree.forests import ancestors, reroot
from hybrids_plugins.tasks.is_tree.random_graphs import Graphs, hub_graphs, order_edges, uniform_graphs
from hybrids_plugins.tasks.is_tree.searches import Words, search_trace
from hybrids_plugins.tasks.is_tree.steps import find_edge, is_tree, search_walk, tour
from hybrids_plugins.tasks.is_tree.walks import visit, walk_forest

WORDS = Words(open=-1, close=-2, failed=-3, edge=-4, record=-5, node=0)
TINY_TREE = [(1, 0), (4, 0), (3, 1), (4, 2)]
TINY_OTHER = [(3, 0), (2, 1), (4, 0), (4, 3)]


def recursive_tour(edges, num_nodes, *, stop_early):
    """The published walk: neighbours in the order of the edges; it ends at a visited node that is not the parent."""
    lists = [[u + v - node for u, v in edges if node in (u, v)] for node in range(num_nodes)]
    seen, written = set(), []

    def enter(node, parent):
        seen.add(node)
        written.append(node)
        for other in lists[node]:
            if other in seen and other != parent and stop_early:
                return False
            if other not in seen:
                if not enter(other, node):
                    return False
                written.append(node)
        return True

    enter(0, None)
    while not stop_early and len(seen) < num_nodes:  # our control: what is left hangs from 0, smallest node first
        enter(next(node for node in range(num_nodes) if node not in seen), 0)
        written.append(0)
    return written


def recursive_searches(edges, num_nodes, *, root_record):
    """The published trace: parent, next edge, the next but one if that leads to the parent, record of the neighbour."""
    lists = [[u + v - node for u, v in edges if node in (u, v)] for node in range(num_nodes)]
    records, text = {0: 0} if root_record else {}, [0, -5, 0] if root_record else []

    def enter(node, parent):
        rest, query = lists[node], []
        while True:
            text.extend([node, -1, node, -5, -2, records.get(node, -3)])
            text.extend([-1, node, -4, *query, -2, *(rest[:1] or [-3])])
            if rest[:1] == [parent]:
                rest = rest[1:]
                text.extend([-1, node, -4, parent, -2, *(rest[:1] or [-3])])
            if not rest:
                return True
            text.extend([-1, rest[0], -5, -2, records.get(rest[0], -3)])
            if rest[0] in records or rest[0] == 0:
                return False
            records[rest[0]] = node
            text.extend([rest[0], -5, node])
            if not enter(rest[0], node):
                return False
            query, rest = rest[:1], rest[1:]

    enter(0, None)
    return text


def written(tokens, mask):
    return [token for token, keep in zip(tokens.tolist(), mask.tolist(), strict=True) if keep]


def as_batch(edges, num_nodes):
    """A graph with one cycle at most, as its parents and chord, by another search than ours."""
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(num_nodes))
    parent = list(range(num_nodes))
    for part in nx.connected_components(graph):
        for node, above in nx.bfs_predecessors(graph, max(part)):
            parent[node] = above
    (chord,) = [e for e in edges if parent[e[0]] != e[1] and parent[e[1]] != e[0]] or [(0, 0)]
    keys = [next((i for i, e in enumerate(edges) if set(e) == {v, p}), 0) for v, p in enumerate(parent)]
    chord_key = edges.index(chord) if chord in edges else 0
    return [torch.tensor([x]) for x in (parent, keys, list(chord), chord_key, chord in edges)]


def walks(inputs):
    """For each example, the tour with and without stops, and the searches without and with a record of 0."""
    visits = [visit(walk_forest(*inputs, whole=whole)) for whole in (False, True)]
    forest = walk_forest(*inputs, whole=False)
    traces = [search_trace(forest, visits[0], WORDS, root_record=root_record) for root_record in (False, True)]
    for b in range(len(inputs[0])):
        tours = [part.node[b, : part.number[b]].tolist() for part in visits]
        yield tours + [written(trace.tokens[b], trace.written[b]) for trace in traces]


def recursive_walks(edges, num_nodes):
    tours = [recursive_tour(edges, num_nodes, stop_early=stop) for stop in (True, False)]
    return tours + [recursive_searches(edges, num_nodes, root_record=record) for record in (False, True)]


def stepwise_walks(edges, num_nodes):
    tours = [tour(edges, num_nodes, stop_early=stop) for stop in (True, False)]
    return tours + [search_walk(edges, num_nodes, WORDS, root_record=record) for record in (False, True)]


@pytest.mark.parametrize(("edges", "nodes"), [(TINY_TREE, [0, 1, 3, 1, 0, 4, 2, 4, 0]), (TINY_OTHER, [0, 3, 4])])
def test_tours_of_the_tiny_instances(edges, nodes):
    (found,) = walks(as_batch(edges, 5))
    assert found[0] == tour(edges, 5, stop_early=True) == nodes
    assert is_tree(edges, 5) == (edges == TINY_TREE)


def test_all_graphs_of_five_nodes_are_walked_as_by_recursion():
    pairs = list(itertools.combinations(range(5), 2))
    graphs = [
        list(list(itertools.permutations(edges))[number % 24])
        for number, edges in enumerate(itertools.combinations(pairs, 4))
    ]
    inputs = [torch.cat(parts) for parts in zip(*(as_batch(edges, 5) for edges in graphs), strict=True)]
    for edges, found in zip(graphs, walks(inputs), strict=True):
        assert found == stepwise_walks(edges, 5) == recursive_walks(edges, 5)
        assert is_tree(edges, 5) == (len(found[0]) == 9)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([hub_graphs, uniform_graphs]), st.integers(4, 40), st.integers(0, 2**40))
def test_random_graphs_are_walked_as_by_recursion(generate, n, seed):
    draws = Draws.of(torch.arange(20), seed=seed, stream=0)
    graphs: Graphs = generate(draws, n)
    ordered = order_edges(graphs, draws.distinct("order", n - 1, n - 1))
    inputs = (graphs.parent, ordered.key, graphs.chord, ordered.chord_key, ~graphs.is_tree)
    for ends, found in zip(ordered.ends.tolist(), walks(inputs), strict=True):
        edges = [tuple(pair) for pair in ends]
        assert found == stepwise_walks(edges, n) == recursive_walks(edges, n)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_the_longest_traces_are_those_of_trees(n):
    pairs, longest = list(itertools.combinations(range(n), 2)), {True: set(), False: set()}
    for number, edges in enumerate(itertools.combinations(pairs, n - 1)):
        turn = number % (n - 1)
        listed = list(edges[turn:] + edges[:turn])
        text = recursive_searches(listed, n, root_record=False)
        longest[is_tree(listed, n)].add((len(text), len(text) - text.count(-2)))
        assert len(recursive_searches(listed, n, root_record=True)) <= 37 * n - 23
    assert longest[True] == {(37 * n - 26, 31 * n - 22)}
    assert max(total for total, _ in longest[False]) <= 37 * (n - 1) - 21
    assert max(asked for _, asked in longest[False]) < 31 * n - 22


def test_ancestors_go_up_to_the_root_and_stay():
    parent = torch.tensor([[1, 2, 2, 2, 3], [0, 0, 1, 2, 3]])
    nodes = torch.tensor([[0, 4], [4, 0]])
    assert ancestors(parent, nodes).tolist() == [
        [[0, 1, 2, 2, 2, 2, 2, 2], [4, 3, 2, 2, 2, 2, 2, 2]],
        [[4, 3, 2, 1, 0, 0, 0, 0], [0] * 8],
    ]


def test_a_new_root_turns_the_path_to_the_old_one_with_its_keys():
    parent, key = torch.tensor([[1, 2, 2, 2, 3, 5]]), torch.tensor([[10, 11, 99, 13, 14, 98]])
    turned, keys = reroot(parent, key, torch.tensor([0]))
    assert turned.tolist() == [[0, 0, 1, 2, 3, 5]]
    assert keys[0, 1:5].tolist() == [10, 11, 13, 14]


def test_the_next_edge_of_a_node_is_found_in_the_order_of_the_edges():
    assert [find_edge(TINY_OTHER, 4), find_edge(TINY_OTHER, 4, 0), find_edge(TINY_OTHER, 4, 3)] == [0, 3, -1]
    assert [find_edge(TINY_OTHER, 4, 1), find_edge(TINY_OTHER, 9)] == [-1, -1]
