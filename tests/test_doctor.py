"""`hybrids doctor` says for each op and backend whether it runs, and what would make it run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybrids import cli, doctor, registry
from hybrids.doctor import examine
from hybrids.ops.kernels import backends_of, machine, ops_with_kernels


@pytest.fixture(autouse=True)
def fresh_look():
    machine.missing.cache_clear()
    yield
    machine.missing.cache_clear()


@pytest.fixture
def cpu_only(monkeypatch):
    """Every kernel package and triton installed, and no GPU: the case in which Triton finds 0 active drivers."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(machine, "is_installed", lambda module: True)


def test_every_op_and_backend_is_reported_and_torch_always_runs():
    rows = examine()["backends"]
    assert [(row["op"], row["backend"]) for row in rows] == [
        (op, name) for op in ops_with_kernels() for name in backends_of(op)
    ]
    assert all(row["usable"] for row in rows if row["backend"] == "torch")


def test_without_a_gpu_no_kernel_is_usable_and_the_cause_is_the_gpu(cpu_only):
    for row in examine()["backends"]:
        if row["backend"] in ("fla", "mamba_ssm"):
            assert not row["usable"]
            assert "0 active drivers" in row["why"]
            assert row["commands"] == ["nvidia-smi"]


def test_a_torch_without_cuda_is_told_from_a_missing_gpu(cpu_only, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    (row,) = (row for row in examine()["backends"] if row["op"] == "short_conv" and row["backend"] == "mamba_ssm")
    assert "built without CUDA" in row["why"]
    # pip would find the torch that is there to be enough
    version = torch.__version__.partition("+")[0]
    install = f"pip install torch=={version} --index-url https://download.pytorch.org/whl/cu130"
    assert row["commands"] == [f"pip uninstall -y torch && {install}"]


def test_a_missing_package_names_each_command_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "is_installed", lambda module: module == "triton")
    monkeypatch.setattr(doctor, "_devices", lambda: [])
    commands = {row["op"]: row["commands"] for row in examine()["backends"] if row["commands"]}
    assert commands["delta_rule"] == ['pip install "flash-linear-attention>=0.6"']
    (of_mamba,) = commands["selective_scan"]
    assert commands["mamba2_scan"] == [of_mamba]
    # Its dependencies would bring any Triton and a tilelang that fla prefers; without force, nothing may happen.
    assert "pip install mamba-ssm==2.3.2.post1 --no-build-isolation --no-deps --force-reinstall" in of_mamba
    page = (Path(__file__).parent.parent / "docs" / "kernels.md").read_text()
    for (command,) in commands.values():
        assert all(step in page for step in command.split(" && ")), command


def test_a_machine_that_has_everything_can_use_every_kernel(monkeypatch):
    monkeypatch.setattr(machine, "missing", lambda kernel: ())
    for row in examine()["backends"]:
        assert row["usable"]
        assert row["why"]
        assert row["commands"] == []


def test_versions_name_what_is_not_there():
    versions = examine()["versions"]
    assert versions["torch"] == torch.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"triton", "mamba-ssm", "causal-conv1d", "cuda of torch", "nvcc"} <= set(versions)


def run_doctor(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["hybrids", "doctor", *arguments])
    return cli.main()


def test_json_is_the_report(monkeypatch, capsys):
    code = run_doctor(monkeypatch, "--json")
    report = json.loads(capsys.readouterr().out)
    assert report == examine()
    assert code == (1 if registry.failures() else 0)


def test_the_table_shows_each_backend_and_a_failed_plugin_fails_the_command(monkeypatch, capsys):
    monkeypatch.setattr(registry, "failures", lambda: [registry.Failure("their.mixer", ImportError("no module x"))])
    assert run_doctor(monkeypatch) == 1
    shown = capsys.readouterr()
    assert all(op in shown.out for op in ops_with_kernels())
    assert "their.mixer: ImportError: no module x" in shown.err


def test_a_kernel_package_is_never_imported_by_looking():
    script = "import sys; from hybrids.doctor import examine; examine(); print({'fla', 'mamba_ssm'} & set(sys.modules))"
    if torch.cuda.is_available():
        pytest.skip("with a GPU, packages are imported to see whether they load")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
