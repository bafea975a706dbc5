"""A frozen tokenizer stays what it was, through optimiser, weight average and checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ablator.assembly.build import Assembly, assemble
from ablator.contracts.protocols import DataInfo, World
from ablator.plan.spec import TrialSpec
from ablator.training.step import Stepper

Make = Callable[..., TrialSpec]
CHANGES = {"tokenizer.kind": "frozen", "moto.n": 2, "tokenprop.scale": 16}


def stepper_of(spec: TrialSpec, info: DataInfo) -> tuple[Assembly, Stepper]:
    assembly = assemble(spec, info)
    stepper = Stepper(
        assembly.model,
        assembly.task,
        spec.train,
        10,
        num_classes=len(info.classes),
        seed=0,
        device=torch.device("cpu"),
        world=World(),
        compile=False,
    )
    stepper.model.train()
    return assembly, stepper


def take_steps(stepper: Stepper, info: DataInfo, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for step in range(count):
        images_BCHW = torch.randn(8, 3, 32, 32, generator=generator)
        target = torch.randint(len(info.classes), (8,), generator=generator)
        stepper.micro_step(images_BCHW, target, 0, step, closes=True)
        stepper.update(step, step + 1)


def frozen_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_no_step_moves_it_and_no_state_is_kept_for_it(spec_of: Make, info: DataInfo, optimizer: str) -> None:
    train = {"train.optimizer": optimizer, "train.weight_decay": 0.5, "train.ema_decay": 0.5}
    spec = spec_of("vit", {**CHANGES, **train, "train.lr": 0.1, "train.warmup_epochs": 0})
    assembly, stepper = stepper_of(spec, info)
    before = frozen_of(assembly.model)
    assert set(before) == {f"backbone.patch_embed.proj.patches.{name}" for name in ("weight", "bias")}
    moving = {n: p.detach().clone() for n, p in assembly.model.named_parameters() if p.requires_grad}
    take_steps(stepper, info, 3)
    now = dict(assembly.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in before.items())
    assert all(now[name].grad is None for name in before)
    assert sum(not torch.equal(now[name], value) for name, value in moving.items()) > 0.9 * len(moving)
    held = {id(p) for group in stepper.optimizer.param_groups for p in group["params"]}
    assert held == {id(now[name]) for name in moving}
    assert {id(p) for p in stepper.optimizer.state} <= held
    assert stepper.average is not None
    averaged = dict(stepper.average.module.named_parameters())
    assert all(torch.equal(averaged[name], value) for name, value in before.items())


def test_a_checkpoint_brings_it_back_frozen(spec_of: Make, info: DataInfo) -> None:
    first, stepper = stepper_of(spec_of("vit", CHANGES, seed=1), info)
    take_steps(stepper, info, 2)
    other, resumed = stepper_of(spec_of("vit", CHANGES, seed=2), info)
    resumed.restore(stepper.state())
    ours, theirs = frozen_of(other.model), frozen_of(first.model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    take_steps(resumed, info, 1)
    assert all(torch.equal(value, ours[name]) for name, value in frozen_of(other.model).items())


def test_seeds_draw_other_patches_and_arms_of_one_seed_the_same(spec_of: Make, info: DataInfo) -> None:
    def patches(seed: int, **changes: object) -> Tensor:
        model = assemble(spec_of("vit", {"tokenizer.kind": "frozen", **changes}, seed=seed), info).model
        return next(iter(frozen_of(model).values()))

    assert torch.equal(patches(0), patches(0, **{"train.optimizer": "sgd"}))
    assert not torch.equal(patches(0), patches(1))


def test_tokenprop_reads_the_new_tokenizers_map(spec_of: Make, info: DataInfo, family: str) -> None:
    spec = spec_of(family, {"tokenizer.kind": "intra_local", "tokenprop.scale": 16, "tokenprop.weight": 1.0})
    model = assemble(spec, info).model.train()
    _, terms = model(torch.randn(2, 3, 32, 32))
    (loss,) = terms.values()
    loss.backward()
    reached = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert any(".steps." in name for name in reached)
    assert not any("blocks" in name or "layers" in name for name in reached)
