"""`python -m hybrids.cli` is the command `hybrids`."""

import sys

from hybrids.cli import main

sys.exit(main())
