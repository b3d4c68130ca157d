"""The contract of a channel mixer: per-token features, no state."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import check_number


class ChannelMixer(nn.Module, ABC):
    """Mixes features within one token. Configuration and initialisation as for a `Mixer`."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        check_number("d_model", d_model, 1)
        self.d_model = d_model

    @abstractmethod
    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Outputs for `x`; position t depends on position t only."""

    @abstractmethod
    def step_flops(self) -> int:
        """FLOPs for one token, counted as for `Mixer.step_flops`."""
