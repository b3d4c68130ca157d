"""What a command imports before it answers: no more than it needs."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from hybrids.cli import main
sys.argv = ["hybrids", *sys.argv[1:]]
code = main()
print(code, *(name for name in ("torch", "lightning", "wandb", "sympy", "matplotlib", "torch._dynamo", "hydra")
              if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("--help", set()),
        ("--version", set()),
        ("patterns LLLAx2", set()),
        ("plugins", set()),
        ("task --help", set()),
        ("atlas --help", set()),
        ("state pattern=LLLA context=64", {"torch", "hydra"}),
        ("triangle pattern=LA context=64", {"torch", "hydra"}),
        ("task mqar", {"torch", "hydra"}),
        ("bits --help", {"torch", "hydra"}),
    ],
)
def test_a_command_imports_no_more_than_it_needs(tmp_path, command, allowed):
    program = [sys.executable, "-c", PROGRAM, *command.split()]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=True)
    code, *imported = done.stderr.split()
    assert code == "0" and set(imported) == allowed


def test_who_stops_reading_sees_no_complaint(tmp_path):
    program = f"{sys.executable} -m hybrids.cli plugins | head -1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("plugins") and done.stderr == ""
