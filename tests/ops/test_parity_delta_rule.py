"""The delta rules against flash-linear-attention's naive functions: outputs, final states, gradients."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrids.ops.delta_rule import delta_rule
from hybrids.ops.dplr import dplr, per_key_delta_rule

HEADS, D_KEY, D_VALUE = 2, 8, 6
RTOL, ATOL = 1e-4, 2e-5
"""Theirs computes in float32 whatever it is given, and in another order."""


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_keys(seed: int, time: int) -> Tensor:
    return normal(seed, 2, time, HEADS, D_KEY)


def make_unit_keys(seed: int, time: int) -> Tensor:
    return F.normalize(make_keys(seed, time), dim=-1)


def make_common(time: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, v, beta, state."""
    v, state = normal(1, 2, time, HEADS, D_VALUE), normal(2, 2, HEADS, D_KEY, D_VALUE)
    return make_keys(0, time), v, normal(3, 2, time, HEADS).sigmoid(), state


def assert_agree(ours, theirs, inputs: list[Tensor]) -> None:
    """Both take the inputs in our order and give outputs and final state."""
    results = []
    for fn in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        o, state = fn(*leaves)
        seeds = [normal(seed, *x.shape).to(x.dtype) for seed, x in enumerate((o, state))]
        results.append([o, state, *torch.autograd.grad([o, state], leaves, seeds)])
    for i, (got, expected) in enumerate(zip(*results, strict=True)):
        torch.testing.assert_close(got, expected, rtol=RTOL, atol=ATOL, msg=lambda m, i=i: f"item {i}: {m}")


def heads_first(fn, *inputs: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    o, state = fn(*(x.transpose(1, 2) for x in inputs), **options)
    return o.transpose(1, 2), state


@pytest.mark.parametrize("time", [1, 32, 50])
def test_delta_rule(fla_naive, time: int) -> None:
    naive = fla_naive("ops/delta_rule/naive.py")
    q, v, beta, state = make_common(time)

    def theirs(q, k, v, beta, state):
        return heads_first(naive.delta_rule_recurrence, q, k, v, beta, initial_state=state)

    def ours(q, k, v, beta, state):
        return delta_rule(q, k, v, beta, state=state)

    assert_agree(ours, theirs, [q, make_unit_keys(4, time), v, beta, state])


def test_delta_rule_in_their_chunks(fla_naive) -> None:
    naive = fla_naive("ops/delta_rule/naive.py")
    q, v, beta, _ = make_common(64)

    def theirs(q, k, v, beta):
        return heads_first(naive.delta_rule_chunkwise, q, k, v, beta)

    assert_agree(delta_rule, theirs, [q, make_unit_keys(4, 64), v, beta])


@pytest.mark.parametrize("time", [1, 50])
@pytest.mark.parametrize("name", ["naive_recurrent_gated_delta_rule", "naive_chunk_gated_delta_rule"])
def test_gated_delta_rule(fla_naive, name: str, time: int) -> None:
    naive = getattr(fla_naive("ops/gated_delta_rule/naive.py"), name)
    q, v, beta, state = make_common(time)

    def theirs(q, k, v, beta, g, state):
        return naive(q, k, v, beta=beta, g=g, initial_state=state, output_final_state=True)

    assert_agree(delta_rule, theirs, [q, make_unit_keys(4, time), v, beta, -normal(5, 2, time, HEADS).exp(), state])


@pytest.mark.parametrize(
    ("name", "time"), [("naive_recurrent_kda", 1), ("naive_recurrent_kda", 50), ("naive_chunk_kda", 64)]
)
def test_per_key_delta_rule(fla_naive, name: str, time: int) -> None:
    naive = getattr(fla_naive("ops/kda/naive.py"), name)
    q, v, beta, state = make_common(time)

    def theirs(q, k, v, beta, g, state):
        return naive(q, k, v, g, beta, initial_state=state, output_final_state=True)

    # Gates that are not strong: their chunked form overflows where it takes exp of a positive difference and masks it.
    log_decay = -0.3 * make_keys(5, time).sigmoid()
    assert_agree(per_key_delta_rule, theirs, [q, make_unit_keys(4, time), v, beta, log_decay, state])


def make_removal(time: int) -> list[Tensor]:
    """q, k, v, a, b as RWKV-7 makes them: what is removed is a unit key, and a part of what it finds comes back."""
    q, v, _, _ = make_common(time)
    removed, rate = make_unit_keys(4, time), make_keys(6, time).sigmoid()
    return [q, make_keys(7, time), v, -removed, removed * rate]


@pytest.mark.parametrize("time", [1, 50])
def test_generalised_delta_rule(fla_naive, time: int) -> None:
    naive = fla_naive("ops/generalized_delta_rule/dplr/naive.py")

    def theirs(q, k, v, a, b, log_decay, state):
        return heads_first(naive.dplr_recurrence, q, k, v, a, b, log_decay, initial_state=state)

    inputs = [*make_removal(time), -0.6 * make_keys(5, time).sigmoid(), make_common(time)[3]]
    assert_agree(dplr, theirs, inputs)


def test_generalised_delta_rule_in_their_chunks(fla_naive) -> None:
    """Without a state: their chunked form ignores the one it is given."""
    naive = fla_naive("ops/generalized_delta_rule/dplr/naive.py")
    inputs = [*make_removal(64), -0.6 * make_keys(5, 64).sigmoid()]
    assert_agree(dplr, lambda *x: heads_first(naive.dplr_chunkwise, *x), inputs)


@pytest.mark.parametrize(("name", "time"), [("iplr_recurrence", 50), ("iplr_chunkwise", 64)])
def test_generalised_delta_rule_without_decay(fla_naive, name: str, time: int) -> None:
    naive = getattr(fla_naive("ops/generalized_delta_rule/iplr/naive.py"), name)

    def ours(q, k, v, a, b):
        return dplr(q, k, v, a, b, torch.zeros_like(q))

    assert_agree(ours, lambda *x: heads_first(naive, *x), make_removal(time))
