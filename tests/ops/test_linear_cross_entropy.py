"""`linear_cross_entropy` against `F.cross_entropy` of the full logits."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrids.ops import linear_cross_entropy as module
from hybrids.ops.linear_cross_entropy import linear_cross_entropy

ROWS, VOCAB, WIDTH = 23, 11, 5


@pytest.fixture(autouse=True, params=["one block", "blocks that do not divide the rows"])
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "one block":
        monkeypatch.setattr(module, "MIN_ROWS", 4)
        monkeypatch.setattr(module, "CPU_BLOCK", 4 * VOCAB)


def example(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = (scale * torch.randn(ROWS, WIDTH, generator=draw, dtype=torch.float64)).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(VOCAB, (ROWS,), generator=draw)
    return x, weight, targets, torch.rand(ROWS, generator=draw) < 0.7


def plain(x: Tensor, weight: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    return F.cross_entropy(x[valid].double() @ weight.double().t(), targets[valid])


def test_loss_and_gradients_are_those_of_the_full_logits() -> None:
    x, weight, targets, valid = example()
    loss, _ = linear_cross_entropy(x, weight, targets, valid)
    expected = plain(x, weight, targets, valid)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * loss, (x, weight)),
        torch.autograd.grad(3 * expected, (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_gradients_agree_with_finite_differences() -> None:
    x, weight, targets, valid = example()
    assert torch.autograd.gradcheck(lambda x, w: linear_cross_entropy(x, w, targets, valid)[0], (x, weight))


def test_correct_marks_valid_entries_whose_target_is_the_argmax() -> None:
    x, weight, targets, valid = example()
    best = (x @ weight.t()).argmax(1)
    targets = torch.where(torch.arange(ROWS) % 2 == 0, best, targets)
    _, correct = linear_cross_entropy(x, weight, targets, valid)
    assert torch.equal(correct, (best == targets) & valid)
    assert correct.any()
    assert not correct[valid].all()


def test_a_model_that_cannot_tell_tokens_apart_is_right_nowhere() -> None:
    x, weight, targets, valid = example()
    loss, correct = linear_cross_entropy(x, torch.zeros_like(weight), targets, valid)
    assert not correct.any()
    torch.testing.assert_close(loss, torch.tensor(float(VOCAB), dtype=torch.float64).log())


@pytest.mark.parametrize("junk", [torch.nan, torch.inf])
def test_entries_that_are_not_valid_may_hold_anything(junk: float) -> None:
    x, weight, targets, valid = example()
    dirty = torch.where(valid[:, None], x.detach(), junk).requires_grad_()
    loss, correct = linear_cross_entropy(dirty, weight, torch.where(valid, targets, -100), valid)
    clean, clean_correct = linear_cross_entropy(x, weight, targets, valid)
    assert torch.equal(loss, clean)
    assert torch.equal(correct, clean_correct)
    ours = torch.autograd.grad(loss, (dirty, weight))
    theirs = torch.autograd.grad(clean, (x, weight))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert (ours[0][~valid] == 0).all()


def test_no_valid_entry_gives_zero_loss_and_zero_gradients() -> None:
    x, weight, targets, valid = example()
    loss, correct = linear_cross_entropy(x, weight, targets, torch.zeros_like(valid))
    assert loss == 0
    assert not correct.any()
    assert all((grad == 0).all() for grad in torch.autograd.grad(loss, (x, weight)))


def test_no_rows_give_zero_loss_and_zero_gradients() -> None:
    x, weight, targets, valid = example()
    loss, correct = linear_cross_entropy(x[:0], weight, targets[:0], valid[:0])
    assert loss == 0
    assert correct.shape == (0,)
    assert (torch.autograd.grad(loss, weight)[0] == 0).all()


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_large_logits_stay_finite_and_exact(scale: float) -> None:
    x, weight, targets, valid = example(scale=scale)
    loss, _ = linear_cross_entropy(x, weight, targets, valid)
    torch.testing.assert_close(loss, plain(x, weight, targets, valid))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, (x, weight)))


def test_gradients_of_a_tied_weight_accumulate() -> None:
    x, weight, targets, valid = example()
    tokens = torch.arange(ROWS) % VOCAB
    loss, _ = linear_cross_entropy(x + F.embedding(tokens, weight), weight, targets, valid)
    expected = plain(x + F.embedding(tokens, weight), weight, targets, valid)
    torch.testing.assert_close(*(torch.autograd.grad(value, weight)[0] for value in (loss, expected)))


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_gets_no_gradient(frozen: int) -> None:
    x, weight, targets, valid = example()
    inputs = [x, weight]
    inputs[frozen].requires_grad_(False)
    linear_cross_entropy(x, weight, targets, valid)[0].backward()
    assert inputs[frozen].grad is None
    expected = torch.autograd.grad(plain(x, weight, targets, valid), inputs[1 - frozen])[0]
    torch.testing.assert_close(inputs[1 - frozen].grad, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_gives_the_same_loss_without_a_graph(mode: type) -> None:
    args = example()
    trained, correct = linear_cross_entropy(*args)
    with mode():
        loss, evaluated = linear_cross_entropy(*args)
    assert not loss.requires_grad
    assert torch.equal(loss, trained)
    assert torch.equal(evaluated, correct)


def test_gradients_of_gradients_are_refused() -> None:
    x, weight, targets, valid = example()
    loss, _ = linear_cross_entropy(x, weight, targets, valid)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


@pytest.mark.parametrize("x_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("weight_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_inputs_are_computed_in_float32(
    x_dtype: torch.dtype, weight_dtype: torch.dtype, autocast: bool
) -> None:
    x, weight, targets, valid = example()
    x, weight = x.detach().to(x_dtype).requires_grad_(), weight.detach().to(weight_dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, _ = linear_cross_entropy(x, weight, targets, valid)
    expected = plain(x, weight, targets, valid)  # in float64, from the same rounded inputs
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss, (x, weight)), torch.autograd.grad(expected, (x, weight)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)  # tolerance of the dtype: one rounding


# 2026-10: Dynamo of torch 2.13 instantiates the Function it traces, and warns about itself.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_a_graph_break(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, targets, valid = example()

    def step(x: Tensor, weight: Tensor) -> Tensor:
        return linear_cross_entropy(2 * x, weight, targets, valid)[0] * 3

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot trace shape checks
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    loss, expected = compiled(x, weight), step(x, weight)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss, (x, weight)), torch.autograd.grad(expected, (x, weight)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_operation_is_well_formed_for_the_compiler() -> None:
    x, weight, targets, valid = example()
    for needs in [(True, True), (True, False), (False, False)]:
        torch.library.opcheck(module._loss_and_gradients, (x.detach(), weight.detach(), targets, valid, *needs))
