"""A backend is chosen for a reason, refused with a reason and a command, and never left in silence."""

import contextlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from gpu_kernels import require

from hybrids.ops import selective_scan_cpu
from hybrids.ops.kernels import (
    Demand,
    Obstacle,
    Package,
    advice,
    backends_of,
    choose,
    find_kernel,
    kernel,
    kernels_of,
    limits,
    machine,
    obstacles,
    ops_with_kernels,
    register_kernel,
    resolve,
    resolve_all,
)

DELTA = Demand(op="delta_rule", d_key=64, d_value=64, gate="scalar")
CONV = Demand(op="short_conv", d_conv=64, conv_size=4)
BF16 = torch.bfloat16


@pytest.fixture
def whole_machine(monkeypatch):
    """A machine that lacks nothing."""
    monkeypatch.setattr(machine, "missing", lambda kernel: ())


@pytest.fixture(autouse=True)
def forgotten_warnings():
    choose._warned.clear()
    machine.missing.cache_clear()
    yield
    machine.missing.cache_clear()


def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_cpu_takes_torch_and_says_why_without_a_warning(monkeypatch):
    no_gpu(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = resolve(DELTA, device="cpu")
    assert choice.backend == "torch"
    assert "no working GPU" in choice.reason


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        (DELTA, "fla"),
        (CONV, "mamba_ssm"),
        (Demand(op="selective_scan", d_state=16), "mamba_ssm"),
        (Demand(op="mamba2_scan", d_state=64, d_value=64), "mamba_ssm"),
        (Demand(op="linear_attention", d_key=16, d_value=256), "fla"),
        (Demand(op="dplr", d_key=64, d_value=64, gate="key"), "fla"),
    ],
)
def test_auto_takes_the_fastest_that_can_run(whole_machine, demand, expected):
    assert resolve(demand, device="cuda", dtype=BF16).backend == expected


@pytest.mark.parametrize(
    ("demand", "dtype", "cause"),
    [
        (Demand(op="delta_rule", d_key=8, d_value=64, gate="scalar"), BF16, "d_key=8 is outside 16 to 256"),
        (Demand(op="linear_attention", d_key=64, d_value=512), BF16, "d_value=512 is outside 16 to 256"),
        (Demand(op="mamba2_scan", d_state=8, d_value=64), BF16, "d_state=8 is outside 16 to 256"),
        (Demand(op="selective_scan", d_state=300), BF16, "d_state=300 is above 256"),
        (Demand(op="short_conv", d_conv=64, conv_size=5), BF16, "conv_size=5 is outside 2 to 4"),
        (Demand(op="short_conv", d_conv=20, conv_size=4), BF16, "20 features"),
        (Demand(op="delta_rule", d_key=64, d_value=64), torch.float32, "refuses float32"),
        (Demand(op="dplr", d_key=64, d_value=64), torch.float32, "float32 is wrong on some platforms"),
        (DELTA, torch.float32, "float32 as TF32"),
        (DELTA, torch.float64, "torch.float64"),
        (CONV, torch.float64, "torch.float64"),
    ],
)
def test_auto_warns_once_on_a_gpu_when_it_falls_to_torch(whole_machine, demand, dtype, cause):
    with pytest.warns(UserWarning, match=cause):
        assert resolve(demand, device="cuda", dtype=dtype).backend == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cause in resolve(demand, device="cuda", dtype=dtype).reason


def test_float32_takes_a_kernel_where_tf32_is_allowed(whole_machine):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert resolve(DELTA, device="cuda").backend == "fla"
    finally:
        torch.set_float32_matmul_precision(before)


def test_kernels_without_tensor_cores_keep_float32(whole_machine):
    assert resolve(CONV, device="cuda").backend == "mamba_ssm"
    assert resolve(Demand(op="selective_scan", d_state=16), device="cuda").backend == "mamba_ssm"


def test_an_explicit_backend_that_cannot_run_is_an_error_with_the_command(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "is_installed", lambda module: module == "triton")
    with pytest.raises(
        ValueError, match=r"fla cannot run delta_rule: fla is not installed \(pip install .flash-linear"
    ):
        resolve(DELTA, "fla", device="cuda", dtype=BF16)
    with pytest.raises(ValueError, match=r"selective_scan_cuda is not installed \(pip install ninja"):
        resolve(Demand(op="selective_scan", d_state=16), "mamba_ssm", device="cuda", dtype=BF16)


@pytest.mark.parametrize("demand", [DELTA, CONV])
def test_torch_is_always_allowed(demand):
    assert resolve(demand, "torch", device="cuda").backend == "torch"


def test_unknown_names_are_answered_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"backend='flaa' is unknown; did you mean 'fla'\?"):
        resolve(DELTA, "flaa", device="cpu")
    with pytest.raises(ValueError, match=r"short_conv has no such backend; .*allowed: mamba_ssm, torch"):
        resolve(CONV, "fla", device="cpu")
    with pytest.raises(ValueError, match=r"unknown op 'delta'"):
        Demand(op="delta")
    with pytest.raises(ValueError, match=r"unknown gate 'keys'; did you mean 'key'"):
        Demand(op="delta_rule", gate="keys")


def test_a_mixer_gets_the_backend_where_its_ops_have_it(whole_machine):
    choices = resolve_all([DELTA, CONV], "fla", device="cuda", dtype=BF16)
    assert {op: choice.backend for op, choice in choices.items()} == {"delta_rule": "fla", "short_conv": "mamba_ssm"}
    torch_only = resolve_all([DELTA, CONV], "torch", device="cuda", dtype=BF16)
    assert {choice.backend for choice in torch_only.values()} == {"torch"}
    with pytest.raises(ValueError, match=r"backend=fla: this mixer uses short_conv; .*allowed: auto, mamba_ssm, torch"):
        resolve_all([CONV], "fla", device="cuda", dtype=BF16)
    with pytest.raises(ValueError, match="backend='flap' is unknown"):
        resolve_all([DELTA], "flap", device="cuda", dtype=BF16)


def test_a_mixer_may_ask_one_op_for_several_calls(whole_machine):
    choices = resolve_all([CONV, DELTA, CONV], "mamba_ssm", device="cuda", dtype=BF16)
    assert {op: choice.backend for op, choice in choices.items()} == {"short_conv": "mamba_ssm", "delta_rule": "fla"}


def test_a_package_is_not_imported_where_no_gpu_works(monkeypatch):
    no_gpu(monkeypatch)
    monkeypatch.setattr(machine, "is_installed", lambda module: True)
    monkeypatch.setattr(machine, "import_outside", lambda name: pytest.fail(f"{name} was imported"))
    found = machine.missing(find_kernel("delta_rule", "fla"))
    assert [o.reason.partition(":")[0] for o in found] == ["no working GPU"]


def test_a_driver_that_does_not_work_is_reported_in_its_own_words(monkeypatch):
    class Active:
        def get_current_target(self):
            raise RuntimeError("0 active drivers ([]). There should only be one.")

    driver = types.SimpleNamespace(active=Active())
    triton = types.SimpleNamespace(runtime=types.SimpleNamespace(driver=driver))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "is_installed", lambda module: True)
    monkeypatch.setitem(sys.modules, "triton", triton)
    monkeypatch.setitem(sys.modules, "fla", types.ModuleType("fla"))
    (found,) = machine.missing(find_kernel("delta_rule", "fla"))
    assert "0 active drivers" in found.reason


def test_a_package_built_for_another_torch_is_to_be_built_again(monkeypatch):
    def fail(name):
        raise ImportError("undefined symbol: _ZN3c104cuda9SetDeviceEab")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "is_installed", lambda module: True)
    monkeypatch.setattr(machine, "import_outside", fail)
    (found,) = machine.missing(find_kernel("delta_rule", "fla"))[1:]
    assert "undefined symbol" in found.reason
    # pip knows neither by the name of its module
    removal = "pip uninstall -y fla-core flash-linear-attention"
    assert found.command == f'{removal} && pip install "flash-linear-attention>=0.6" --no-cache-dir'
    assert advice.build_again("mamba_ssm", "x").startswith("pip uninstall -y mamba-ssm && ")
    assert advice.build_again("mamba_ssm.ops", "x --no-cache-dir") == "pip uninstall -y mamba-ssm && x --no-cache-dir"
    assert advice.build_again("a_module_of_no_package", "pip install it") == "pip install it --no-cache-dir"


def requiring(monkeypatch, *requirements):
    """A torch with these requirements."""
    requires = advice.metadata.requires
    monkeypatch.setattr(
        advice.metadata, "requires", lambda name: list(requirements) if name == "torch" else requires(name)
    )


TORCH_2_13 = ("sympy>=1.13.3", 'triton==3.7.1; platform_system == "Linux"', 'optree>=0.13.0; extra == "optree"')


def test_a_missing_triton_is_the_one_that_torch_requires(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "is_installed", lambda module: module != "triton")
    requiring(monkeypatch, *TORCH_2_13)
    assert machine.missing(find_kernel("delta_rule", "fla")) == (
        Obstacle("triton is not installed", "pip install triton==3.7.1"),
    )
    machine.missing.cache_clear()
    requiring(monkeypatch, "sympy>=1.13.3", "triton==3.7.1; platform_system == 'Nowhere'")
    assert machine.missing(find_kernel("delta_rule", "fla")) == (Obstacle("triton is not installed"),)


@pytest.mark.parametrize(("installed", "command"), [("3.9.0", "pip install triton==3.7.1"), ("3.7.1", "nvidia-smi")])
def test_another_triton_than_that_of_torch_is_replaced(monkeypatch, installed, command):
    requiring(monkeypatch, *TORCH_2_13)
    monkeypatch.setattr(advice, "version_of", lambda name: installed)
    assert advice.triton_without_a_driver() == command


@pytest.fixture
def odd_package(monkeypatch, tmp_path, own_kernels):
    """A function that makes a kernel of a package that runs this code when it is imported, with a GPU that works."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.syspath_prepend(tmp_path)

    def make(code):
        (tmp_path / "an_odd_package.py").write_text(code)
        register_kernel("an_op", "odd", note="a test", packages=[Package("an_odd_package", "pip install it")])(print)
        return find_kernel("an_op", "odd")

    yield make
    sys.modules.pop("an_odd_package", None)


def test_a_warning_at_import_is_no_reason_against_a_package(odd_package):
    """fla's import sets off a DeprecationWarning of torch.jit; pytest makes errors of warnings."""
    kernel = odd_package("import warnings; warnings.warn('old', DeprecationWarning)")
    assert machine.missing(kernel) == ()
    require("an_op", "odd")


def test_a_test_on_a_gpu_fails_where_a_package_is_there_and_cannot_be_imported(odd_package):
    odd_package("raise ImportError('undefined symbol: _ZN3c10')")
    with pytest.raises(pytest.fail.Exception, match="an_odd_package cannot be imported: ImportError: undefined symbol"):
        require("an_op", "odd")


def test_a_test_on_a_gpu_is_skipped_where_a_package_is_not_there(odd_package, monkeypatch):
    odd_package("")
    monkeypatch.setattr(machine, "is_installed", lambda module: False)
    with pytest.raises(pytest.skip.Exception, match="an_odd_package is not installed"):
        require("an_op", "odd")


HOPPER, AMPERE, BLACKWELL = (9, 0), (8, 0), (10, 0)


@pytest.mark.parametrize(
    ("capability", "triton", "is_refused"),
    [
        (HOPPER, "3.3.1", False),
        (HOPPER, "3.4.0", True),
        (HOPPER, "3.6.0", True),  # of torch 2.11
        (HOPPER, "3.7.0", True),  # of torch 2.12.0
        (HOPPER, "3.7.1", False),
        (AMPERE, "3.6.0", False),
        (BLACKWELL, "3.6.0", False),
    ],
)
@pytest.mark.parametrize("op", ["linear_attention", "delta_rule"])
def test_fla_has_no_gated_gradient_on_a_hopper_with_some_triton(
    whole_machine, monkeypatch, op, capability, triton, is_refused
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(limits, "version_of", lambda name: triton)
    gated = Demand(op=op, d_key=64, d_value=64, gate="scalar")
    with pytest.warns(UserWarning, match="no backward pass") if is_refused else contextlib.nullcontext():
        assert resolve(gated, device="cuda", dtype=BF16).backend == ("torch" if is_refused else "fla")
    for gate in ("none", "key"):
        demand = Demand(op=op, d_key=64, d_value=64, gate=gate)
        assert resolve(demand, device="cuda", dtype=BF16).backend == "fla"


def test_the_limit_for_a_hopper_is_that_of_fla():
    """The condition under which the installed fla raises."""
    package = importlib.util.find_spec("fla")
    source = (Path(package.origin).parent / "ops" / "common" / "chunk_o.py").read_text()
    assert "g is not None and IS_NVIDIA_HOPPER and TRITON_ABOVE_3_4_0 and not TRITON_ABOVE_3_7_1:" in source


def test_an_op_refuses_a_backend_that_it_does_not_have():
    assert find_kernel("delta_rule", "fla").op == "delta_rule"
    assert find_kernel("delta_rule", "torch") is None
    with pytest.raises(ValueError, match=r"backend=mamba_ssm: delta_rule has no such backend; allowed: fla, torch"):
        find_kernel("delta_rule", "mamba_ssm")


def test_a_gpu_neither_builds_the_kernel_for_a_cpu_nor_mentions_it(monkeypatch):
    monkeypatch.setattr(selective_scan_cpu, "why_not", lambda: pytest.fail("it was built"))
    with pytest.warns(UserWarning, match=r"mamba_ssm: no working GPU") as caught:
        resolve(Demand(op="selective_scan", d_state=16), device="cuda")
    assert "cpp" not in str(caught[0].message)


def test_a_gpu_kernel_has_packages_and_every_kernel_a_note():
    records = [record for op in ops_with_kernels() for record in kernels_of(op)]
    assert all(record.packages for record in records if record.device == "cuda")
    assert all(record.note for record in records)


@pytest.fixture
def own_kernels(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(kernel, "_kernels", {op: kernels_of(op) for op in ops_with_kernels()})


def test_a_further_kernel_takes_its_place_in_the_order(own_kernels, whole_machine):
    def faster(): ...

    def slower(): ...

    register_kernel("delta_rule", "slower", note="a test")(slower)
    register_kernel("delta_rule", "faster", note="a test", faster_than="fla")(faster)
    assert backends_of("delta_rule") == ["faster", "fla", "slower", "torch"]
    assert resolve(DELTA, device="cuda", dtype=torch.float64).backend == "faster"
    with pytest.raises(ValueError, match=r"faster_than='flaa' is unknown; did you mean 'fla'\?"):
        register_kernel("delta_rule", "third", note="", faster_than="flaa")(faster)


def test_two_kernels_for_one_place_are_an_error_naming_both(own_kernels):
    def fla(): ...

    both = r"two kernels of delta_rule are named 'fla': .*delta_rule_on_fla and .*<locals>.fla"
    with pytest.raises(ValueError, match=both):
        register_kernel("delta_rule", "fla", note="a test")(fla)
    assert find_kernel("delta_rule", "fla").call is not fla
    with pytest.raises(ValueError, match="backend=torch of delta_rule is taken"):
        register_kernel("delta_rule", "torch", note="a test")


def test_registering_a_kernel_again_is_no_duplicate(own_kernels):
    before = backends_of("delta_rule")
    register_kernel("delta_rule", "fla", note="a test")(find_kernel("delta_rule", "fla").call)
    assert backends_of("delta_rule") == before


@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler sets off warnings of its own
def test_the_compiler_does_not_trace_a_kernel(own_kernels):
    """Nor what the kernel calls: those of fla and mamba_ssm are tuned by hooks that the compiler refuses."""
    traced = []

    def inner(x):
        traced.append(torch.compiler.is_compiling())
        return x.sin()

    @register_kernel("an_op", "theirs", note="a test")
    def call(x):
        traced.append(torch.compiler.is_compiling())
        return inner(x), x

    x = torch.ones(3, requires_grad=True)
    compiled = torch.compile(lambda x: find_kernel("an_op", "theirs").call(x * 2)[0] * 2, backend="eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(x), 2 * torch.sin(2 * x))
    assert traced == [False] * 4


def test_one_function_may_be_two_backends(own_kernels):
    def call(): ...

    register_kernel("an_op", "first", note="a test")(register_kernel("an_op", "second", note="a test")(call))
    assert backends_of("an_op") == ["second", "first", "torch"]


@pytest.mark.parametrize("module", ["a_package_nobody_has", "a_package_nobody_has.kernels"])
def test_a_kernel_for_a_cpu_may_need_a_package_and_no_gpu(own_kernels, monkeypatch, module):
    def call(): ...

    no_gpu(monkeypatch)
    packages = [Package(module, "pip install it")]
    register_kernel("delta_rule", "numba", note="", device="cpu", packages=packages)(call)
    assert machine.missing(find_kernel("delta_rule", "numba")) == (
        Obstacle(f"{module} is not installed", "pip install it"),
    )


def test_tensors_on_a_cpu_are_an_obstacle_also_beside_a_gpu(whole_machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = obstacles(DELTA, find_kernel("delta_rule", "fla"), torch.device("cpu"), BF16)
    assert found == [Obstacle("the tensors are on cpu, the kernel runs on cuda", "trainer=gpu")]


def test_the_kernel_for_a_cpu_is_taken_there_and_only_there(whole_machine, monkeypatch):
    scan = Demand(op="selective_scan", d_state=16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve(scan, device="cpu").backend == "cpp"
    with pytest.raises(ValueError, match="cpp cannot run selective_scan: the tensors are on cuda"):
        resolve(scan, "cpp", device="cuda")


def test_without_a_compiler_the_kernel_for_a_cpu_says_so(monkeypatch):
    no_gpu(monkeypatch)
    monkeypatch.setattr(selective_scan_cpu, "why_not", lambda: "g++ was not found")
    with pytest.raises(ValueError, match=r"cannot be built: g\+\+ was not found \(apt-get install g\+\+\)"):
        resolve(Demand(op="selective_scan", d_state=16), "cpp", device="cpu")
