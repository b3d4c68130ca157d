"""Gated feed-forward layer."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybrids.channel import ChannelMixer
from hybrids.errors import check_positive
from hybrids.registry import register


@register("channel", "swiglu", source="arXiv:2002.05202, eq. 6")
class SwiGLU(ChannelMixer):
    """y = W_out (silu(W_gate x) * W_up x), no biases.

    Cost: 6 D d_hidden per token. `expansion` is d_hidden / d_model; 8/3 gives the parameters of a 4x MLP.
    Source: arXiv:2002.05202, eq. 6. d_hidden is rounded up to a multiple of 16.
    """

    def __init__(self, d_model: int, *, expansion: float = 8 / 3) -> None:
        super().__init__(d_model)
        check_positive("expansion", expansion)
        self.d_hidden = -(-int(d_model * expansion) // 16) * 16
        self.in_proj = nn.Linear(d_model, 2 * self.d_hidden, bias=False)
        self.out_proj = nn.Linear(self.d_hidden, d_model, bias=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        gate, up = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(F.silu(gate) * up)

    def step_flops(self) -> int:
        return 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel()) + 2 * self.d_hidden
