"""Word problems of finite groups: `groups` multiplies and names elements, `task` asks for products."""

from hybrids_plugins.tasks.word_problem.task import WordProblem

__all__ = ["WordProblem"]
