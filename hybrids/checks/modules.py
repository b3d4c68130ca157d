"""Checks that a mixer and a channel mixer share: construction, numbers, gradients, copies."""

import copy
import io
import math
import pickle
from typing import Any

import torch
from torch import Tensor

from hybrids.checks.settings import settings_are_a_schema
from hybrids.checks.subject import Check, Subject, assert_same, no_error, output
from hybrids.checks.transforms import transforms_agree_with_a_loop

WIDTHS = (32, 64, 128)
AUTOCAST_TOLERANCE = 0.05
"""Of the norm of the output; bfloat16 keeps 8 bits, so one rounding is 0.004."""


def builds_at_usual_widths(subject: Subject) -> None:
    """The settings build a layer at d_model 32, 64 and 128, with finite parameters."""
    for d_model in WIDTHS:
        with no_error(f"cannot be built at d_model={d_model}"):
            module = subject.module(d_model=d_model)
        broken = [name for name, p in module.named_parameters() if not p.isfinite().all()]
        assert not broken, f"at d_model={d_model}, parameters start with NaN or infinity: {', '.join(broken)}"


def keeps_shape_and_dtype(subject: Subject) -> None:
    """Outputs have the shape and dtype of the inputs, for one token and for many, in every floating dtype."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        module = subject.module(dtype=dtype)
        for batch_size, length in ((1, 1), (2, 1), (3, 65)):
            x = subject.inputs(batch_size, length, dtype=dtype)
            y = output(module, x)
            got, expected = (list(y.shape), y.dtype), (list(x.shape), x.dtype)
            assert got == expected, f"outputs are {got} for inputs {expected}"
            assert y.isfinite().all(), f"outputs for {expected} hold NaN or infinity"


def trains_every_parameter(subject: Subject) -> None:
    """Every parameter, and the input, gets a finite gradient that is not all zero."""
    module, x = subject.module(), subject.inputs(2, 16).requires_grad_()
    (output(module, x) * subject.inputs(2, 16, seed=1)).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.requires_grad} | {"input": x.grad}
    for name, gradient in gradients.items():
        where = f"{name} gets a gradient"
        size = 0.0 if gradient is None else gradient.abs().sum()
        assert size != 0, f"{where} of zero: outputs do not depend on it"
        assert math.isfinite(size), f"{where} with NaN or infinity"


def weights_follow_the_seed(subject: Subject) -> None:
    """The same torch seed gives the same weights."""
    first, second = (subject.module(seed=5).state_dict() for _ in range(2))
    for name, value in first.items():
        same = torch.equal(value, second[name]) if isinstance(value, Tensor) else value == second[name]
        assert same, f"{name} differs between two layers built from one seed: draw it from torch's global generator"


def autocast_stays_close(subject: Subject) -> None:
    """Under bfloat16 autocast, outputs stay close to the float32 ones."""
    module = subject.module(dtype=torch.float32)
    x = subject.inputs(2, 70, dtype=torch.float32)
    with torch.no_grad():
        expected = output(module, x)
        with torch.autocast("cpu", torch.bfloat16):
            got = output(module, x).float()
    error = ((got - expected).norm() / expected.norm()).item()
    assert error <= AUTOCAST_TOLERANCE, (
        f"bfloat16 autocast changes outputs by {error:.1%} of their norm (allowed {AUTOCAST_TOLERANCE:.0%}): "
        "compute sums over time, exponentials and gates in float32"
    )


def state_dict_holds_everything(subject: Subject) -> None:
    """Loading a state dict, through a file, into a layer with other weights gives the same outputs."""
    source, target = subject.module(seed=0), subject.module(seed=1)
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    target.load_state_dict(torch.load(file, weights_only=True))
    _assert_same_layer(subject, target, source, "a layer that loaded the state dict of another")


def pickles(subject: Subject) -> None:
    """A pickled layer comes back with the same outputs."""
    module = subject.module()
    with no_error("cannot be pickled"):
        loaded = pickle.loads(pickle.dumps(module))
    _assert_same_layer(subject, loaded, module, "a pickled layer")


def copies(subject: Subject) -> None:
    """A deep copy, also of a layer that has been used, gives the same outputs and shares no parameter."""
    module = subject.module()
    output(module, subject.inputs(1, 3))
    with no_error("cannot be copied"):
        copied = copy.deepcopy(module)
    shared = {p.data_ptr() for p in module.parameters()} & {p.data_ptr() for p in copied.parameters()}
    assert not shared, "a deep copy shares parameters with its original"
    _assert_same_layer(subject, copied, module, "a deep copy")


CHECKS_BEFORE: tuple[Check, ...] = (settings_are_a_schema, builds_at_usual_widths, keeps_shape_and_dtype)
"""The first checks of a mixer and of a channel mixer; their own follow."""

CHECKS_AFTER: tuple[Check, ...] = (
    trains_every_parameter,
    transforms_agree_with_a_loop,
    weights_follow_the_seed,
    autocast_stays_close,
    state_dict_holds_everything,
    pickles,
    copies,
)


def _assert_same_layer(subject: Subject, got: Any, expected: Any, what: str) -> None:
    x = subject.inputs(2, 9)
    with torch.no_grad():
        assert_same(output(got, x), output(expected, x), f"{what} gives other outputs", tolerance=0.0)
