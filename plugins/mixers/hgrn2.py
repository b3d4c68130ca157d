"""HGRN2: a linear RNN whose state is expanded by an outer product.

    q, f, v = x W                                            then q = silu(q)
    f = lower_bound + (1 - lower_bound) sigmoid(f)           forget gate, one per key feature
    S_t = diag(f_t) S_{t-1} + (1 - f_t) v_t^T                what is forgotten makes room for what is written
    y_t = RMSNorm(K^-0.5 S_t^T q_t) Wo

In the words of linear attention 1 - f is the key.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer
from hybrids.ops.gates import gate
from hybrids.ops.heads import check_counts, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.precision import at_least_float32, wide_zeros
from hybrids.ops.rms_norm import RMSNorm
from hybrids.registry import register


class HGRN2State(NamedTuple):
    """The matrices, in float32 or wider."""

    matrix: Float[Tensor, "B H K V"]


@register("mixer", "hgrn2", source="arXiv:2404.07904, section 3.2")
class HGRN2(Mixer[HGRN2State]):
    """Gated linear attention whose keys are what its forget gates leave.

    State: `matrix` [B, H, K, V] in float32 (float64 in a float64 model): with the defaults d_model^2 / H elements
    at any context.
    Cost: besides the projections O(T H (K V + chunk_size (K + V))) a sequence, O(H K V) a step.
    Source: arXiv:2404.07904; norm, activation of the query and scale as in the authors' layer in
    flash-linear-attention. No biases.
    Differs: the authors learn lower bounds that rise from layer to layer, from 0 in the first; a layer of a pattern
    does not know its place, so `lower_bound` is a setting, of a letter if need be. K = V = d_model / num_heads, where
    they fix K at 128.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        head_dim: int | None = None,
        lower_bound: float = 0.0,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """`head_dim` is K, by default d_model / num_heads, which is V."""
        super().__init__(d_model, backend)
        check_counts(chunk_size=chunk_size)
        if not 0 <= lower_bound < 1:
            raise UserError(f"lower_bound={lower_bound} must be at least 0 and below 1")
        self.d_value = split_heads(d_model, num_heads)
        self.d_key = self.d_value if head_dim is None else split_heads(d_model, num_heads, head_dim)
        self.num_heads, self.lower_bound, self.chunk_size = num_heads, lower_bound, chunk_size
        self.widths = (num_heads * self.d_key, num_heads * self.d_key, d_model)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.norm = RMSNorm(d_model)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: HGRN2State | None = None
    ) -> tuple[Float[Tensor, "B T D"], HGRN2State]:
        projected = self.in_proj(x)
        wide = at_least_float32(projected)
        q, f, v = (t.unflatten(-1, (self.num_heads, -1)) for t in wide.split(self.widths, dim=-1))
        k, log_decay = self._gates(f)
        matrix = None if state is None else state.matrix
        o, matrix = linear_attention(
            F.silu(q),
            k,
            v,
            matrix,
            log_decay=log_decay,
            chunk_size=self.chunk_size,
            backend=self.backend_of("linear_attention"),
            kernel_dtype=projected.dtype,
        )
        return self.out_proj(self.norm(o.flatten(2)).to(projected.dtype)), HGRN2State(matrix)

    def init_state(self, batch_size: int) -> HGRN2State:
        return HGRN2State(wide_zeros(self.in_proj.weight, batch_size, self.num_heads, self.d_key, self.d_value))

    def demands(self) -> list[Demand]:
        return [Demand(op="linear_attention", d_key=self.d_key, d_value=self.d_value, gate="key")]

    def state_elements(self, context: int) -> int:
        return self.num_heads * self.d_key * self.d_value

    def step_flops(self, context: int) -> int:
        d_keys = self.num_heads * self.d_key
        projections = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        gates = (9 if self.lower_bound == 0 else 17) * d_keys
        return projections + gates + 5 * d_keys * self.d_value + 3 * self.d_model

    def _gates(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """1 - f and log f, both without cancellation, in gradients too."""
        k = gate(-f)
        if self.lower_bound == 0:
            return k, F.logsigmoid(f)
        room = 1 - self.lower_bound
        strong, weak = torch.log(self.lower_bound + room * gate(f)), torch.log1p(-room * k.clamp(max=0.5))
        return room * k, torch.where(f < 0, strong, weak)
