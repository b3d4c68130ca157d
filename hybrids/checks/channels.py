"""Checks of a channel mixer: per-token features, no state."""

import torch

from hybrids.checks import modules
from hybrids.checks.mixers import assert_flops_agree
from hybrids.checks.subject import Check, Subject, assert_same
from hybrids.model.measure import count_flops


def tokens_are_independent(subject: Subject) -> None:
    """The output at a position is the one its token gets alone: nothing mixes along time or batch."""
    module, x = subject.module(), subject.inputs(3, 7)
    with torch.no_grad():
        alone = module(x.reshape(21, 1, -1)).reshape(x.shape)
        assert_same(module(x), alone, "outputs of tokens together and alone differ: tokens are mixed")


def declared_flops_are_the_counted_ones(subject: Subject) -> None:
    """`step_flops()` is within 10 % of the operations counted on one token."""
    module, x = subject.module(), subject.inputs(1, 1)
    with torch.no_grad():
        counted = count_flops(lambda: module(x))
    assert_flops_agree(module, module.step_flops(), counted, "")


CHANNEL_CHECKS: tuple[Check, ...] = (
    *modules.CHECKS_BEFORE,
    tokens_are_independent,
    declared_flops_are_the_counted_ones,
    *modules.CHECKS_AFTER,
)
