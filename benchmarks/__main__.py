"""Run every benchmark with its defaults: python -m benchmarks."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_"))


def main() -> int:
    """Print each benchmark's name and output; exit code 1 if one failed."""
    failed = []
    for path in SCRIPTS:
        print(f"== {path.name}", flush=True)
        if subprocess.run([sys.executable, str(path), *sys.argv[1:]], check=False).returncode:
            failed.append(path.name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
