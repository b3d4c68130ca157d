"""Two forms of an op on the same inputs: outputs, state and the gradients of all inputs."""

import torch


def outputs_and_gradients(fn, inputs, **options):
    """Outputs, new state, and gradients of the inputs that are given, for the same random seeds every time."""
    o, state = fn(*inputs, **options)
    g = torch.Generator().manual_seed(1)
    seeds = [torch.randn(x.shape, generator=g, dtype=torch.float64).to(x.dtype) for x in (o, state)]
    return [o, state, *torch.autograd.grad([o, state], [x for x in inputs if x is not None], seeds)]


def assert_all_close(got, expected, rtol, atol):
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        torch.testing.assert_close(a, b, msg=lambda m, i=i: f"item {i}: {m}", rtol=rtol, atol=atol)
