"""Forests as tensors: each node points to its parent, and a root to itself.

n nodes; rows are examples. Walks along parents double their reach at each turn, so that a call takes about log2 n
operations on whole tensors, whatever the trees look like.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def ancestors(parent: Int[Tensor, "B n"], nodes: Int[Tensor, "B k"]) -> Int[Tensor, "B k L"]:
    """Each of k nodes, its parent, and so on, to the root, which repeats to the end; L is a power of two from n on."""
    paths, jump = nodes[:, :, None], parent
    while paths.shape[2] < parent.shape[1]:
        paths = torch.cat([paths, jump.gather(1, paths.flatten(1)).view_as(paths)], dim=2)
        jump = jump.gather(1, jump)
    return paths


def roots(parent: Int[Tensor, "B n"]) -> Int[Tensor, "B n"]:
    """The root of every node."""
    for _ in range(num_doublings(parent)):
        parent = parent.gather(1, parent)
    return parent


def num_doublings(parent: Int[Tensor, "B n"]) -> int:
    """Doublings after which a jump passes every path."""
    return (parent.shape[1] - 1).bit_length()


def scatter_where(
    x: Int[Tensor, "B n"], columns: Int[Tensor, "B m"], values: Int[Tensor, "B m"], mask: Bool[Tensor, "B m"]
) -> Int[Tensor, "B n"]:
    """`x` with the values written into their columns, where `mask`; those columns must differ within a row."""
    wide = torch.cat([x, x[:, :1]], dim=1)
    return wide.scatter_(1, torch.where(mask, columns, x.shape[1]), values)[:, :-1]


def reroot(
    parent: Int[Tensor, "B n"], key: Int[Tensor, "B n"], node: Int[Tensor, " B"]
) -> tuple[Int[Tensor, "B n"], Int[Tensor, "B n"]]:
    """The same edges with `node` as the root of its tree; `key[v]` belongs to the edge from v to its parent."""
    path = ancestors(parent, node[:, None])[:, 0]
    length = (path[:, 1:] != path[:, :-1]).sum(1) + 1
    return turn_path(parent, key, path, length, node, key.gather(1, node[:, None])[:, 0])


def turn_path(
    parent: Int[Tensor, "B n"],
    key: Int[Tensor, "B n"],
    path: Int[Tensor, "B L"],
    length: Int[Tensor, " B"],
    top: Int[Tensor, " B"],
    top_key: Int[Tensor, " B"],
) -> tuple[Int[Tensor, "B n"], Int[Tensor, "B n"]]:
    """Parents and keys once the edges between the first `length` nodes of `path` point the other way.

    The first node hangs from `top` by an edge of key `top_key`; the last one gives up its parent. Nothing changes
    where `length` is 0.
    """
    inside = torch.arange(path.shape[1], device=path.device) < length[:, None]
    before = torch.cat([top[:, None], path[:, :-1]], dim=1)
    keys = torch.cat([top_key[:, None], key.gather(1, path[:, :-1])], dim=1)
    return scatter_where(parent, path, before, inside), scatter_where(key, path, keys, inside)
