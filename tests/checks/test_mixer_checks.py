"""Every check of what only a mixer does finds the bug that was planted for it."""

import pytest
import torch
from planting import planting
from sound_layers import Mean, MeanState

from hybrids.checks import Subject, checks_for, mixers

PLANTS, plant = planting()


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


@pytest.mark.parametrize(("check", "cls", "match"), PLANTS)
def test_a_planted_bug_is_found_and_named(check, cls, match):
    with pytest.raises(AssertionError, match=match):
        check(Subject(cls))


def test_every_check_of_a_mixer_has_a_planted_bug():
    """Those of any layer have theirs in test_layer_checks.py."""
    assert {case.values[0] for case in PLANTS} == {c for c in checks_for("mixer") if c.__module__ == mixers.__name__}
