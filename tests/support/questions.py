"""The tasks of one question, by name, and what their tokens spell."""

from hybrids import registry

NAMES = ("index", "associative_recall", "cgram_retrieval", "counting")
MODES = ("vanilla", "retrieval")
CASES = [(name, mode) for name in NAMES for mode in MODES]


def build(name, **kwargs):
    return registry.get("task", name).cls(**kwargs)


def spelled(task, tokens):
    return " ".join(map(task.spell, tokens))
