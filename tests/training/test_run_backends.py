"""Which backend each letter of a run gets: asked for per run or letter, said at the start, kept with the result."""

import json
import logging
import warnings
from dataclasses import replace

import pytest
import torch

from hybrids.mixer import Mixer
from hybrids.ops.kernels import choose, kernel, kernels_of, machine, ops_with_kernels
from hybrids.training import train as training
from hybrids.training.evaluate import evaluate_grid
from hybrids.training.settings import GridSettings
from hybrids.training.train import build_model, measure_sizes, train

GPU = ("trainer=gpu", "trainer.precision=bf16-mixed", "model.d_model=64")
"""A run on a GPU, at a width that its kernels take."""


@pytest.fixture(autouse=True)
def forgotten():
    choose._warned.clear()
    machine.missing.cache_clear()
    yield
    machine.missing.cache_clear()


@pytest.fixture
def whole_machine(monkeypatch):
    """A machine that lacks nothing."""
    monkeypatch.setattr(machine, "missing", lambda kernel: ())


@pytest.fixture
def allowing(monkeypatch):
    """A machine whose kernels also take tensors on the CPU, of any width and dtype."""
    monkeypatch.setattr(machine, "missing", lambda kernel: ())
    records = {
        op: [replace(record, device="cpu", limits=lambda demand, dtype: []) for record in kernels_of(op)]
        for op in ops_with_kernels()
    }
    monkeypatch.setattr(kernel, "_kernels", records)


def test_auto_takes_the_kernels_that_can_run_and_names_the_main_one_first(whole_machine, make_run):
    run = make_run(*GPU, "pattern=LMA")
    assert run.backend_names == {
        "L": "fla+short_conv:mamba_ssm",
        "M": "mamba_ssm+short_conv:mamba_ssm",
        "A": "torch",
    }
    assert run.backends["L"]["delta_rule"].reason


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("backend=torch",), "torch"),
        (("mixers.L.backend=torch",), "torch"),
        (("backend=torch", "mixers.L.backend=fla"), "fla+short_conv:mamba_ssm"),
        (("backend=torch", "mixers.L.backend=auto"), "fla+short_conv:mamba_ssm"),
        (("backend=mamba_ssm", "mixers.L.backend=torch"), "torch"),
        (("backend=fla",), "fla+short_conv:mamba_ssm"),
    ],
)
def test_a_letter_goes_before_the_run(whole_machine, make_run, overrides, expected):
    run = make_run(*GPU, "pattern=LMA", *overrides)
    assert run.backend_names["L"] == expected
    asks_for_torch = "backend=torch" in overrides
    assert run.backend_names["M"] == ("torch" if asks_for_torch else "mamba_ssm+short_conv:mamba_ssm")


def test_the_model_of_a_run_gets_its_backends(whole_machine, make_run):
    run = make_run(*GPU, "pattern=LA", "mixers.L.backend=fla")
    model = build_model(run, run.task.build())
    chosen = [mixer.backends for mixer in model.modules() if isinstance(mixer, Mixer)]
    assert chosen == [{"delta_rule": "fla", "short_conv": "mamba_ssm"}, {}]
    on_torch = build_model(make_run(*GPU, "pattern=LA", "backend=torch"), run.task.build())
    assert measure_sizes(model, 16) == measure_sizes(on_torch, 16)


def test_a_backend_that_cannot_run_is_an_error_that_names_the_letter(make_run):
    with pytest.raises(
        ValueError, match=r"mixers.L: backend=fla cannot run delta_rule: no working GPU: .*\(pip uninstall -y torch"
    ):
        _ = make_run("pattern=LA", "mixers.L.backend=fla").backends
    with pytest.raises(
        ValueError, match=r"mixers.L: backend=cpp: this mixer uses delta_rule, short_conv; allowed: auto"
    ):
        _ = make_run("pattern=LA", "mixers.L.backend=cpp").backends


def test_a_backend_that_no_letter_has_is_an_error(make_run):
    with pytest.raises(ValueError, match=r"backend=cpp: no letter of pattern=LA has it; allowed: auto, fla, mamba_ssm"):
        _ = make_run("pattern=LA", "backend=cpp").backends
    with pytest.raises(ValueError, match=r"backend='flaa' is unknown; did you mean 'fla'\?"):
        make_run("backend=flaa")


def test_on_a_gpu_auto_says_why_it_falls_to_torch(whole_machine, make_run):
    run = make_run("trainer=gpu", "model.d_model=64", "pattern=LA")
    with pytest.warns(UserWarning, match=r"delta_rule runs on torch, without a kernel: fla: .*float32 as TF32"):
        assert run.backend_names["L"] == "torch+short_conv:mamba_ssm"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_run("pattern=LA", "backend=torch", "trainer=gpu").backend_names["L"] == "torch"


def test_a_run_that_allows_tf32_gets_the_kernel_for_float32(whole_machine, make_run):
    run = make_run("trainer=gpu", "trainer.tf32=true", "model.d_model=64", "pattern=LA")
    assert run.backend_names["L"] == "fla+short_conv:mamba_ssm"
    assert run.identity["trainer"]["tf32"] is True
    assert "tf32" not in make_run("trainer=gpu", "pattern=A").identity["trainer"]


@pytest.mark.parametrize(("tf32", "inside"), [(True, "high"), (False, "highest")])
def test_a_run_multiplies_in_its_own_precision_and_leaves_that_of_the_process(make_run, monkeypatch, tf32, inside):
    seen = []
    monkeypatch.setattr(training, "_train", lambda *args: seen.append(torch.get_float32_matmul_precision()))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        training.train(make_run("pattern=L", f"trainer.tf32={tf32}"))
        assert seen == [inside]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_identity_knows_what_runs_not_how_it_was_asked_for(whole_machine, make_run):
    usual = make_run(*GPU, "pattern=LA").id
    assert make_run(*GPU, "pattern=LA", "backend=fla").id == usual
    assert make_run(*GPU, "pattern=LA", "mixers.L.backend=fla").id == usual
    on_torch = {make_run(*GPU, "pattern=LA", *asked).id for asked in (["backend=torch"], ["mixers.L.backend=torch"])}
    assert len(on_torch) == 1 and usual not in on_torch


def test_a_run_that_moves_to_another_device_takes_what_runs_there(whole_machine, make_run, monkeypatch):
    run = make_run(*GPU, "pattern=LA", "mixers.L.backend=fla")
    assert run.on("gpu").backend_names == run.backend_names
    assert run.on("gpu", "torch").backend_names["L"] == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run.on("cpu").backend_names["L"] == "torch"
    with pytest.raises(ValueError, match=r"mixers.L: backend=fla cannot run delta_rule: the tensors are on cpu"):
        _ = run.on("cpu", "fla").backends


def test_a_run_says_at_its_start_what_runs_where_and_why(make_run, caplog):
    caplog.set_level(logging.INFO, "hybrids")
    run = make_run("pattern=LLA", "trainer.max_steps=1")
    result = train(run)
    said = [record.getMessage() for record in caplog.records if record.name == "hybrids.training.train"]
    assert [line.partition(" (")[0] for line in said] == ["L: delta_rule on torch", "L: short_conv on torch"]
    assert said[0].startswith("L: delta_rule on torch (fla: no working GPU")
    stored = json.loads(run.folder.result_file.read_text())
    assert stored["backend"] == result["backend"] == {"L": "torch", "A": "torch"}


def test_a_run_trains_and_is_evaluated_on_kernels(allowing, stand_ins, make_run):
    """What the stand-ins compute is what torch computes, up to rounding, so the scores of a short run are the same."""
    sizes = ("pattern=LMA", "mixer@mixers.L=gla", "trainer.max_steps=3", "trainer.val_every=3")
    run = make_run(*sizes)
    result = train(run)
    assert result["backend"] == {"L": "fla", "M": "mamba_ssm+short_conv:mamba_ssm", "A": "torch"}
    called = {call.name for call in stand_ins}
    assert called == {"fused_recurrent_gla", "mamba_chunk_scan_combined", "causal_conv1d_fn"}
    on_torch = train(make_run(*sizes, "backend=torch"))
    assert on_torch["id"] != result["id"]
    assert result["test"]["loss"] == pytest.approx(on_torch["test"]["loss"], rel=1e-3)
    assert (result["step_flops"], result["state_bits"]) == (on_torch["step_flops"], on_torch["state_bits"])
    grid = {"length": [16], "num_pairs": [2]}
    stand_ins.clear()
    (cell,) = evaluate_grid(run, run.folder, GridSettings(sizes=grid, num_examples=24, batch_size=12))
    assert {call.name for call in stand_ins} == called
    assert cell.loss == pytest.approx(result["test"]["loss"], rel=1e-3)
    stand_ins.clear()
    evaluate_grid(run, run.folder, GridSettings(sizes=grid, num_examples=24, batch_size=12, backend="torch"))
    assert stand_ins == []
