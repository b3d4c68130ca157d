"""Train one run, or with -m a sweep: python train.py arch=hybrid pattern=LLLA."""

import sys

from hybrids.cli import run_train

if __name__ == "__main__":
    sys.exit(run_train())
