"""Every mixer is one graph to torch.compile, forward and backward: a break would leave all after it uncompiled."""

import subprocess
import sys
from pathlib import Path

import pytest

from hybrids import registry

PROGRAM = Path(__file__).parents[1] / "support" / "one_graph.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("mixer"))
def test_a_mixer_is_one_graph(name: str) -> None:
    done = subprocess.run([sys.executable, PROGRAM, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
