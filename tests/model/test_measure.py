"""Operations are counted by the written rules, and states by their tensors."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybrids.model.measure import count_flops, measure_step, prefill, state_bits, state_elements

B, T, D, E, N = 2, 3, 8, 16, 30


def ones(*shape, dtype=torch.float32):
    return torch.ones(*shape, dtype=dtype)


LINEAR = nn.Linear(D, E)
COUNTS = {
    "linear with bias": (lambda: LINEAR(ones(B, T, D)), 2 * B * T * D * E + B * T * E),
    "matrix product": (lambda: ones(3, 4) @ ones(4, 5), 2 * 3 * 4 * 5),
    "batched product": (lambda: ones(B, 3, 4) @ ones(B, 4, 5), 2 * B * 3 * 4 * 5),
    "baddbmm": (lambda: torch.baddbmm(ones(B, 3, 5), ones(B, 3, 4), ones(B, 4, 5)), B * (2 * 60 + 15)),
    "matrix times vector": (lambda: ones(4, 5) @ ones(5), 2 * 4 * 5),
    "dot product": (lambda: ones(5) @ ones(5), 2 * 5),
    "einsum": (lambda: torch.einsum("bhk,bhkv->bhv", ones(2, 3, 4), ones(2, 3, 4, 5)), 2 * 6 * 4 * 5),
    "depthwise convolution": (lambda: F.conv1d(ones(1, D, 6), ones(D, 1, 4), groups=D), 2 * D * 3 * 4),
    "triangular solve": (
        lambda: torch.linalg.solve_triangular(torch.eye(4), ones(4, 3), upper=False),
        3 * (2 * 6 + 4),
    ),
    "pointwise": (lambda: F.silu(ones(3, 4)) * 2, 2 * 12),
    "pointwise multiply-add": (lambda: torch.addcmul(ones(3, 4), ones(4), ones(3, 1), value=-1), 2 * 12),
    "in place": (lambda: ones(3, 4).exp_(), 12),
    "power and comparison": (lambda: (ones(5) ** 2) > 0, 5),
    "softmax": (lambda: ones(2, 7).softmax(-1), 5 * 14),
    "reduction": (lambda: ones(3, 4).sum(-1), 12),
    "maximum with index": (lambda: ones(3, 4).max(-1), 12),
    "cumulative sum": (lambda: ones(3, 4).cumsum(-1), 12),
    "layer norm with weight and bias": (lambda: F.layer_norm(ones(2, D), (D,), ones(D), ones(D)), 7 * 2 * D),
    "views and copies": (
        lambda: torch.cat([ones(3, 4).t().clone(), ones(4, 2)], 1)[:, 1:].to(torch.float64),
        0,
    ),
    "gather and select": (lambda: torch.where(ones(3) > 0, ones(3), 0.0)[torch.tensor([0, 1])], 0),
    "integers": (lambda: torch.arange(9) * 3 + 1, 0),
    "random numbers and constants": (lambda: (torch.rand(9), torch.zeros(9)), 0),
}


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("case", COUNTS)
def test_operations_are_counted_by_the_rules(case, grad):
    fn, expected = COUNTS[case]
    with grad():
        assert count_flops(fn) == expected


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("num_kv_heads", [1, 4])
def test_fused_attention_is_counted_by_its_definition(num_kv_heads, grad):
    q, kv = ones(B, 4, 1, E), ones(B, num_kv_heads, N, E)
    with grad():
        counted = count_flops(lambda: F.scaled_dot_product_attention(q, kv, kv, enable_gqa=True))
    assert counted == B * 4 * (E + 2 * N * E + 5 * N + 2 * N * E)  # scale q, scores, softmax, weights times values


MASKS = {
    "no mask": {},
    "causal": {"is_causal": True},
    "choice": {"attn_mask": torch.ones(T, N, dtype=torch.bool).tril(3)},
    "bias": {"attn_mask": torch.arange(T * N).reshape(T, N) / N},
    "scale": {"scale": 0.7},
    "shared heads": {"enable_gqa": True},
}


@pytest.mark.parametrize("case", MASKS)
def test_counting_leaves_the_results_of_attention_as_they_are(case):
    q, k, v = torch.randn(B, 4, T, E), torch.randn(B, 4, N, E), torch.randn(B, 4, N, D)
    if case == "shared heads":
        k, v = k[:, :2], v[:, :2]
    results = []
    count_flops(lambda: results.append(F.scaled_dot_product_attention(q, k, v, **MASKS[case])))
    torch.testing.assert_close(results[0], F.scaled_dot_product_attention(q, k, v, **MASKS[case]))


def test_a_fused_recurrent_layer_is_refused():
    lstm = nn.LSTM(D, D)
    with torch.no_grad(), pytest.raises(ValueError, match=r"cannot be counted.*backend=torch"):
        count_flops(lambda: lstm(ones(2, 1, D)))


def test_a_custom_kernel_is_refused():
    @torch.library.custom_op("hybrids_test::sum", mutates_args=())
    def kernel(x: Tensor) -> Tensor:
        return x.sum()

    with pytest.raises(ValueError, match=r"hybrids_test.sum.* cannot be counted"):
        count_flops(lambda: kernel(ones(3)))


def test_state_size_is_taken_from_the_tensors_at_their_dtype():
    cache = (((ones(2, 3), ones(2, 5, dtype=torch.bfloat16)),), ((ones(4, dtype=torch.int8),),))
    assert state_elements(cache) == 6 + 10 + 4
    assert state_bits(cache) == 32 * 6 + 16 * 10 + 8 * 4
    assert state_bits(()) == 0


class WindowState(NamedTuple):
    kept: Tensor


class Window(nn.Module):
    """Keeps every token and multiplies the new one by all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(D, D, bias=False)
        self.drop = nn.Dropout(0.5)
        self.lengths = []

    def forward(self, x, state=None):
        self.lengths.append(x.shape[1])
        kept = x if state is None else torch.cat([state.kept, x], 1)
        return self.drop(self.proj(x)) + (x @ kept.mT).sum(-1, keepdim=True), WindowState(kept)

    def init_state(self, batch_size):
        return WindowState(torch.zeros(batch_size, 0, D))


@pytest.mark.parametrize("context", [0, 1, 5])
def test_a_step_is_measured_after_the_context(context):
    cost = measure_step(Window(), D, context)
    seen = context + 1
    assert cost.flops == 2 * D * D + 2 * D * seen + seen + D
    assert (cost.state_elements, cost.state_bits) == (context * D, context * D * 32)
    assert cost.bytes_read == 4 * D * D + 4 * context * D
    assert cost.context == context


def test_measuring_leaves_modes_and_random_numbers_alone():
    module = Window().train()
    module.drop.eval()
    before = torch.get_rng_state()
    measure_step(module, D, 3)
    assert module.training
    assert not module.drop.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_long_prefill_is_cut_into_pieces():
    module = Window()
    assert state_elements(prefill(module, D, 2100, batch_size=2)) == 2 * 2100 * D
    assert module.lengths == [1024, 1024, 52]


def test_a_negative_context_is_refused():
    with pytest.raises(ValueError, match="context=-1"):
        prefill(Window(), D, -1)
