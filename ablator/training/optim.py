"""Optimisers and their parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ablator.contracts.train import TrainSettings


def peak_lr(settings: TrainSettings) -> float:
    """The learning rate after warmup: `lr · batch_size / lr_batch` (linear rule), or `lr` as written."""
    if settings.lr_batch is None:
        return settings.lr
    return settings.lr * settings.batch_size / settings.lr_batch


def undecayed_names(model: nn.Module) -> set[str]:
    """Full names of the parameters that any module of `model` excepts from weight decay through timm's
    `no_weight_decay()`; modules around the backbone do not hide it."""
    names: set[str] = set()
    for prefix, module in model.named_modules():
        declared = getattr(module, "no_weight_decay", None)
        if callable(declared):
            names |= {f"{prefix}.{name}" if prefix else name for name in declared()}
    return names


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in timm's groups: no decay for biases, for parameters of at most one dimension
    (norms, MoTo's ρ and α_s) and for `undecayed_names`; frozen parameters are in none.

    Modules with a number `lr_scale` have groups of their own, whose rate is that multiple of the others' at
    every step (timm's schedulers read `lr_scale`)."""
    groups: list[dict[str, Any]] = param_groups_weight_decay(
        model, weight_decay, no_weight_decay_list=undecayed_names(model)
    )
    scales = {
        parameter: scale
        for module in model.modules()
        if isinstance(scale := getattr(module, "lr_scale", None), float)
        for parameter in module.parameters()
    }
    return [part for group in groups for part in _by_scale(group, scales)] if scales else groups


def _by_scale(group: dict[str, Any], scales: dict[nn.Parameter, float]) -> list[dict[str, Any]]:
    parts: dict[float, list[nn.Parameter]] = {}
    for parameter in group["params"]:
        parts.setdefault(scales.get(parameter, 1.0), []).append(parameter)
    return [{**group, "params": held, "lr_scale": scale} for scale, held in parts.items()]


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """AdamW, or SGD with Nesterov's or classical momentum, at `peak_lr`. Fused where torch has it: on a small
    model on one core that takes a quarter of the time of the per-tensor loop."""
    groups = parameter_groups(model, settings.weight_decay)
    lr = peak_lr(settings)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=lr, eps=settings.eps, fused=fused)
    nesterov = settings.nesterov and settings.momentum > 0
    return SGD(groups, lr=lr, momentum=settings.momentum, nesterov=nesterov, fused=fused)


def clip(model: nn.Module, largest: float | None) -> None:
    """Scale the gradients so that their global norm is at most `largest`; None leaves them."""
    if largest is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
