"""IsTree: whether a graph is a tree. The task, its graphs, its walks and what they write."""

from hybrids_plugins.tasks.is_tree.task import IsTree

__all__ = ["IsTree"]
