"""Every mixer is one graph to torch.compile, forward and backward: a break would leave all after it uncompiled."""

import jaxtyping
import pytest
import torch

from hybrids import registry


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler sets off warnings of its own
@pytest.mark.parametrize("name", registry.names("mixer"))
def test_a_mixer_is_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot trace shape checks
    torch._dynamo.reset()
    torch.manual_seed(0)
    mixer = registry.get("mixer", name).cls(32)
    x = torch.randn(2, 20, 32, requires_grad=True)

    def gradients(function):
        y = function(x)[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, *mixer.parameters()])]

    compiled = torch.compile(mixer.forward, backend="aot_eager", fullgraph=True)
    for got, expected in zip(gradients(compiled), gradients(mixer), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
