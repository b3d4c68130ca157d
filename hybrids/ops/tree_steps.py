"""Depth-first walks over graphs step by step, in plain Python: what `tree_walk` and `tree_search` do all at once."""

from collections.abc import Sequence

from hybrids.ops.tree_search import Words

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
    text: list[int] = []
    records: dict[int, int] = {}
    path, after = [0], []

    def spelled(node: int | None) -> int:
        return words.failed if node is None else words.node + node

    def write_search(node: int, *query: int, answer: int | None) -> None:
        text.extend([words.open, spelled(node), *query, words.close, spelled(answer)])

    def write_record(node: int, parent: int) -> None:
        records[node] = parent
        text.extend([spelled(node), words.record, spelled(parent)])

    if root_record:
        write_record(0, 0)
    while path:
        node, parent = path[-1], records.get(path[-1])
        text.append(spelled(node))
        write_search(node, words.record, answer=parent)
        following = _edge_after(lists[node], *after)
        write_search(node, words.edge, *map(spelled, after), answer=following)
        if parent is not None and following == parent:
            following = _edge_after(lists[node], parent)
            write_search(node, words.edge, spelled(parent), answer=following)
        if following is None:
            after = [path.pop()]
            continue
        visited = following in path or following in records
        write_search(following, words.record, answer=records.get(following))
        if visited:
            break
        write_record(following, node)
        path.append(following)
        after = []
    return text


def _edge_after(neighbours: list[int], *previous: int) -> int | None:
    """The first neighbour, or the one after another one."""
    place = neighbours.index(previous[0]) + 1 if previous else 0
    return neighbours[place] if place < len(neighbours) else None


def find_edge(edges: Edges, node: int, *after: int) -> int | None:
    """The other end of the first edge of a node, or of the first one after that to another node; None for none."""
    neighbours = [u + v - node for u, v in edges if node in (u, v)]
    return _edge_after(neighbours, *after) if set(after) <= set(neighbours) else None


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
