"""The built wheel alone: commands, plugins and configuration work from another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_wheel_trains_from_another_folder(tmp_path, tiny):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    source = tmp_path / "source"  # building writes into the source tree
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    subprocess.run([*build, str(source)], check=True)
    (wheel,) = tmp_path.glob("hybrids-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # but not the editable hybrids

    def hybrids(*args: str) -> str:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [str(tmp_path / "env" / "bin" / "hybrids"), *args]
        return subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout

    assert "gated_delta_net" in hybrids("plugins")
    assert "test accuracy" in hybrids("train", *tiny, "pattern=LA")
    (run,) = (tmp_path / "runs").glob("mqar-LA-*")
    assert "accuracy" in hybrids("eval", f"run={run}", "num_examples=8", "sizes.length=[16]", "sizes.num_pairs=[2]")
