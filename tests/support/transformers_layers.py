"""A mixer beside the layer of transformers that has the same weights."""

import torch
from transformers import DynamicCache


def assert_same_outputs_and_input_gradients(ours, theirs, time, d_model):
    x = torch.randn(2, time, d_model, requires_grad=True)
    got, expected = ours(x)[0], theirs(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    seed = torch.randn_like(got)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, seed)[0] for y in (got, expected)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def assert_same_decoding(ours, theirs, config, d_model):
    """After a prefill, step by step: with its cache, and as over the whole sequence at once. The state and the cache
    after all tokens."""
    x, cache = torch.randn(2, 24, d_model), DynamicCache(config=config)
    expected, (got, state) = theirs(x[:, :20], cache_params=cache), ours(x[:, :20])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    whole = theirs(x)
    for t in range(20, 24):
        y, state = ours(x[:, t : t + 1], state)
        torch.testing.assert_close(y, theirs(x[:, t : t + 1], cache_params=cache), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(y, whole[:, t : t + 1], rtol=1e-4, atol=1e-6)
    return state, cache
