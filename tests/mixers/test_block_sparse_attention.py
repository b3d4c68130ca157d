"""Block-sparse attention against one token at a time in plain loops, and the contract of its mixer."""

import pytest
import torch
from torch import Tensor

from hybrids.ops.attention import attention, rotate
from hybrids.ops.block_sparse_attention import block_sparse_attention, compress
from hybrids_plugins.mixers.block_sparse_attention import BlockSparseAttention

HEADS, WIDTH = 4, 6


def make_inputs(time: int, groups: int, block: int, *, seed: int = 0) -> list[Tensor]:
    """q, k, v, the weights that compress k and v, gate; float64, requiring gradients."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    q, k, v = normal(2, time, HEADS, WIDTH), normal(2, time, groups, WIDTH), normal(2, time, groups, WIDTH)
    weights = normal(block, groups, WIDTH), normal(block, groups, WIDTH)
    return [t.requires_grad_() for t in (q, k, v, *weights, normal(2, time, HEADS).sigmoid())]


def ours(inputs: list[Tensor], block: int, selected: int) -> Tensor:
    q, k, v, weight_k, weight_v, gate = inputs
    compressed = compress(k, weight_k), compress(v, weight_v)
    return block_sparse_attention(q, k, v, *compressed, gate, block_size=block, num_selected=selected)


def softmax_read(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(torch.stack(keys) @ q / WIDTH**0.5, dim=0)
    return weights @ torch.stack(values), weights


def by_hand(inputs: list[Tensor], block: int, selected: int) -> Tensor:
    """Row by row, head by head and token by token, from the definition."""
    q, k, v, weight_k, weight_v, gate = inputs
    batch, time, groups = q.shape[0], q.shape[1], k.shape[2]
    shared = HEADS // groups
    rows = []
    for b in range(batch):
        tokens = []
        for t in range(time):
            past, heads = t // block, [torch.empty(0)] * HEADS
            for g in range(groups):
                members = range(g * shared, (g + 1) * shared)
                keys, values = [], []
                for m in range(past):
                    inside = range(m * block, (m + 1) * block)
                    keys.append(torch.stack([weight_k[i % block, g] * k[b, i, g] for i in inside]).sum(0))
                    values.append(torch.stack([weight_v[i % block, g] * v[b, i, g] for i in inside]).sum(0))
                summaries = {h: softmax_read(q[b, t, h], keys, values) for h in members} if past else {}
                scores = [sum(weights[m].item() for _, weights in summaries.values()) for m in range(past)]
                best = sorted(range(past), key=lambda m, scores=scores: -scores[m])[:selected]
                read = [i for m in sorted(best) for i in range(m * block, (m + 1) * block)]
                read += range(past * block, t + 1)
                for h in members:
                    full, _ = softmax_read(q[b, t, h], [k[b, i, g] for i in read], [v[b, i, g] for i in read])
                    a = gate[b, t, h]
                    heads[h] = a * full + (1 - a) * summaries[h][0] if past else full
            tokens.append(torch.stack(heads))
        rows.append(torch.stack(tokens))
    return torch.stack(rows)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("block", "selected", "time"), [(1, 2, 7), (3, 1, 14), (3, 2, 12), (4, 10, 13), (20, 1, 13)])
def test_outputs_and_gradients_are_those_of_the_definition(groups: int, block: int, selected: int, time: int) -> None:
    inputs = make_inputs(time, groups, block)
    got, expected = ours(inputs, block, selected), by_hand(inputs, block, selected)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    seed = torch.randn_like(got)
    gradients = (torch.autograd.grad(y, inputs, seed, materialize_grads=True) for y in (got, expected))
    for name, a, b in zip(("q", "k", "v", "weight_k", "weight_v", "gate"), *gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("time", [1, 3, 4, 5, 8, 23])
def test_one_step_reads_what_the_last_token_of_a_sequence_reads(groups: int, time: int) -> None:
    inputs = make_inputs(time, groups, 4)
    whole = ours(inputs, 4, 2)
    q, *others, gate = inputs
    last = ours([q[:, -1:], *others, gate[:, -1:]], 4, 2)
    torch.testing.assert_close(last, whole[:, -1:], rtol=1e-12, atol=1e-14)


def test_with_every_block_selected_and_an_open_gate_it_is_full_attention() -> None:
    q, k, v, *weights, gate = make_inputs(30, 2, 4)
    got = ours([q, k, v, *weights, torch.ones_like(gate)], 4, 8)
    torch.testing.assert_close(got, attention(q, k, v), rtol=1e-10, atol=1e-12)


def test_what_is_neither_chosen_nor_compressed_is_not_read() -> None:
    """One block of past is chosen by a key that matches; the value of any other token must not matter."""
    q, k, v, gate = torch.zeros(1, 16, 1, 2), torch.zeros(1, 16, 1, 2), torch.zeros(1, 16, 1, 2), torch.ones(1, 16, 1)
    q[..., 0], k[:, 4:8, :, 0] = 10.0, 10.0
    weights = torch.full((4, 1, 2), 0.25)
    v[:, 4:8, :, 1] = 1.0
    v[:, :4], v[:, 8:12] = 100.0, 100.0
    out = ours([q, k, v, weights, weights, gate], 4, 1)
    torch.testing.assert_close(out[0, 15, 0], torch.tensor([0.0, 1.0]))


def test_equal_scores_choose_the_earlier_block_in_a_step_as_in_a_sequence() -> None:
    k = torch.zeros(1, 14, 1, 2)
    v = torch.arange(14.0)[None, :, None, None].expand(1, 14, 1, 2)
    weights, gate = torch.full((2, 1, 2), 0.5), torch.ones(1, 14, 1)
    out = ours([k, k, v, weights, weights, gate], 2, 2)
    step = ours([k[:, -1:], k, v, weights, weights, gate[:, -1:]], 2, 2)
    torch.testing.assert_close(out[0, 13, 0, 0], torch.tensor((0 + 1 + 2 + 3 + 12 + 13) / 6))
    torch.testing.assert_close(step[:, 0], out[:, 13])


@pytest.mark.parametrize("settings", [{}, {"num_heads": 4, "num_kv_heads": 2, "block_size": 5}, {"rope": False}])
@pytest.mark.parametrize("pieces", [[1] * 30, [29, 1], [3, 1, 1, 4, 21], [8, 8, 14]])
@torch.no_grad()
def test_cutting_a_sequence_keeps_outputs_and_state(settings: dict, pieces: list[int]) -> None:
    torch.manual_seed(0)
    mixer = BlockSparseAttention(32, num_selected=2, **settings).double()
    x = torch.randn(2, 30, 32, dtype=torch.float64)
    whole, end = mixer(x, mixer.init_state(2))
    outputs, state = [], None
    for piece in x.split(pieces, dim=1):
        y, state = mixer(piece, state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(tuple(state), tuple(end), rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_layer_is_the_operation_on_its_projections() -> None:
    torch.manual_seed(0)
    mixer = BlockSparseAttention(24, num_heads=4, num_kv_heads=2, block_size=3, num_selected=2).double()
    for p in (mixer.compress_k, mixer.compress_v):
        p.uniform_(0, 1)
    x = torch.randn(2, 11, 24, dtype=torch.float64)
    q, k, v = (t.unflatten(-1, (-1, 6)) for t in (x @ mixer.heads.in_proj.weight.T).split([24, 12, 12], dim=-1))
    gate = (x @ mixer.gate.weight.T + mixer.gate.bias).sigmoid()
    o = by_hand([*rotate(q, k), v, mixer.compress_k, mixer.compress_v, gate], 3, 2)
    torch.testing.assert_close(mixer(x)[0], o.flatten(2) @ mixer.heads.out_proj.weight.T)


def test_blocks_are_compressed_to_their_mean_at_first() -> None:
    mixer = BlockSparseAttention(32, block_size=5)
    state = mixer(torch.randn(1, 13, 32))[1]
    for full, compressed in ((state.k, state.compressed_k), (state.v, state.compressed_v)):
        assert compressed.shape[1] == 2
        torch.testing.assert_close(compressed[:, 1], full[:, 5:10].mean(1))


def test_a_step_costs_a_block_size_th_of_full_attention_as_the_context_grows() -> None:
    mixer = BlockSparseAttention(32, block_size=16, num_selected=1)
    slope = (mixer.step_flops(16 * 4000) - mixer.step_flops(16 * 2000)) / (16 * 2000)
    assert slope == pytest.approx((4 * 32 + 6 * 2) / 16)


def test_masked_sequences_have_finite_gradients_where_nothing_is_past() -> None:
    inputs = make_inputs(9, 2, 4)
    gradients = torch.autograd.grad(ours(inputs, 4, 1).sum(), inputs)
    assert all(g.isfinite().all() for g in gradients)
