"""Ops under torch.func, and second derivatives, against plain PyTorch in float64."""

import pytest
import torch
import torch.nn.functional as F
from op_gradients import assert_all_close
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vjp, vmap

from hybrids.ops import selective_scan_cpu
from hybrids.ops.delta_rule import delta_rule, delta_rule_recurrent
from hybrids.ops.linear_attention import linear_attention, linear_attention_recurrent
from hybrids.ops.linear_cross_entropy import linear_cross_entropy
from hybrids.ops.rms_norm import RMSNorm
from hybrids.ops.selective_scan import selective_scan, selective_scan_recurrent


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scan_inputs(*lead: int) -> list[Tensor]:
    """x, dt, A, B, C, D and a state: 2 rows, 19 steps, 5 features, 3 states."""
    x, dt, B, C = (normal(*lead, 2, 19, n, seed=i) for i, n in enumerate((5, 5, 3, 3)))
    return [x, dt.sigmoid(), -normal(*lead, 5, 3).exp(), B, C, normal(*lead, 5), normal(*lead, 2, 5, 3)]


@pytest.mark.parametrize(
    "shared", [(), (2, 5), (0, 1, 3, 4, 6)], ids=["all stacked", "A and D shared", "A and D stacked"]
)
@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_stacked_scans_have_the_gradients_of_the_recurrence(backend: str, shared: tuple[int, ...]) -> None:
    if backend == "cpp" and (reason := selective_scan_cpu.why_not()):
        pytest.skip(f"the kernel cannot run here: {reason}")
    inputs = [x[0] if i in shared else x for i, x in enumerate(scan_inputs(3))]
    in_dims = tuple(None if i in shared else 0 for i in range(7))

    def gradients(function, **options):
        def loss(*inputs: Tensor) -> Tensor:
            y, state = function(*inputs, **options)
            return y.square().sum() + state.sin().sum()

        return grad(loss, argnums=tuple(range(7)))

    expected = [
        gradients(selective_scan_recurrent)(*(x if i in shared else x[m] for i, x in enumerate(inputs)))
        for m in range(3)
    ]
    got = vmap(gradients(selective_scan, backend=backend), in_dims=in_dims)(*inputs)
    assert_all_close(got, [torch.stack(each) for each in zip(*expected, strict=True)], rtol=1e-10, atol=1e-11)


def test_one_forward_pass_serves_many_gradients() -> None:
    """What the forward pass has kept is not stacked then, and the gradients that come in are."""
    q, v, beta = normal(2, 7, 2, 3), normal(2, 7, 2, 3, seed=1), normal(2, 7, 2).sigmoid()
    k = F.normalize(normal(2, 7, 2, 3, seed=2), dim=-1)
    got, expected = (jacrev(lambda v, f=f: f(q, k, v, beta)[0])(v) for f in (delta_rule, delta_rule_recurrent))
    torch.testing.assert_close(got, expected)
    x, dt, A, B, C, D, state = scan_inputs()
    scans = (selective_scan, selective_scan_recurrent)
    got, expected = (jacrev(lambda A, f=f: f(x, dt, A, B, C, D, state)[1])(A) for f in scans)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("unused", ["outputs", "state"])
def test_an_output_that_is_not_used_has_no_part_in_the_gradients(unused: str) -> None:
    inputs = [normal(2, 9, 2, 3, seed=i).requires_grad_() for i in range(3)]
    results = [f(*inputs)[unused == "outputs"] for f in (linear_attention, linear_attention_recurrent)]
    got, expected = (torch.autograd.grad(y.square().sum(), inputs, allow_unused=True) for y in results)
    torch.testing.assert_close(got[1:], expected[1:])


def test_a_gradient_taken_after_its_transform_has_ended() -> None:
    x = normal(2, 9, 2, 3)
    _, back, *_ = vjp(lambda v: linear_attention(x, x, v)[0], x)
    seed = normal(2, 9, 2, 3, seed=1).requires_grad_()
    (got,) = back(seed)
    expected = torch.autograd.grad(linear_attention(x, x, y := x.clone().requires_grad_())[0], y, seed)[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("stacked", ["weights", "inputs", "both"])
def test_stacked_losses_have_the_gradients_of_the_full_logits(stacked: str) -> None:
    targets, valid = torch.arange(6) % 5, torch.tensor([True, False, True, True, False, True])
    x, weight = normal(3, 6, 4), normal(3, 5, 4, seed=1)
    x, in_x = (x[0], None) if stacked == "weights" else (x, 0)
    weight, in_weight = (weight[0], None) if stacked == "inputs" else (weight, 0)

    def gradients(loss):
        return vmap(grad(loss, argnums=(0, 1)), in_dims=(in_x, in_weight))(x, weight)

    def through(loss):
        return grad(lambda x, w: vmap(loss, in_dims=(in_x, in_weight))(x, w).square().sum(), argnums=(0, 1))(x, weight)

    index = valid.nonzero().squeeze(1)
    for form in (gradients, through):
        got = form(lambda x, w: linear_cross_entropy(x, w, targets, valid)[0])
        assert_all_close(
            got, form(lambda x, w: F.cross_entropy(x[index] @ w.t(), targets[index])), rtol=1e-10, atol=1e-12
        )


def norm_of(norm: RMSNorm):
    return lambda x, weight: functional_call(norm, {"weight": weight}, (x,))


def their_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, 1e-5)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0)])
def test_a_stacked_norm_has_the_gradients_of_pytorchs(in_dims: tuple[int | None, ...]) -> None:
    x, weight = normal(3, 2, 4, 6), normal(3, 6, seed=1)
    x, weight = (t if dim == 0 else t[0] for t, dim in zip((x, weight), in_dims, strict=True))

    def gradients(norm):
        return vmap(grad(lambda x, w: norm(x, w).sin().sum(), argnums=(0, 1)), in_dims=in_dims)(x, weight)

    assert_all_close(gradients(norm_of(RMSNorm(6))), gradients(their_norm), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weighted", [True, False], ids=["of the gradient by x", "of the gradient by the weight"])
def test_a_norm_has_the_second_derivatives_of_pytorchs(weighted: bool) -> None:
    x, weight = normal(4, 6).requires_grad_(), normal(6, seed=1).requires_grad_()

    def second(norm):
        first = torch.autograd.grad(norm(x, weight).sin().sum(), (x, weight), create_graph=True)
        return torch.autograd.grad(first[not weighted].square().sum(), (x, weight))

    assert_all_close(second(norm_of(RMSNorm(6))), second(their_norm), rtol=1e-10, atol=1e-12)
