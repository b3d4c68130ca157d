"""CPU time of a fresh process until a command has answered, beside that of `import torch` alone.

    python benchmarks/start_up.py [--rounds 3]

User and system time, the best of the rounds, one thread; run on an idle core.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile

COMMANDS = (
    *("--help", "patterns LLLA", "plugins", "task --help", "atlas jamba", "atlas", "state pattern=LLLA"),
    *("triangle pattern=LLLA", "task mqar", "bits --help", "train --help"),
)


def cpu_seconds(arguments: list[str], folder: str) -> float:
    """Of one process that ends well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=folder, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    programs = {"import torch": ["-c", "import torch"], "import hybrids": ["-c", "import hybrids"]}
    programs |= {f"hybrids {command}": ["-m", "hybrids.cli", *command.split()] for command in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in programs.items():
            print(f"{name:<32}{min(cpu_seconds(arguments, folder) for _ in range(rounds)):6.2f} s", flush=True)


if __name__ == "__main__":
    main()
