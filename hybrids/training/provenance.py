"""What a result was made with: code, versions, processor."""

import platform
import subprocess
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import hybrids
from hybrids.registry import GROUP


def name_cpu() -> str:
    """Model of the processor; only its architecture where Linux does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def describe_code() -> dict[str, Any]:
    """Commit and uncommitted changes where hybrids runs from a checkout, and the versions of what it runs on."""
    packages = ["hybrids", "torch", "lightning", *{p.dist.name for p in entry_points(group=GROUP) if p.dist}]
    return {**_describe_checkout(Path(hybrids.__file__).parent), **{name: _version(name) for name in packages}}


def _describe_checkout(path: Path) -> dict[str, Any]:
    def git(*args: str) -> bytes | None:
        done = subprocess.run(["git", "-C", str(path), *args], capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    try:
        if git("ls-files", "--error-unmatch", "__init__.py") is None:
            return {"commit": None, "changes": None}
        commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD", "--", "..")
    except FileNotFoundError:  # no git on this machine
        return {"commit": None, "changes": None}
    return {
        "commit": commit.decode().strip() if commit else None,
        "changes": sha256(changes).hexdigest()[:8] if changes else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
