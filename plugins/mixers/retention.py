"""Retention, the mixer of RetNet.

    q, k, v, g = x W
    S_t = gamma S_{t-1} + rotate(k_t, t) v_t^T     gamma = 1 - 2^(-5 - head): fixed
    y_t = (norm(K^-0.5 S_t^T rotate(q_t, t)) * silu(g_t)) Wo        norm: every head has a mean square of 1

Each W is its own columns of one matrix, `in_proj`, in the order q, k, v, output gate.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.mixer import Mixer
from hybrids.ops.heads import check_counts, expanded_width, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.precision import compute_dtype, wide_zeros
from hybrids.registry import register


class RetentionState(NamedTuple):
    """The matrices, in float32 or wider, and how many tokens they have seen: keys are rotated by their position."""

    matrix: Float[Tensor, "B H K V"]
    position: Int[Tensor, " B"]


@register("mixer", "retention", source="arXiv:2307.08621, eq. 5-8")
class Retention(Mixer[RetentionState]):
    """Linear attention with a fixed decay per head and rotary positions.

    State: `matrix` [B, H, K, V], float32 whatever the activations, and `position` [B], a 64-bit integer; with the
    defaults 2 d_model^2 / H + 1 elements at any context.
    Cost: besides the projections O(T H (K V + chunk_size (K + V))) a sequence, O(H K V) a step.
    Source: arXiv:2307.08621; widths, angles (neighbouring features form the pairs, frequencies 1 to 1/10000), norm
    without weights and initialisation (Xavier with gain 2^-2.5, 1 for the output) as in the authors' code. No biases.
    Differs: the scalings of section 2.1 ("Retention Score Normalization") are left out. The norm that follows
    cancels them, and in float32 nothing overflows. silu of the output gate is taken in the dtype of the activations,
    where `delta_net` and `mamba2` take it in float32. `expand_v` multiplies the width of a head; heads fill the model.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        expand_v: float = 2.0,
        norm_eps: float = 1e-6,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """Values of all heads together have expand_v d_model features, keys d_model."""
        super().__init__(d_model, backend)
        check_counts(chunk_size=chunk_size)
        self.d_key = split_heads(d_model, num_heads)
        if self.d_key % 2:
            raise UserError(f"num_heads={num_heads} makes heads of odd width {self.d_key}; rotations need an even one")
        self.d_value = expanded_width("expand_v", expand_v, "the width of a head", self.d_key)
        self.num_heads, self.norm_eps, self.chunk_size = num_heads, norm_eps, chunk_size
        d_values = num_heads * self.d_value
        self.widths = (d_model, d_model, d_values, d_values)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.out_proj = nn.Linear(d_values, d_model, bias=False)
        for weight in self.in_proj.weight.split(self.widths):
            nn.init.xavier_uniform_(weight, gain=2**-2.5)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(
        self, x: Float[Tensor, "B T D"], state: RetentionState | None = None
    ) -> tuple[Float[Tensor, "B T D"], RetentionState]:
        projected = self.in_proj(x)
        *qkv, g = projected.split(self.widths, dim=-1)
        dtype = compute_dtype(projected)
        q, k, v = (t.to(dtype).unflatten(-1, (self.num_heads, -1)) for t in qkv)
        batch, length = x.shape[:2]
        matrix, past = (None, None) if state is None else state
        turn = self._turn(length, past, dtype, x.device)
        log_decay = torch.log1p(-torch.exp2(-5.0 - torch.arange(self.num_heads, device=x.device, dtype=dtype)))
        o, matrix = linear_attention(
            _rotate(q, *turn),
            _rotate(k, *turn),
            v,
            matrix,
            log_decay=log_decay.expand(batch, length, -1),
            chunk_size=self.chunk_size,
            backend=self.backend_of("linear_attention"),
            kernel_dtype=projected.dtype,
        )
        o = (o * torch.rsqrt(o.square().mean(-1, keepdim=True) + self.norm_eps)).flatten(2) * F.silu(g)
        past = torch.zeros(batch, dtype=torch.int64, device=x.device) if past is None else past
        return self.out_proj(o.to(projected.dtype)), RetentionState(matrix, past + length)

    def init_state(self, batch_size: int) -> RetentionState:
        weight = self.in_proj.weight
        matrix = wide_zeros(weight, batch_size, self.num_heads, self.d_key, self.d_value)
        return RetentionState(matrix, weight.new_zeros(batch_size, dtype=torch.int64))

    def demands(self) -> list[Demand]:
        return [Demand(op="linear_attention", d_key=self.d_key, d_value=self.d_value, gate="scalar")]

    def state_elements(self, context: int) -> int:
        return self.num_heads * self.d_key * self.d_value + 1

    def step_flops(self, context: int) -> int:
        d_values = self.num_heads * self.d_value
        projections = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        rotations = 2 * self.d_key + 2 * 3 * self.d_model  # tables of angles; turning q and k
        gates = 5 * self.num_heads
        matrices = self.d_model * (5 * self.d_value + 1)
        return projections + rotations + gates + matrices + 5 * d_values + 2 * self.num_heads

    def _turn(
        self, length: int, past: Tensor | None, dtype: torch.dtype, device: torch.device
    ) -> tuple[Float[Tensor, "*B T 1 F"], Float[Tensor, "*B T 1 F"]]:
        """Cosines and sines by position; in float64 first, since the largest angle is the position itself."""
        steps = torch.arange(length, device=device)
        if past is not None:
            steps = past.unsqueeze(-1) + steps
        frequencies = 10000.0 ** -torch.linspace(0, 1, self.d_key // 2, device=device, dtype=torch.float64)
        angles = (steps.unsqueeze(-1) * frequencies).unsqueeze(-2)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotate(x: Float[Tensor, "B T H K"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B T H K"]:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)), -1).flatten(-2)
