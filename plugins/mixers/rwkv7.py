"""RWKV-7 "Goose", time mixing.

    x_r, x_w, x_k, x_v, x_a, x_g = x_t + (x_{t-1} - x_t) * mix     one mix per feature and use
    r, k', v = x_r Wr, x_k Wk, x_v Wv                              receptance (the query), key, value
    log_decay = -exp(-0.5) sigmoid(w0 + tanh(x_w W1) W2)           by key feature: a decay lies in (0.545, 1)
    rate = sigmoid(a0 + x_a A1 A2)                                 in-context learning rate, by key feature
    removed = k' * k_k, of unit length in each head                the key that is looked up and replaced
    k = k' * (1 + (rate - 1) * k_a)
    S_t = (diag(exp(log_decay_t)) - (rate_t * removed_t) removed_t^T) S_{t-1} + k_t v_t^T
    y_t = ((LayerNorm(S_t^T r_t) + (r_t . (r_k * k_t)) v_t) * g_t) Wo          g = sigmoid(x_g G1) G2

The norm is over each head, with a weight and a bias per feature. Keys here are rows of S; the paper has S^T.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybrids.mixer import Mixer, PublishedSize, undecayed
from hybrids.ops.dplr import dplr
from hybrids.ops.gates import gate
from hybrids.ops.heads import check_counts, split_heads
from hybrids.ops.kernels import Demand
from hybrids.ops.precision import at_least_float32, wide_zeros
from hybrids.registry import register


class RWKV7State(NamedTuple):
    """The last input, and the matrices."""

    last: Float[Tensor, "B D"]
    matrix: Float[Tensor, "B H K K"]


@register("mixer", "rwkv7", source="arXiv:2503.14456, section 4")
class RWKV7(Mixer[RWKV7State]):
    """The generalised delta rule: decay, removal key and learning rate by key feature.

    State: `matrix` [B, H, K, K], float32 whatever the activations; `last` [B, D] in their dtype. It does not grow.
    Cost: besides the projections O(T H K (K + chunk_size)) a sequence, O(H K^2) a step.
    Source: arXiv:2503.14456; ranks and initialisation as in the authors' code (RWKV-LM, RWKV-v7/train_temp).
    Differs: a mixer knows neither its depth nor other layers. So each is what the authors' first layer is: mixes and
    decays start as there, and there is no value residual, which mixes v with the first layer's. Output matrix and
    first low-rank factors start small, not at 0: every parameter gets a gradient from the first step on. Two heads
    that fill d_model by default, where the authors' are 64 wide. The authors' larger learning rate for w0 is not
    taken over; that only the large matrices decay is.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 2,
        head_dim: int | None = None,
        decay_rank: int | None = None,
        rate_rank: int | None = None,
        gate_rank: int | None = None,
        chunk_size: int = 16,
        backend: str | None = None,
    ) -> None:
        """`head_dim` is K, by default d_model / num_heads. Ranks are by default multiples of 32 near
        2.5 sqrt(d_model) for decay and rate, 5 sqrt(d_model) for the gate, and at least 32."""
        super().__init__(d_model, backend)
        self.head_dim = split_heads(d_model, num_heads, head_dim)
        ranks = {"decay_rank": (decay_rank, 2.5), "rate_rank": (rate_rank, 2.5), "gate_rank": (gate_rank, 5.0)}
        sizes = {name: _rank(d_model, factor) if given is None else given for name, (given, factor) in ranks.items()}
        check_counts(**sizes, chunk_size=chunk_size)
        self.num_heads, self.chunk_size = num_heads, chunk_size
        width = num_heads * self.head_dim
        ramp, zigzag = torch.linspace(0, 1, width), torch.linspace(-1, 1, self.head_dim).repeat(num_heads)
        zigzag = zigzag * zigzag.abs()
        self.mix = undecayed(nn.Parameter(_initial_mix(d_model)))
        self.r_proj = _projection(d_model, width, 0.5)
        self.k_proj = _projection(d_model, width, 0.05)
        self.v_proj = _projection(d_model, width, 0.5)
        self.decay = _LowRank(d_model, sizes["decay_rank"], width, torch.tanh, 6 * ramp - 5.5 + 2.5 * zigzag)
        self.rate = _LowRank(d_model, sizes["rate_rank"], width, nn.Identity(), 0.3 * zigzag + 0.4 * ramp - 0.39)
        self.gate = _LowRank(d_model, sizes["gate_rank"], width, torch.sigmoid)
        self.k_k = undecayed(nn.Parameter(0.71 - 0.1 * (ramp - 0.5)))
        self.k_a = undecayed(nn.Parameter(torch.full((width,), 1.02)))
        self.r_k = undecayed(nn.Parameter(torch.full((num_heads, self.head_dim), -0.04)))
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.out_proj = _projection(width, d_model, 0.5)

    def forward(
        self, x: Float[Tensor, "B T D"], state: RWKV7State | None = None
    ) -> tuple[Float[Tensor, "B T D"], RWKV7State]:
        last, matrix = (torch.zeros_like(x[:, 0]), None) if state is None else state
        change = torch.cat([last.to(x.dtype).unsqueeze(1), x[:, :-1]], dim=1) - x
        x_r, x_w, x_k, x_v, x_a, x_g = torch.addcmul(x, change, self.mix.to(x.dtype)[:, None, None]).unbind()
        projected = self.v_proj(x_v)
        r, k, v = (at_least_float32(t) for t in (self.r_proj(x_r), self.k_proj(x_k), projected))
        log_decay = -math.exp(-0.5) * gate(at_least_float32(self.decay(x_w)))
        rate = at_least_float32(self.rate(x_a)).sigmoid()
        removed, k = k * self.k_k, k * (1 + (rate - 1) * self.k_a)
        r, k, v, removed, rate, log_decay = (self._heads(t) for t in (r, k, v, removed, rate, log_decay))
        removed = F.normalize(removed, dim=-1)
        o, matrix = dplr(
            r,
            k,
            v,
            -removed,
            removed * rate,
            log_decay,
            matrix,
            chunk_size=self.chunk_size,
            scale=1.0,
            backend=self.backend_of("dplr"),
            kernel_dtype=projected.dtype,
        )
        o = self._norm(o) + (r * self.r_k * k).sum(-1, keepdim=True) * v
        o = o.flatten(2) * self.gate(x_g)
        return self.out_proj(o.to(projected.dtype)), RWKV7State(x[:, -1].clone(), matrix)

    def init_state(self, batch_size: int) -> RWKV7State:
        weight = self.r_proj.weight
        matrix = wide_zeros(weight, batch_size, self.num_heads, self.head_dim, self.head_dim)
        return RWKV7State(weight.new_zeros(batch_size, self.d_model), matrix)

    def demands(self) -> list[Demand]:
        return [Demand(op="dplr", d_key=self.head_dim, d_value=self.head_dim, gate="key")]

    def state_elements(self, context: int) -> int:
        return self.d_model + self.num_heads * self.head_dim**2

    def published_sizes(self, context: int) -> list[PublishedSize]:
        difference = "leaves out the previous token's input, which the token shift needs"
        return [PublishedSize("zoology", "H K V", self.num_heads * self.head_dim**2, difference)]

    def step_flops(self, context: int) -> int:
        width = self.num_heads * self.head_dim
        ranks = [low_rank.down.out_features for low_rank in (self.decay, self.rate, self.gate)]
        projections = 2 * (4 * self.d_model * width + (self.d_model + width) * sum(ranks))
        shift = 13 * self.d_model
        gates = 14 * width + ranks[0] + ranks[2]  # two biases, two gates, a factor; k, `removed` and its length
        matrices = 9 * width * self.head_dim + 5 * width
        outputs = 5 * width + 7 * width
        return projections + shift + gates + matrices + outputs

    def _heads(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B T H K"]:
        return x.unflatten(-1, (self.num_heads, self.head_dim))

    def _norm(self, x: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T H K"]:
        """The authors' eps is 64e-5 for heads that are 64 wide and read unscaled."""
        weight, bias = (p.to(x.dtype).view(self.num_heads, -1) for p in (self.norm_weight, self.norm_bias))
        return F.layer_norm(x, x.shape[-1:], eps=1e-5 * self.head_dim) * weight + bias


class _LowRank(nn.Module):
    """f(x W1) W2, plus a bias that starts as given."""

    def __init__(
        self, d_model: int, rank: int, width: int, activation: Callable[[Tensor], Tensor], bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.down = nn.Linear(d_model, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=bias is not None)
        self.activation = activation
        nn.init.uniform_(self.down.weight, -0.01 * d_model**-0.5, 0.01 * d_model**-0.5)
        nn.init.orthogonal_(self.up.weight, gain=0.1 * max(1.0, (rank / width) ** 0.5))
        if bias is not None:
            self.up.bias.data.copy_(bias)
        for parameter in self.parameters():
            undecayed(parameter)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T F"]:
        return self.up(self.activation(self.down(x)))


def _rank(d_model: int, factor: float) -> int:
    return max(32, round(factor * d_model**0.5 / 32) * 32)


def _initial_mix(d_model: int) -> Float[Tensor, "6 D"]:
    """1 - (feature / D)^power: the first features look back, the last ones do not."""
    powers = torch.tensor([0.2, 0.9, 0.7, 0.7, 0.9, 0.2])
    return 1 - (torch.arange(d_model) / d_model) ** powers.unsqueeze(1)


def _projection(d_in: int, d_out: int, bound: float) -> nn.Linear:
    """Uniform within bound / sqrt(d_in)."""
    linear = nn.Linear(d_in, d_out, bias=False)
    nn.init.uniform_(linear.weight, -bound * d_in**-0.5, bound * d_in**-0.5)
    return linear
