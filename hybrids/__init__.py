"""Train hybrid stacks on in-context retrieval; measure what they cost, carry and recall."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hybrids")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
