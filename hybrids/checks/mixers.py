"""Checks of a mixer: causal, cut anywhere, a state that is all there is, sizes and costs as declared."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hybrids.checks import modules
from hybrids.checks.subject import Check, Subject, assert_same
from hybrids.model.measure import measure_step, prefill, state_elements

LENGTH = 139
"""Odd and prime: a multiple of no chunk, and more than two chunks of the usual 64."""
STATE_CONTEXTS = (0, 1, 7, 64, 1000)
FLOPS_CONTEXTS = (0, 1, 64, 300)
FLOPS_TOLERANCE = 0.10


def is_causal(subject: Subject) -> None:
    """Outputs do not change when later tokens do."""
    module, x = subject.module(), subject.inputs(2, LENGTH)
    with torch.no_grad():
        expected = module(x)[0]
        for cut in (1, 7, 64, 100, LENGTH - 1):
            changed = torch.cat([x[:, :cut], subject.inputs(2, LENGTH - cut, seed=1)], dim=1)
            claim = f"outputs before position {cut} change with the tokens from {cut} on: not causal"
            assert_same(module(changed)[0][:, :cut], expected[:, :cut], claim)


def cuts_keep_outputs(subject: Subject) -> None:
    """Cutting a sequence anywhere and carrying the state gives the outputs of the whole."""
    module, x = subject.module(), subject.inputs(2, LENGTH)
    with torch.no_grad():
        whole = module(x)[0]
        for pieces in ([1] * LENGTH, [LENGTH - 1, 1], [1, LENGTH - 1], [5, 64, 1, 1, 66, 2], [64, 64, 11]):
            short = f"{len(pieces)} x 1" if set(pieces) == {1} else "+".join(map(str, pieces))
            claim = f"outputs of the pieces {short} differ from the whole: the state lacks something"
            assert_same(_run_pieces(module, x, pieces), whole, claim)


def none_is_the_initial_state(subject: Subject) -> None:
    """Starting with `state=None` and with `init_state` is the same."""
    module = subject.module()
    with torch.no_grad():
        for length in (1, LENGTH):
            x = subject.inputs(2, length)
            got = module(x, module.init_state(2))[0]
            assert_same(got, module(x, None)[0], f"init_state differs from None at T={length}")


def rows_are_independent(subject: Subject) -> None:
    """A row of a batch gets the outputs it gets alone, also when it carries a state."""
    module, x = subject.module(), subject.inputs(3, 20)
    with torch.no_grad():
        together = _run_pieces(module, x, [13, 1, 6])
        for row in range(3):
            alone = _run_pieces(module, x[row : row + 1], [13, 1, 6])
            assert_same(together[row : row + 1], alone, f"row {row} of a batch differs from itself alone")


def state_is_batch_first_tensors(subject: Subject) -> None:
    """A state is a NamedTuple of tensors whose first axis is the batch, from the start on."""
    module = subject.module()
    with torch.no_grad():
        for batch_size in (1, 3):
            _assert_form(module.init_state(batch_size), batch_size, "init_state")
            for length in (1, 9):
                state = module(subject.inputs(batch_size, length))[1]
                _assert_form(state, batch_size, f"the state after {length} tokens")


def nothing_stays_on_the_module(subject: Subject) -> None:
    """All that is carried is in the state: a fresh copy or an interrupted layer goes on as the whole."""
    module = subject.module()
    fresh, x, other = copy.deepcopy(module), subject.inputs(2, 12), subject.inputs(2, 9, seed=1)
    with torch.no_grad():
        whole = copy.deepcopy(module)(x)[0][:, 7:]
        state = module(x[:, :7])[1]
        claim = "differ from the whole: something is kept outside the state"
        assert_same(fresh(x[:, 7:], state)[0], whole, f"outputs of a copy that gets only the state {claim}")
        module(other)
        assert_same(module(x[:, 7:], state)[0], whole, f"outputs after another sequence came between {claim}")


def state_is_not_modified(subject: Subject) -> None:
    """A call leaves the state it was given as it was, so that several questions can be asked of one state."""
    module = subject.module()
    with torch.no_grad():
        state = module(subject.inputs(2, 7))[1]
        before = [tensor.clone() for tensor in state]
        for length in (1, 9):
            module(subject.inputs(2, length, seed=1), state)
            for name, tensor, old in zip(state._fields, state, before, strict=True):
                unchanged = tensor.shape == old.shape and torch.equal(tensor, old)
                assert unchanged, f"a call with T={length} writes into {name} of the state it was given"


def declared_state_is_the_measured_one(subject: Subject) -> None:
    """`state_elements(n)` equals the elements of the state tensors after n tokens, per sequence, exactly."""
    module = subject.module(dtype=torch.float32)
    for context in STATE_CONTEXTS:
        for batch_size in (1, 3) if context <= 64 else (1,):
            state = prefill(module, subject.d_model, context, batch_size=batch_size)
            measured, declared = state_elements(state), module.state_elements(context) * batch_size
            assert measured == declared, (
                f"after {context} tokens, the state of {batch_size} sequences has {measured} elements, "
                f"state_elements declares {declared}"
            )


def declared_flops_are_the_counted_ones(subject: Subject) -> None:
    """`step_flops(n)` is within 10 % of the operations counted on a decode step after n tokens."""
    module = subject.module(dtype=torch.float32)
    for context in FLOPS_CONTEXTS:
        counted = measure_step(module, subject.d_model, context).flops
        assert_flops_agree(module, module.step_flops(context), counted, f" after {context} tokens")


def assert_flops_agree(module: Any, declared: int, counted: int, when: str) -> None:
    """Declared and counted FLOPs within 10 %, and not zero for a layer that has parameters."""
    has_parameters = any(True for _ in module.parameters())
    assert counted or not has_parameters, f"a layer with parameters counts 0 FLOPs{when}: a kernel hides them"
    assert abs(declared - counted) <= FLOPS_TOLERANCE * counted, (
        f"a step{when} counts {counted} FLOPs, step_flops declares {declared}; allowed is 10 % off"
    )


MIXER_CHECKS: tuple[Check, ...] = (
    *modules.CHECKS_BEFORE,
    is_causal,
    cuts_keep_outputs,
    none_is_the_initial_state,
    rows_are_independent,
    state_is_batch_first_tensors,
    nothing_stays_on_the_module,
    state_is_not_modified,
    declared_state_is_the_measured_one,
    declared_flops_are_the_counted_ones,
    *modules.CHECKS_AFTER,
)


def _run_pieces(module: Any, x: Tensor, pieces: Sequence[int]) -> Tensor:
    outputs, state = [], None
    for piece in x.split(list(pieces), dim=1):
        y, state = module(piece, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def _assert_form(state: Any, batch_size: int, what: str) -> None:
    fields = getattr(state, "_fields", None) if isinstance(state, tuple) else None
    assert fields is not None, f"{what} is a {type(state).__name__}; it must be a NamedTuple of tensors"
    for name, value in zip(fields, state, strict=True):
        assert isinstance(value, Tensor), f"{name} of {what} is a {type(value).__name__}, not a tensor"
        shape = list(value.shape)
        assert shape[:1] == [batch_size], f"{name} of {what} has shape {shape}; the batch ({batch_size}) comes first"
