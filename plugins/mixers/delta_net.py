"""DeltaNet.

    q, k, v = silu(conv(x W))                      causal, one filter per feature; then q and k get unit length
    beta = sigmoid(x W)                            how much of the old value is replaced
    S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T
    y_t = RMSNorm(K^-0.5 S_t^T q_t) Wo             with an output gate: (RMSNorm(...) * silu(x_t W)) Wo

Each W is its own columns of one matrix, `in_proj`, in the order q, k, v, output gate, beta.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.mixer import Mixer, PublishedSize
from hybrids.ops.delta_heads import DeltaHeads, DeltaState, replaced_share
from hybrids.ops.delta_rule import delta_rule
from hybrids.ops.heads import check_counts
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32
from hybrids.ops.rms_norm import RMSNorm
from hybrids.registry import register


@register("mixer", "delta_net", source="arXiv:2406.06484, section 2.2; arXiv:2102.11174")
class DeltaNet(Mixer[DeltaState]):
    """Linear attention that replaces what a key held before.

    State: `matrix` [B, H, K, V], float32 whatever the activations; `tail` [B, conv_size - 1, 2 H K + H V] in the
    dtype of the activations. It does not grow.
    Cost: besides the projections O(T H (K V + chunk_size (K + V))) a sequence, O(H K V) a step.
    Source: arXiv:2406.06484; structure and initialisation as in the authors' layer in flash-linear-attention, without
    its other activations and norms of q and k.
    Differs: two heads by default, as `gated_delta_net`, where the authors' layer has four. silu of the output gate is
    taken in float32, where `gated_delta_net` takes it in the dtype of the activations. `expand_v` multiplies the
    width of a head, where that of `gla` multiplies the width of the model.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 2,
        head_dim: int | None = None,
        expand_v: float = 1.0,
        conv_size: int = 4,
        use_output_gate: bool = False,
        allow_negative_eigenvalues: bool = False,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """`head_dim` is K, by default d_model / num_heads; V = expand_v K. With `allow_negative_eigenvalues`
        beta is in (0, 2), which lets a state track parity (arXiv:2411.12537)."""
        super().__init__(d_model, backend)
        check_counts(chunk_size=chunk_size)
        self.heads = DeltaHeads.fitting(d_model, num_heads, head_dim, expand_v=expand_v, conv_size=conv_size)
        self.use_output_gate, self.allow_negative_eigenvalues = use_output_gate, allow_negative_eigenvalues
        self.chunk_size = chunk_size
        self.widths = (self.heads.d_conv, self.heads.d_values if use_output_gate else 0, num_heads)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv_weight = self.heads.initial_filters()
        self.norm = RMSNorm(self.heads.d_value)
        self.out_proj = nn.Linear(self.heads.d_values, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: DeltaState | None = None
    ) -> tuple[Float[Tensor, "B T D"], DeltaState]:
        tail, matrix = (None, None) if state is None else state
        qkv, gate, b = self.in_proj(x).split(self.widths, dim=-1)
        q, k, v, tail = self.heads.convolve(qkv, self.conv_weight, tail, backend=self.backend_of("short_conv"))
        beta = replaced_share(b, allow_negative_eigenvalues=self.allow_negative_eigenvalues)
        backend = self.backend_of("delta_rule")
        o, matrix = delta_rule(
            q, k, v, beta, state=matrix, chunk_size=self.chunk_size, backend=backend, kernel_dtype=qkv.dtype
        )
        o = self.norm(o).flatten(2)
        if self.use_output_gate:
            o = o * F.silu(at_least_float32(gate))
        return self.out_proj(o.to(qkv.dtype)), DeltaState(tail, matrix)

    def init_state(self, batch_size: int) -> DeltaState:
        return self.heads.empty_state(batch_size, self.in_proj.weight)

    def demands(self) -> list[Demand]:
        return self.heads.demands(gate="none")

    def state_elements(self, context: int) -> int:
        return self.heads.state_elements

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "leaves out the inputs that the short convolutions still need"
        return [PublishedSize("zoology", "H K V", self.heads.matrix_elements, difference)]

    def step_flops(self, context: int) -> int:
        heads = self.heads
        projections = 2 * self.d_model * (sum(self.widths) + heads.d_values)
        matrices = heads.d_keys + 6 * heads.matrix_elements + 2 * heads.d_values + heads.num_heads
        norm = 3 * heads.d_values + 4 * heads.num_heads + (2 * heads.d_values if self.use_output_gate else 0)
        return projections + heads.step_flops + matrices + norm
