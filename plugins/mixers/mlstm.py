"""mLSTM, the matrix memory of xLSTM.

    q, k, v, o = x W;  i, f = softcap(x W + b)     one input and one forget gate per head
    C_t = sigmoid(f_t) C_{t-1} + exp(i_t) k_t v_t^T
    n_t = sigmoid(f_t) n_{t-1} + exp(i_t) k_t
    h_t = C_t^T q_t / max(|n_t . q_t|, 1)          q scaled by K^-0.5
    y_t = (LayerNorm(h_t) * sigmoid(o_t)) Wo

exp(i) can be of any size, so C and n are carried divided by exp(m), m_t = max(log sigmoid(f_t) + m_{t-1}, i_t). Then
both gates are exponentials of numbers at most 0, n is one more column of C, and linear attention with a decay per
head computes them. h does not depend on m, which therefore needs no gradient.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybrids.errors import check_positive
from hybrids.mixer import Mixer, undecayed
from hybrids.ops.heads import check_counts, expanded_width, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.linear_attention import linear_attention
from hybrids.ops.precision import compute_dtype, wide_zeros
from hybrids.registry import register


class MLSTMState(NamedTuple):
    """C and, as the last column, n, both divided by exp(m); and m. In float32 or wider."""

    memory: Float[Tensor, "B H K V+1"]
    stabiliser: Float[Tensor, "B H"]


@register("mixer", "mlstm", source="arXiv:2405.04517, eq. 19-27; layer arXiv:2503.13427, section 3.1")
class MLSTM(Mixer[MLSTMState]):
    """Linear attention with exponential input gates, forget gates and a normaliser.

    State: `memory` [B, H, K, V + 1] and `stabiliser` [B, H], float32 whatever the activations: H (K (V + 1) + 1)
    elements at any context.
    Cost: besides the projections O(T H (K V + chunk_size (K + V))) a sequence, O(H K V) a step.
    Source: arXiv:2405.04517 for the memory, the initial gates (weights 0; biases N(0, 0.01) for the input gate, 3 to 6
    for the forget gate) and the norm; arXiv:2503.13427 (xLSTM 7B) for the layer around it: keys half as wide as
    values, gates capped at 15, no biases but the gates'.
    Differs: xLSTM's first mLSTM block has an up-projection by 2, a short convolution and a skip around the cell, and
    no channel mixer; here, as in xLSTM 7B, the channel mixer is the block's. The sigmoid of the output gate is taken in
    the dtype of the activations. `expand_k` multiplies the width of a head; heads fill the model.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        expand_k: float = 0.5,
        gate_cap: float = 15.0,
        chunk_size: int = 32,
        backend: str | None = None,
    ) -> None:
        """Keys of all heads together have expand_k d_model features, values d_model."""
        super().__init__(d_model, backend)
        check_counts(chunk_size=chunk_size)
        check_positive("gate_cap", gate_cap)
        self.d_value = split_heads(d_model, num_heads)
        self.d_key = expanded_width("expand_k", expand_k, "the width of a head", self.d_value)
        self.num_heads, self.gate_cap, self.chunk_size = num_heads, gate_cap, chunk_size
        d_keys = num_heads * self.d_key
        self.widths = (d_keys, d_keys, d_model, d_model)
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=False)
        self.gates = nn.Linear(d_model, 2 * num_heads)
        self.norm_weight = nn.Parameter(torch.ones(d_model))
        self.out_proj = nn.Linear(d_model, d_model, bias=False)
        self._start_gates()

    def forward(
        self, x: Float[Tensor, "B T D"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "B T D"], MLSTMState]:
        projected = self.in_proj(x)
        *qkv, gate = projected.split(self.widths, dim=-1)
        dtype = compute_dtype(projected)
        q, k, v = (t.to(dtype).unflatten(-1, (self.num_heads, -1)) for t in qkv)
        memory, before = (None, q.new_zeros(q.shape[0], self.num_heads)) if state is None else state
        write, forget = (self.gate_cap * torch.tanh(self.gates(x).to(dtype) / self.gate_cap)).chunk(2, dim=-1)
        forget = F.logsigmoid(forget)
        with torch.no_grad():
            top = _running_maximum(forget, write, before)
        log_decay = forget + torch.cat([before.unsqueeze(1), top[:, :-1]], dim=1) - top
        h, memory = linear_attention(
            q,
            k * (write - top).exp().unsqueeze(-1),
            F.pad(v, (0, 1), value=1.0),
            memory,
            log_decay=log_decay,
            chunk_size=self.chunk_size,
            backend=self.backend_of("linear_attention"),
            kernel_dtype=projected.dtype,
        )
        h = h[..., :-1] / torch.maximum(h[..., -1:].abs(), (-top).exp().unsqueeze(-1))
        h = F.layer_norm(h, (self.d_value,), eps=1e-6).flatten(2) * self.norm_weight * gate.sigmoid()
        return self.out_proj(h.to(projected.dtype)), MLSTMState(memory, top[:, -1].clone())

    def init_state(self, batch_size: int) -> MLSTMState:
        weight = self.in_proj.weight
        memory = wide_zeros(weight, batch_size, self.num_heads, self.d_key, self.d_value + 1)
        return MLSTMState(memory, wide_zeros(weight, batch_size, self.num_heads))

    def demands(self) -> list[Demand]:
        return [Demand(op="linear_attention", d_key=self.d_key, d_value=self.d_value + 1, gate="scalar")]

    def state_elements(self, context: int) -> int:
        return self.num_heads * (self.d_key * (self.d_value + 1) + 1)

    def step_flops(self, context: int) -> int:
        d_keys = self.num_heads * self.d_key
        projections = 2 * sum(m.weight.numel() for m in (self.in_proj, self.gates, self.out_proj))
        gates = 20 * self.num_heads + 2 * d_keys
        norm = 9 * self.d_model
        return projections + gates + 5 * d_keys * (self.d_value + 1) + norm

    @torch.no_grad()
    def _start_gates(self) -> None:
        write, forget = undecayed(self.gates.bias).chunk(2)
        self.gates.weight.zero_()
        write.normal_(std=0.1)
        forget.copy_(torch.linspace(3.0, 6.0, self.num_heads))


def _running_maximum(
    decay: Float[Tensor, "B T H"], x: Float[Tensor, "B T H"], start: Float[Tensor, "B H"]
) -> Float[Tensor, "B T H"]:
    """m_t = max(m_{t-1} + decay_t, x_t) in log2(T) steps; without the sums over all t that would cost digits."""
    top = torch.cat([torch.maximum(start + decay[:, 0], x[:, 0]).unsqueeze(1), x[:, 1:]], dim=1)
    step = 1
    while step < x.shape[1]:
        top = torch.maximum(top, F.pad(top[:, :-step], (0, 0, step, 0), value=-torch.inf) + decay)
        decay = decay + F.pad(decay[:, :-step], (0, 0, step, 0))
        step *= 2
    return top
