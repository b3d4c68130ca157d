"""Whether a mixer is one graph to torch.compile and computes the same: python one_graph.py <mixer>

In a process of its own, since the compiler does not trace around the shape checks that tests hook into hybrids.
"""

import sys

import torch

from hybrids import registry


def main(name: str) -> None:
    torch.manual_seed(0)
    mixer = registry.get("mixer", name).cls(32)
    x = torch.randn(2, 20, 32, requires_grad=True)

    def gradients(function):
        y = function(x)[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, *mixer.parameters()])]

    compiled = torch.compile(mixer.forward, backend="aot_eager", fullgraph=True)
    for got, expected in zip(gradients(compiled), gradients(mixer), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    main(sys.argv[1])
