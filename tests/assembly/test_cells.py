"""Every backbone of the paper with every component and objective: it trains, or it is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from ablator.assembly.build import assemble
from ablator.components.settings import NormSettings, TokenizerSettings
from ablator.contracts.protocols import DataInfo
from ablator.errors import SeamError, SettingError
from ablator.plan.spec import TrialSpec
from ablator.registry import COMPONENTS, FAMILIES, OBJECTIVES
from ablator.training.optim import build_optimizer

Make = Callable[..., TrialSpec]
Changes = dict[str, Any]

BACKBONES: dict[str, tuple[str, Changes]] = {
    "DeiT-Ti": ("vit", {}),
    "DeiT-S": ("vit", {"model.name": "deit_small_patch16_224"}),
    "DeiT-B": ("vit", {"model.name": "deit_base_patch16_224", "model.options.num_heads": 4}),
    "DeiT_C-S": ("vit", {"model.name": "deit_small_patch16_224", "tokenizer.kind": "conv_stem"}),
    "T2T-ViT-14": ("t2t_vit", {}),
    "T2T-ViT-19": ("t2t_vit", {"model.name": "t2t_vit_19", "model.options.depth": 3}),
    "PVT-Small": ("pvt", {}),
    "PVT-Medium": ("pvt", {"model.name": "pvt_medium", "model.options.depths": [1, 1, 2, 1]}),
    "PVTv2-B1": ("pvt_v2", {"model.name": "pvt_v2_b1"}),
    "PVTv2-B2": ("pvt_v2", {"model.name": "pvt_v2_b2", "model.options.depths": [1, 1, 2, 1]}),
    "Swin-T": ("swin", {}),
    "Swin-S": ("swin", {"model.name": "swin_small_patch4_window7_224", "model.options.depths": [1, 2]}),
}
"""Label to family and changes of its tiny model; a family without a backbone here fails."""


def choices(cls: type, field: str) -> tuple[str, ...]:
    """What a setting can be."""
    return get_args(get_type_hints(cls)[field])


COMPONENT_SETS: dict[str, Changes] = {
    "none": {},
    **{f"tokenizer {kind}": {"tokenizer.kind": kind} for kind in choices(TokenizerSettings, "kind")},
    "moto post": {"moto.n": 4},
    "moto every stage": {"moto.n": 4, "moto.stages": "all"},
    "moto stem": {"moto.n": 4, "moto.placement": "stem"},
    "moto blocks": {"moto.n": 4, "moto.blocks": "0:1"},
    **{f"norm {kind}": {"norm.kind": kind} for kind in choices(NormSettings, "kind")},
}
OBJECTIVE_SETS: dict[str, Changes] = {"none": {}, "tokenprop": {"tokenprop.scale": 16}}

_ONE_EMBEDDING = "has one embedding"
_STEM = "takes the place of a convolution, and {} of family {} is a {}"
IMPOSSIBLE: dict[tuple[str, str], str] = {
    **{
        (label, "moto every stage"): _ONE_EMBEDDING
        for label in ("DeiT-Ti", "DeiT-S", "DeiT-B", "DeiT_C-S", "T2T-ViT-14", "T2T-ViT-19")
    },
    **{
        (label, "moto stem"): _STEM.format("tokens_to_token", "'t2t_vit'", "TokensToToken")
        for label in ("T2T-ViT-14", "T2T-ViT-19")
    },
    ("DeiT_C-S", "moto stem"): _STEM.format("patch_embed.proj", "'vit'", "ConvStem"),
}
"""Backbone and component to what the refusal says; every other pair has to work."""

CELLS = [
    (label, name)
    for label, (_, own) in BACKBONES.items()
    for name, changes in COMPONENT_SETS.items()
    if not own.keys() & changes.keys()  # DeiT_C has a tokenizer
]


def images(seed: int = 1) -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_every_name_that_can_be_registered_is_in_the_table() -> None:
    assert {family for family, _ in BACKBONES.values()} == set(FAMILIES.names())
    sections = {key.partition(".")[0] for changes in COMPONENT_SETS.values() for key in changes}
    assert sections == set(COMPONENTS.names())
    assert OBJECTIVE_SETS.keys() - {"none"} == set(OBJECTIVES.names())
    assert IMPOSSIBLE.keys() <= set(CELLS)


@pytest.mark.parametrize("objective", OBJECTIVE_SETS)
@pytest.mark.parametrize(("label", "component"), CELLS)
def test_a_cell_trains_or_is_refused_by_name(
    spec_of: Make, info: DataInfo, label: str, component: str, objective: str
) -> None:
    family, own = BACKBONES[label]
    spec = spec_of(family, {**own, **COMPONENT_SETS[component], **OBJECTIVE_SETS[objective]})
    if (label, component) in IMPOSSIBLE:
        with pytest.raises((SeamError, SettingError), match=IMPOSSIBLE[label, component]):
            assemble(spec, info)
        return
    model = assemble(spec, info).model
    trains(model, spec)
    comes_back(model, spec, info)


def trains(model: nn.Module, spec: TrialSpec) -> None:
    """A step: every weight that is trained gets a finite gradient, and moves; the others stay."""
    optimizer = build_optimizer(model, spec.train)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    output, extra = model.train()(images())
    assert extra.keys() - {"penalty"} == spec.objectives.keys()
    loss = nn.functional.cross_entropy(output, torch.arange(4)) + sum(extra.values())
    loss.backward()
    for name, weight in model.named_parameters():
        assert weight.requires_grad == (weight.grad is not None), name
        assert weight.grad is None or weight.grad.isfinite().all(), name
    optimizer.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    reached = {n for n, w in model.named_parameters() if w.grad is not None and w.grad.any()}
    assert reached <= moved <= {n for n, w in model.named_parameters() if w.requires_grad}
    assert len(reached) > len(before) / 2


def comes_back(model: nn.Module, spec: TrialSpec, info: DataInfo) -> None:
    """What was trained, written and read gives the same bits, as evaluating twice does."""
    other = assemble(dataclasses.replace(spec, seed=spec.seed + 1), info).model
    with torch.no_grad():
        first, none = model.eval()(images(2))
        assert torch.equal(first, model(images(2))[0])
        assert not torch.equal(first, other.eval()(images(2))[0])
        other.load_state_dict(model.state_dict())
        assert torch.equal(first, other(images(2))[0])
    assert none == {}
    assert first.isfinite().all()
