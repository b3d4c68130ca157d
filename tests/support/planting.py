"""Bugs planted for a check: cases of a class that has one, and what the check must say of it."""

import pytest


def planting():
    """A list of cases for `check, cls, match`, and the decorator that adds a class to it."""
    cases = []

    def plant(check, match):
        """The class has one bug, which `check` must name."""

        def add(cls):
            cases.append(pytest.param(check, cls, match, id=f"{check.__name__}-{cls.__name__}"))
            return cls

        return add

    return cases, plant
