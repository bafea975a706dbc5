"""Which parameters decay, at which rate they move, and how that changes over a trial."""

from __future__ import annotations

import dataclasses
import math

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ablator.contracts.train import TrainSettings
from ablator.training.optim import build_optimizer, clip, parameter_groups, peak_lr, undecayed_names
from ablator.training.schedule import build_schedule


class Gated(nn.Module):
    """Like a component: a matrix, a scalar, a vector and a table that asks for no decay."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(4, 4, 1)
        self.rho = nn.Parameter(torch.zeros(()))
        self.alpha_s = nn.Parameter(torch.full((4,), 0.1))
        self.scale = nn.Parameter(torch.ones(4, 4))

    def no_weight_decay(self) -> set[str]:
        return {"scale"}


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=2, depths=(1, 1)
        )
        self.component = Gated()
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_only_matrices_decay() -> None:
    model = Wrapped()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in parameter_groups(model, 0.05)
        for p in group["params"]
    }
    assert set(decays) == {name for name, p in model.named_parameters() if p.requires_grad}
    kept = {name for name, decay in decays.items() if decay == 0}
    assert {"component.rho", "component.alpha_s", "component.scale", "component.filters.bias"} <= kept
    assert "backbone.layers.0.blocks.0.attn.relative_position_bias_table" in kept
    assert "backbone.layers.0.blocks.0.norm1.weight" in kept
    assert {decays["component.filters.weight"], decays["backbone.layers.0.blocks.0.mlp.fc1.weight"]} == {0.05}


def test_exceptions_are_found_through_wrappers() -> None:
    vit = timm.create_model("deit_tiny_patch16_224", img_size=32, depth=1)
    wrapped = nn.ModuleDict({"outer": nn.ModuleDict({"inner": vit})})
    assert {"outer.inner.pos_embed", "outer.inner.cls_token"} <= undecayed_names(wrapped)


def test_linear_rule() -> None:
    settings = TrainSettings(lr=5e-4, batch_size=1024, lr_batch=512)
    assert peak_lr(settings) == pytest.approx(1e-3)
    assert peak_lr(dataclasses.replace(settings, lr_batch=None)) == 5e-4


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_nesterov_where_it_has_momentum(momentum: float) -> None:
    settings = TrainSettings(optimizer="sgd", momentum=momentum)
    group = build_optimizer(nn.Linear(2, 2), settings).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (momentum, momentum > 0)


def test_adamw_takes_the_settings() -> None:
    group = build_optimizer(nn.Linear(2, 2), TrainSettings(eps=1e-6)).param_groups[0]
    assert group["eps"] == 1e-6
    assert group["lr"] == 1e-3


def test_clipping_bounds_the_global_norm() -> None:
    model = nn.Linear(8, 8)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    clip(model, None)
    assert model.bias.grad is not None
    assert float(model.bias.grad[0]) == 3.0
    clip(model, 0.5)
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(0.5, rel=1e-4)


@given(
    epochs=st.integers(1, 20),
    steps=st.integers(1, 30),
    warmup=st.floats(0, 5),
    lr=st.floats(1e-4, 1),
    cooldown=st.integers(0, 3),
    seed=st.integers(0, 10**6),
)
def test_schedule_is_the_formula_at_any_step_in_any_order(
    epochs: int, steps: int, warmup: float, lr: float, cooldown: int, seed: int
) -> None:
    settings = TrainSettings(
        epochs=epochs, lr=lr, lr_batch=None, warmup_epochs=warmup, cooldown_epochs=cooldown
    )
    optimizer = build_optimizer(nn.Linear(2, 2), settings)
    schedule = build_schedule(optimizer, settings, steps)
    length, ramp = max(2, epochs * steps), round(warmup * steps)
    every = (epochs + cooldown) * steps
    for t in torch.randperm(every, generator=torch.Generator().manual_seed(seed))[:10].tolist():
        schedule.step_update(t)
        if t < ramp:
            expected = 1e-6 + t * (lr - 1e-6) / ramp
        elif t < length:
            expected = 1e-5 + (lr - 1e-5) / 2 * (1 + math.cos(math.pi * t / length))
        else:
            expected = 1e-5
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected] * 2)
