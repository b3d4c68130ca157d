"""All rows of the atlas, worked out once."""

from functools import cache

from hybrids.report.terminal.atlas import make_rows
from hybrids.triangle.atlas import CONTEXT
from hybrids.triangle.atlas.table import architectures

ALL = architectures()


@cache
def every_row():
    """Every row at the context of the page."""
    return make_rows(list(ALL.values()), CONTEXT)
