"""Every check of any layer, and of a channel mixer, finds the bug that was planted for it."""

from enum import Enum
from typing import Literal

import pytest
import torch
from planting import planting
from sound_layers import Gate, Mean
from torch import nn

from hybrids.checks import Subject, channels, checks_for, mixers, modules, run_check
from hybrids.checks.settings import settings_are_a_schema
from hybrids.checks.transforms import transforms_agree_with_a_loop

PLANTS, plant = planting()


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


@plant(transforms_agree_with_a_loop, "fails under torch.func: RuntimeError")
class AsksForANumber(Gate):
    def forward(self, x):
        return super().forward(x) if x.sum() > -1e9 else x


@plant(transforms_agree_with_a_loop, "vmap of the gradient over stacked layers: the outputs differ from autograd's")
class KeepsTheFirstOfAStack(Gate):
    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output): ...

        @staticmethod
        def backward(ctx, grad):
            return grad

        @staticmethod
        def vmap(info, in_dims, x):
            return x.select(in_dims[0], 0), None

    def forward(self, x):
        return super().forward(self.Keep.apply(x))


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


def test_every_check_of_a_layer_has_a_planted_bug():
    """Those that only a mixer has have theirs in test_mixer_checks.py."""
    checks = {c for kind in ("mixer", "channel") for c in checks_for(kind) if c.__module__ != mixers.__name__}
    assert {case.values[0] for case in PLANTS} == checks


class Colour(Enum):
    RED = 1


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
