"""Published architectures as formulas: what they carry, what a step costs, and which of E, C, R follows from that.

`table` reads the formulas, `derive` says which properties they imply, `measured` holds them against our own layers.
"""

FAMILIES = ("attention", "recurrent", "hybrid")

CONTEXT = 131_072
"""Tokens at which architectures are placed unless another number is asked for."""
