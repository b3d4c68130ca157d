"""What decays, and how the learning rate goes."""

import math

import pytest
import torch
from torch import nn

from hybrids.training.optim import build_optimizer, build_schedule, param_groups
from hybrids.training.settings import OptimSettings
from hybrids.training.train import build_model

PATTERN = "LASN.L:A.F"
LETTERS = ("+mixer@mixers.N=linear_attention", "+mixer@mixers.F=none", "channel=mlp")


@pytest.fixture
def model(make_run):
    def build(*overrides):
        run = make_run(f"pattern={PATTERN}", *LETTERS, *overrides)
        return build_model(run, run.task.build())

    return build


def names(model, group):
    chosen = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


@pytest.mark.parametrize("tie", ["true", "false"])
def test_every_parameter_is_in_exactly_one_group(model, tie):
    built = model(f"model.tie_embeddings={tie}")
    grouped = [id(p) for group in param_groups(built, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in built.parameters())
    weights = [built.embedding.weight, built.head.weight]
    assert [grouped.count(id(w)) for w in weights] == [1, 1]
    assert len({id(w) for w in weights}) == (1 if tie == "true" else 2)


def test_matrices_decay_and_norms_biases_gates_and_decays_do_not(model):
    built = model()
    decayed, spared = param_groups(built, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    spared_names = names(built, spared)
    for part in ("norm.weight", "bias", "stream_gate", "A_log", "dt_bias"):
        carriers = {name for name, _ in built.named_parameters() if name.endswith(part)}
        assert carriers, part
        assert carriers <= spared_names
    assert names(built, decayed) >= {name for name, _ in built.named_parameters() if "_proj.weight" in name}
    assert "embedding.weight" in names(built, decayed)


def test_a_marked_matrix_is_spared_and_a_frozen_one_is_left_out():
    built = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("plain", "marked", "frozen")})
    built["marked"].weight.no_weight_decay = True
    built["frozen"].weight.requires_grad = False
    decayed, spared = param_groups(built, 0.1)
    assert (names(built, decayed), names(built, spared)) == ({"plain.weight"}, {"marked.weight"})


def test_decay_moves_matrices_only():
    built = nn.Linear(3, 3)
    optimizer = build_optimizer(built, OptimSettings(lr=0.5, weight_decay=0.2))
    weight, bias = built.weight.detach().clone(), built.bias.detach().clone()
    for parameter in built.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(built.weight, weight * (1 - 0.5 * 0.2))
    assert torch.equal(built.bias, bias)


def test_the_optimiser_gets_the_settings():
    optimizer = build_optimizer(nn.Linear(2, 2), OptimSettings(lr=0.5, beta1=0.8, beta2=0.99))
    assert {(group["lr"], group["betas"], group["fused"]) for group in optimizer.param_groups} == {
        (0.5, (0.8, 0.99), True)
    }


def learning_rates(settings, max_steps, count):
    optimizer = build_optimizer(nn.Linear(2, 2), settings)
    schedule = build_schedule(optimizer, settings, max_steps)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_warm_up_then_cosine():
    settings = OptimSettings(lr=2.0, warmup_steps=4, min_lr_ratio=0.1)
    rates = learning_rates(settings, 12, 14)
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[8] == pytest.approx(2 * (0.1 + 0.9 * 0.5))  # half way: cos(pi/2) = 0
    assert rates[6] == pytest.approx(2 * (0.1 + 0.9 * (2 + math.sqrt(2)) / 4))  # a quarter of the way
    assert rates[12:] == pytest.approx([0.2, 0.2])  # the end, and beyond
    assert rates[4:13] == sorted(rates[4:13], reverse=True)


def test_a_constant_schedule_warms_up_and_stays():
    settings = OptimSettings(lr=2.0, warmup_steps=2, schedule="constant", min_lr_ratio=0.5)
    assert learning_rates(settings, 5, 7) == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])


def test_no_warm_up_starts_at_the_full_rate():
    assert learning_rates(OptimSettings(lr=2.0, warmup_steps=0), 10, 1) == pytest.approx([2.0])


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("lr", 0.0, "must be positive"),
        ("lr", -1.0, "must be positive"),
        ("lr", math.nan, "must be positive"),
        ("lr", math.inf, "must be positive"),
        ("grad_clip", 0.0, "must be positive"),
        ("weight_decay", -0.1, "must not be negative"),
        ("weight_decay", math.nan, "must not be negative"),
        ("warmup_steps", -1, "must not be negative"),
        ("min_lr_ratio", -0.1, r"must be from 0 to 1"),
        ("min_lr_ratio", 3.0, r"must be from 0 to 1"),
        ("beta1", 1.0, r"must lie in \[0, 1\)"),
        ("beta2", -0.5, r"must lie in \[0, 1\)"),
        ("schedule", "linear", "is unknown; allowed: cosine, constant"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, value, allowed):
    with pytest.raises(ValueError, match=rf"optim\.{name}={value!r} {allowed}"):
        OptimSettings(**{name: value})
