"""The gated short convolution against its equation, term by term."""

import pytest
import torch
import torch.nn.functional as F

from hybrids_plugins.mixers.short_conv import ShortConv


@pytest.mark.parametrize("conv_size", [1, 2, 3, 5])
def test_every_output_is_the_projection_times_the_weighted_last_inputs(conv_size: int) -> None:
    torch.manual_seed(0)
    mixer = ShortConv(8, conv_size=conv_size, add_input=False).double()
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    y, _ = mixer(x)
    for t in range(12):
        seen = [(lag, x[:, t - lag]) for lag in range(conv_size) if lag <= t]
        mixed = mixer.conv_bias + sum(mixer.conv_weight[:, conv_size - 1 - lag] * past for lag, past in seen)
        torch.testing.assert_close(y[:, t], mixed * (x[:, t] @ mixer.proj.weight.T + mixer.proj.bias))


def test_agrees_with_pytorch_modules_with_the_same_weights() -> None:
    torch.manual_seed(0)
    mixer = ShortConv(8)
    conv = torch.nn.Conv1d(8, 8, 3, groups=8, padding=2)
    conv.load_state_dict({"weight": mixer.conv_weight.detach().unsqueeze(1), "bias": mixer.conv_bias.detach()})
    x = torch.randn(2, 20, 8)
    expected = conv(x.mT)[..., :20].mT * F.linear(x, mixer.proj.weight, mixer.proj.bias) + x
    torch.testing.assert_close(mixer(x)[0], expected)


def test_starts_in_the_range_of_pytorchs_modules() -> None:
    torch.manual_seed(0)
    mixer = ShortConv(256)
    bound = 3**-0.5
    for p in (mixer.conv_weight, mixer.conv_bias):
        assert 0.95 * bound < p.abs().max() <= bound and abs(p.mean()) < 0.1 * bound
