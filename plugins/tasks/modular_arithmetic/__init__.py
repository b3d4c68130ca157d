"""Modular arithmetic: `expressions` draws and evaluates, `laws` says how likely each value is, `task` asks for it."""

from hybrids_plugins.tasks.modular_arithmetic.task import ModularArithmetic

__all__ = ["ModularArithmetic"]
