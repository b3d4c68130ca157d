"""Evaluate a run on a grid of sizes: python eval.py run=runs/<id>."""

import sys

from hybrids.cli import run_eval

if __name__ == "__main__":
    sys.exit(run_eval())
