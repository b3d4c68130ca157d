"""What one of `walks` writes that knows its graph by searching alone: its tokens, and what searches return."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids_plugins.tasks.is_tree.traces import Trace, always, join
from hybrids_plugins.tasks.is_tree.walks import Forest, Visits, next_neighbours


class Words(NamedTuple):
    """Tokens of a trace; node v is `node + v`."""

    open: int
    close: int
    failed: int
    edge: int
    record: int
    node: int


TEMPLATE = [
    *("node", "open", "node", "record", "close", "PARENT"),
    *("open", "node", "edge", "from", "close", "NEXT"),
    *("open", "node", "edge", "parent", "close", "SECOND"),
    *("open", "other", "record", "close", "FOUND"),
    *("other", "record", "node"),
]
"""Columns of a visit, those that searches return in capitals."""

_FROM, _SECOND, _LOOK_UP, _RECORD = slice(9, 10), slice(12, 18), slice(18, 23), slice(23, 26)


def search_trace(forest: Forest, visits: Visits, words: Words, *, root_record: bool) -> Trace:
    """The searches of every visit to a node v (P its parent, Q the child returned from):

        v <v ~> P  <v - [Q]> next  [<v - P> next]  [<next ~> FAILED next ~ v, or <next ~> its parent]

    The next edge is the first one at the first visit of v, else the one after the edge to Q; if it leads to the parent,
    the one after it. What it leads to is looked up: without a record it gets one, with one the walk ends. No edge, and
    the parent of 0, are FAILED; with `root_record` 0 is its own parent, and its record comes first.
    """
    columns = _columns(forest, visits, root_record)
    num_nodes, turn = forest.parent.shape[1], torch.arange(visits.node.shape[1], device=visits.node.device)
    is_visit, is_last = turn < visits.number[:, None], turn == visits.number[:, None] - 1
    leads_on = columns["other"] < num_nodes
    written = is_visit[:, :, None].repeat(1, 1, len(TEMPLATE))
    for part, condition in (
        (_FROM, visits.place >= num_nodes),
        (_SECOND, columns["other"] != columns["NEXT"]),
        (_LOOK_UP, leads_on),
        (_RECORD, leads_on & ~is_last),
    ):
        written[:, :, part] &= condition[:, :, None]
    columns["FOUND"].masked_fill_(~is_last, num_nodes)
    spelled = {name: torch.where(x < num_nodes, words.node + x, words.failed) for name, x in columns.items()}
    spelled |= {name: torch.full_like(turn, word).expand_as(is_visit) for name, word in words._asdict().items()}
    spelled["node"] = words.node + visits.node
    tokens = torch.stack([spelled[name] for name in TEMPLATE], dim=2).flatten(1)
    returned = torch.tensor([name.isupper() for name in TEMPLATE], device=tokens.device).repeat(len(turn))
    trace = Trace(tokens, written.flatten(1), returned)
    if not root_record:
        return trace
    record = torch.tensor([words.node, words.record, words.node], device=tokens.device)
    return join([always(record.expand(len(tokens), -1)), trace])


def _columns(forest: Forest, visits: Visits, root_record: bool) -> dict[str, Int[Tensor, "B V"]]:
    """The nodes that the columns of TEMPLATE name; n for none."""
    num_nodes = forest.parent.shape[1]
    parent = torch.cat([forest.parent, torch.full_like(forest.parent[:, :1], num_nodes)], dim=1)
    parent[:, 0] = 0 if root_record else num_nodes
    lists, nodes = next_neighbours(forest), torch.arange(num_nodes, device=parent.device)
    own_parent = parent.gather(1, visits.node)
    found = torch.cat([lists.first, lists.after_child], dim=1).gather(1, visits.place)
    second = lists.after_parent.gather(1, visits.node)
    # At node 0, "no parent" must not be taken for "no edge"; nor has it an edge to itself.
    other = torch.where((found == own_parent) & (visits.node > 0), second, found)
    child = torch.cat([nodes, nodes]).expand(len(parent), -1).gather(1, visits.place)
    return {
        "PARENT": own_parent,
        "parent": own_parent,
        "from": child,
        "NEXT": found,
        "SECOND": second,
        "other": other,
        "FOUND": parent.gather(1, other),
    }
