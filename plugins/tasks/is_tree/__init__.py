"""IsTree: whether a graph is a tree.

`task` draws `random_graphs` (kept as `forests`), lets `walks` go over them, and writes what these see and what
`searches` ask for as `traces`; `steps` does the same one step at a time, for the oracle and the tool.
"""

from hybrids_plugins.tasks.is_tree.task import IsTree

__all__ = ["IsTree"]
