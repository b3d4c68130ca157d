"""Refuse a setting that a task cannot have, with what is allowed."""

from hybrids.errors import UserError, suggest
from hybrids.task import Task


def check_number(name: str, value: int, low: int, high: int | None = None, why: str = "") -> None:
    """UserError unless low <= value <= high (no limit for None); `why` says what sets these limits."""
    if value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UserError(f"{name}={value} must be {allowed}{why and f' ({why})'}")


def check_words(task: Task) -> None:
    """UserError unless every setting of `task.choices` is one of its words."""
    for name, allowed in task.choices.items():
        value = getattr(task, name)
        if value not in allowed:
            raise UserError(f"{name}={value!r} is unknown; {suggest(str(value), allowed)}")
