"""Every check of a layer finds the bug that was planted for it, and nothing in a layer without bugs."""

from enum import Enum
from typing import ClassVar, Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from hybrids import registry
from hybrids.channel import ChannelMixer
from hybrids.checks import Subject, channels, checks_for, exemptions, mixers, modules, run_check, run_checks
from hybrids.checks.settings import settings_are_a_schema
from hybrids.mixer import Mixer

PLANTS = []


def plant(check, match):
    """The class has one bug, which `check` must name."""

    def add(cls):
        PLANTS.append(pytest.param(check, cls, match, id=f"{check.__name__}-{cls.__name__}"))
        return cls

    return add


class MeanState(NamedTuple):
    total: Tensor
    count: Tensor


class Mean(Mixer):
    """Mean of the projected tokens so far: a mixer without bugs."""

    def __init__(self, d_model: int, *, rate: float | None = None, names: list[str] | None = None) -> None:
        super().__init__(d_model)
        self.in_proj = nn.Linear(d_model, d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x, state=None):
        total, count = self.init_state(len(x)) if state is None else state
        v = self.in_proj(x)
        totals = v.cumsum(1) + total[:, None]
        counts = count + torch.arange(1, x.shape[1] + 1)
        return self.out_proj((totals / counts[..., None]).to(v.dtype)), MeanState(totals[:, -1], counts[:, -1:])

    def init_state(self, batch_size):
        zeros = self.in_proj.weight.new_zeros
        return MeanState(zeros(batch_size, self.d_model), zeros(batch_size, 1))

    def state_elements(self, context):
        return self.d_model + 1

    def step_flops(self, context):
        return 4 * self.d_model**2 + 4 * self.d_model + 1


class Gate(ChannelMixer):
    """A channel mixer without bugs."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x):
        return self.proj(x).sigmoid() * x

    def step_flops(self):
        return 2 * self.d_model**2 + 2 * self.d_model


class Colour(Enum):
    RED = 1


@plant(settings_are_a_schema, "'width' of PositionalSetting is not keyword-only")
class PositionalSetting(Mean):
    def __init__(self, d_model: int, width: int = 2) -> None: ...


@plant(settings_are_a_schema, "'settings' of OpenSettings is not keyword-only")
class OpenSettings(Mean):
    def __init__(self, d_model: int, **settings: int) -> None: ...


@plant(settings_are_a_schema, r"annotated typing.Literal\['a', 'b'\]; allowed: int")
class LiteralSetting(Mean):
    def __init__(self, d_model: int, *, form: Literal["a", "b"] = "a") -> None: ...


@plant(settings_are_a_schema, r"annotated int \| str; allowed")
class UnionSetting(Mean):
    def __init__(self, d_model: int, *, window: int | str = 1) -> None: ...


@plant(settings_are_a_schema, "'width' of NoDefault has no default")
class NoDefault(Mean):
    def __init__(self, d_model: int, *, width: int) -> None: ...


@plant(settings_are_a_schema, "'width' of NoAnnotation has no annotation")
class NoAnnotation(Mean):
    def __init__(self, d_model: int, *, width=1) -> None: ...


@plant(settings_are_a_schema, "default None, which is not")
class NoneWithoutOptional(Mean):
    def __init__(self, d_model: int, *, width: int = None) -> None: ...  # noqa: RUF013


@plant(settings_are_a_schema, "default True, which is not")
class TruthAsNumber(Mean):
    def __init__(self, d_model: int, *, width: int = True) -> None: ...


@plant(modules.builds_at_usual_widths, "cannot be built at d_model=128: ValueError")
class NarrowOnly(Mean):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        if d_model > 64:
            raise ValueError("too wide")


@plant(modules.builds_at_usual_widths, "start with NaN or infinity: gain")
class Uninitialised(Mean):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.gain = nn.Parameter(torch.full((1,), float("nan")))


@plant(modules.keeps_shape_and_dtype, r"torch.float32.* for inputs .*torch.float64")
class AlwaysSingle(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y.float(), state


@plant(modules.keeps_shape_and_dtype, r"\[3, 1, 64\].* for inputs \(\[3, 65, 64\]")
class LastOnly(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y[:, -1:], state


@plant(modules.keeps_shape_and_dtype, "NaN or infinity")
class Overflowing(Gate):
    def forward(self, x):
        return super().forward(x) * 1e20**2


@plant(mixers.is_causal, "before position 1 change with the tokens from 1 on")
class Centred(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y - y.mean(1, keepdim=True), state


@plant(mixers.is_causal, "before position 100 change")
class LooksAheadLate(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return torch.cat([y[:, :99], y[:, 99:].roll(-1, 1)], dim=1), state


@plant(mixers.cuts_keep_outputs, r"pieces 139 x 1 differ.* lacks something")
class Forgets(Mean):
    def forward(self, x, state=None):
        return super().forward(x, None)


@plant(mixers.cuts_keep_outputs, r"pieces 138\+1 differ")
class DropsIncompleteChunk(Mean):
    """Right for single steps and full chunks; loses the rest of a last, incomplete chunk."""

    def forward(self, x, state=None):
        y, new_state = super().forward(x, state)
        whole = x.shape[1] // 64 * 64
        return y, super().forward(x[:, :whole], state)[1] if whole not in (0, x.shape[1]) else new_state


@plant(mixers.none_is_the_initial_state, "init_state differs from None at T=1")
class OtherStart(Mean):
    def forward(self, x, state=None):
        return super().forward(x, MeanState(*(t + 1 for t in self.init_state(len(x)))) if state is None else state)


@plant(mixers.rows_are_independent, "row 0 of a batch differs")
class BatchCentred(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y - y.mean(0), state


@plant(mixers.rows_are_independent, "row 1 of a batch differs")
class SharedState(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y, MeanState(state.total[:1].expand_as(state.total), state.count)


@plant(mixers.state_is_batch_first_tensors, "after 1 tokens is a tuple; it must be a NamedTuple")
class PlainTuple(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y, tuple(state)


@plant(mixers.state_is_batch_first_tensors, "count of the state after 1 tokens is a float, not a tensor")
class NumberInState(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y, MeanState(state.total, state.count.max().item())


@plant(mixers.state_is_batch_first_tensors, r"total of init_state has shape \[64, 3\]; the batch \(3\)")
class BatchLast(Mean):
    def init_state(self, batch_size):
        return MeanState(*(t.mT if batch_size > 1 else t for t in super().init_state(batch_size)))


class Keeps(Mean):
    kept = None

    def forward(self, x, state=None):
        y, self.kept = super().forward(x, None if state is None else self.kept or state)
        return y, self.kept


plant(mixers.nothing_stays_on_the_module, "after another sequence came between differ")(Keeps)


@plant(mixers.nothing_stays_on_the_module, "a copy that gets only the state differ")
class KeepsAll(Keeps):
    def forward(self, x, state=None):
        return super().forward(x, state)[0], self.init_state(len(x))


@plant(mixers.state_is_not_modified, "T=1 writes into total")
class InPlace(Mean):
    def forward(self, x, state=None):
        y, new_state = super().forward(x, state)
        return y, new_state if state is None else MeanState(state.total.copy_(new_state.total), new_state.count)


@plant(mixers.declared_state_is_the_measured_one, "1 sequences has 65 elements, state_elements declares 64")
class NormaliserNotCounted(Mean):
    def state_elements(self, context):
        return self.d_model


@plant(mixers.declared_state_is_the_measured_one, r"after 1000 tokens.* has 65 elements, .* declares 64")
class WrongInTheLongRun(Mean):
    def state_elements(self, context):
        return self.d_model + (context < 500)


@plant(mixers.declared_flops_are_the_counted_ones, r"after 300 tokens counts 16641 FLOPs, step_flops declares")
class GrowingCost(Mean):
    def step_flops(self, context):
        return super().step_flops(context) + 10 * context


@plant(mixers.declared_flops_are_the_counted_ones, "step_flops declares 0")
class FreeStep(Mean):
    def step_flops(self, context):
        return 0


@plant(channels.declared_flops_are_the_counted_ones, r"a step counts 8320 FLOPs, step_flops declares 4160")
class MultiplyAddAsOne(Gate):
    def step_flops(self):
        return super().step_flops() // 2


@plant(channels.declared_flops_are_the_counted_ones, "with parameters counts 0 FLOPs")
class HiddenCost(Gate):
    def forward(self, x):
        return torch.where(x > 0, x, self.proj.weight[0])

    def step_flops(self):
        return 0


@plant(channels.tokens_are_independent, "tokens are mixed")
class Summed(Gate):
    def forward(self, x):
        return super().forward(x.cumsum(1))


@plant(modules.trains_every_parameter, "spare gets a gradient of zero")
class DeadParameter(Mean):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.spare = nn.Parameter(torch.ones(3))


@plant(modules.trains_every_parameter, "in_proj.weight gets a gradient of zero")
class Detached(Mean):
    def forward(self, x, state=None):
        y, state = super().forward(x.detach(), state)
        return y.detach() + self.out_proj(x), state


@plant(modules.trains_every_parameter, "with NaN or infinity")
class RootOfZero(Gate):
    def forward(self, x):
        return super().forward(x) + (self.proj.weight.sum() * 0).sqrt()


@plant(modules.weights_follow_the_seed, "in_proj.weight differs between two layers built from one seed")
class OwnGenerator(Mean):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.in_proj.weight, generator=generator)


@plant(modules.autocast_stays_close, "bfloat16 autocast changes outputs by")
class SumInHalf(Gate):
    def forward(self, x):
        y = self.proj(x) + 100
        return y - 100


@plant(modules.state_dict_holds_everything, "loaded the state dict of another gives other outputs")
class UnsavedWeights(Gate):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.register_buffer("scale", torch.rand(d_model), persistent=False)

    def forward(self, x):
        return super().forward(x) * self.scale


@plant(modules.pickles, "cannot be pickled")
class HoldsFunction(Gate):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.activation = lambda x: x


@plant(modules.pickles, "a pickled layer gives other outputs")
class LosesHalf(Gate):
    def __setstate__(self, state):
        super().__setstate__(state)
        self.proj.weight.data[0] = 0


@plant(modules.copies, "cannot be copied")
class KeepsActivations(Gate):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


@plant(modules.copies, "shares parameters")
class CopiesItself(Gate):
    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize(("check", "cls", "match"), PLANTS)
def test_a_planted_bug_is_found_and_named(check, cls, match):
    with pytest.raises(AssertionError, match=match):
        check(Subject(cls))


@pytest.mark.parametrize(("kind", "cls"), [("mixer", Mean), ("channel", Gate)])
def test_a_layer_without_bugs_passes(kind, cls):
    results = [run_check(check, Subject(cls)) for check in checks_for(kind)]
    assert [r for r in results if not r.passed] == []


def test_every_check_of_a_layer_has_a_planted_bug():
    planted = {case.values[0] for case in PLANTS}
    assert planted == {*checks_for("mixer"), *checks_for("channel")}


class AllKinds(Gate):
    def __init__(
        self,
        d_model: int,
        *,
        a: int = 1,
        b: float = 1,
        c: bool = True,
        d: str | None = None,
        e: Colour = Colour.RED,
        f: list[list[int]] | None = None,
        g: dict[str, float] | None = None,
    ) -> None: ...


def test_all_types_that_a_configuration_holds_are_allowed():
    assert run_check(settings_are_a_schema, Subject(AllKinds)).passed


class Excused(HoldsFunction):
    check_exemptions: ClassVar[dict[str, str]] = {"pickles": "holds a function"}


def test_an_exempted_check_must_fail_and_says_why():
    reason = exemptions("channel", Excused)["pickles"]
    excused = run_check(modules.pickles, Subject(Excused), reason)
    assert excused.passed
    assert excused.message.startswith("exempted (holds a function): cannot be pickled")
    stale = run_check(modules.pickles, Subject(Gate), reason)
    assert not stale.passed
    assert stale.message == "passes, although exempted (holds a function): remove the exemption"


@pytest.mark.parametrize(
    ("declared", "match"),
    [
        ({"pickle": "no"}, r"no check 'pickle'; did you mean 'pickles'\?"),
        ({"pickles": " "}, "needs a reason"),
    ],
)
def test_an_exemption_names_a_check_and_a_reason(declared, match):
    with pytest.raises(ValueError, match=match):
        exemptions("mixer", type("Odd", (Mean,), {"check_exemptions": declared}))


def test_whatever_a_plugin_raises_is_a_finding():
    class Raises(Gate):
        def forward(self, x):
            raise KeyError("lost")

    result = run_check(modules.keeps_shape_and_dtype, Subject(Raises))
    assert result == ("keeps_shape_and_dtype", False, "KeyError: 'lost'")


def test_a_registered_plugin_is_checked_at_given_settings(monkeypatch):
    entry = registry.Entry("channel", "narrow", NarrowGate, "test")
    monkeypatch.setattr(registry, "get", lambda kind, name: entry)
    failed = {r.check for r in run_checks("channel", "narrow", d_model=32, limit=64) if not r.passed}
    assert failed == {"builds_at_usual_widths"}
    assert all(r.passed for r in run_checks("channel", "narrow", limit=1000))


class NarrowGate(Gate):
    def __init__(self, d_model: int, *, limit: int = 1000) -> None:
        super().__init__(d_model)
        if d_model > limit:
            raise ValueError(f"d_model={d_model} must be at most {limit}")


def test_checks_leave_threads_and_random_numbers_alone(monkeypatch):
    threads = [5]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    before = torch.get_rng_state()
    for check in checks_for("mixer"):
        run_check(check, Subject(Mean))
    assert threads == [5] + [1, 5] * len(checks_for("mixer"))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown plugin kind 'mixr'; did you mean 'mixer'"):
        checks_for("mixr")
