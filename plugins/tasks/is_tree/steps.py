"""Depth-first walks over graphs step by step, in plain Python: what `walks` and `searches` do all at once."""

from collections.abc import Sequence

from hybrids_plugins.tasks.is_tree.searches import Words

Edges = Sequence[tuple[int, int]]


def neighbour_lists(edges: Edges, num_nodes: int) -> list[list[int]]:
    """The neighbours of every node in the order of the edges."""
    lists: list[list[int]] = [[] for _ in range(num_nodes)]
    for u, v in edges:
        lists[u].append(v)
        lists[v].append(u)
    return lists


def is_tree(edges: Edges, num_nodes: int) -> bool:
    """Whether these edges, one fewer than the nodes, connect them: no edge joins what is joined already."""
    above = list(range(num_nodes))
    for edge in edges:
        u, v = (_top(above, node) for node in edge)
        if u == v:
            return False
        above[u] = v
    return len(edges) == num_nodes - 1


def _top(above: list[int], node: int) -> int:
    while above[node] != node:
        node = above[node]
    return node


def tour(edges: Edges, num_nodes: int, *, stop_early: bool) -> list[int]:
    """The nodes of a walk from 0 in order, a node again on every return to it.

    It ends where it meets a visited node that is not the parent. Without `stop_early` it passes that by, and 0 has the
    smallest node that is left as a further neighbour.
    """
    lists = neighbour_lists(edges, num_nodes)
    path, places, written, seen = [0], [0] * num_nodes, [0], {0}
    while path:
        node, parent = path[-1], path[-2] if len(path) > 1 else None
        if places[node] == len(lists[node]) and node == 0 and not stop_early and len(seen) < num_nodes:
            lists[0].append(min(set(range(num_nodes)) - seen))
        if places[node] == len(lists[node]):
            path.pop()
            written += path[-1:]
            continue
        child = lists[node][places[node]]
        places[node] += 1
        if child not in seen:
            seen.add(child)
            path.append(child)
            written.append(child)
        elif child != parent and stop_early:
            break
    return written


def search_walk(edges: Edges, num_nodes: int, words: Words, *, root_record: bool) -> list[int]:
    """The tokens of the same walk when it searches for parents and edges, and keeps records of parents."""
    lists = neighbour_lists(edges, num_nodes)
    start, end, record, edge = words.open, words.close, words.record, words.edge
    name = [*range(words.node, words.node + num_nodes), words.failed]  # that of -1, no node, is the last one
    parents = [-1] * num_nodes
    path, after, text = [0], [], list[int]()
    if root_record:
        parents[0] = 0
        text += [name[0], record, name[0]]
    while path:
        v, parent = path[-1], parents[path[-1]]
        following = _edge_after(lists[v], *after)
        text += [name[v], start, name[v], record, end, name[parent]]
        text += [start, name[v], edge, *(name[u] for u in after), end, name[following]]
        if following == parent >= 0:
            following = _edge_after(lists[v], parent)
            text += [start, name[v], edge, name[parent], end, name[following]]
        if following < 0:
            after = [path.pop()]
            continue
        text += [start, name[following], record, end, name[parents[following]]]
        if following == 0 or parents[following] >= 0:
            break
        parents[following] = v
        text += [name[following], record, name[v]]
        path.append(following)
        after = []
    return text


def _edge_after(neighbours: list[int], *previous: int) -> int:
    """The first neighbour, or the one after another one; -1 for none."""
    place = neighbours.index(previous[0]) + 1 if previous else 0
    return neighbours[place] if place < len(neighbours) else -1


def find_edge(edges: Edges, node: int, *after: int) -> int:
    """The other end of the first edge of a node, or of the first one after that to another node; -1 for none."""
    neighbours = [u + v - node for u, v in edges if node in (u, v)]
    return _edge_after(neighbours, *after) if set(after) <= set(neighbours) else -1


def find_record(text: list[int], node: int, words: Words) -> int | None:
    """The token after the first `node ~` that is not the end of a query; None for none.

    `token_after` on `hide_queries(text)`; but only the places of `~` are looked at, since a trace has thousands of
    tokens and hundreds of searches.
    """
    place = 0
    for _ in range(text.count(words.record)):
        place = text.index(words.record, place + 1)
        if text[place - 1 : place] == [node] and text[place + 1 : place + 2] != [words.close]:
            return text[place + 1] if place + 1 < len(text) else None
    return None
