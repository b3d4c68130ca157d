"""Two-layer feed-forward network."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybrids.channel import ChannelMixer
from hybrids.errors import check_positive
from hybrids.registry import register


@register("channel", "mlp", source="arXiv:1706.03762, eq. 2, with the GELU of arXiv:1606.08415")
class MLP(ChannelMixer):
    """y = W_out gelu(W_in x + b_in) + b_out.

    Cost: 4 D d_hidden per token, with d_hidden = expansion x d_model, rounded up.
    Source: arXiv:1706.03762, eq. 2, with GELU (tanh form) in place of ReLU, as in GPT-2.
    """

    def __init__(self, d_model: int, *, expansion: float = 4.0) -> None:
        super().__init__(d_model)
        check_positive("expansion", expansion)
        self.d_hidden = max(1, round(d_model * expansion))
        self.in_proj = nn.Linear(d_model, self.d_hidden)
        self.out_proj = nn.Linear(self.d_hidden, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.out_proj(F.gelu(self.in_proj(x), approximate="tanh"))

    def step_flops(self) -> int:
        products = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        return products + 2 * self.d_hidden + self.d_model
