"""Every registered component on every registered family keeps the components' promises."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import nn

import ablator.components  # noqa: F401  (registers the components)
from ablator.components.settings import MoToSettings, NormSettings, TokenizerSettings
from ablator.contracts.protocols import Change, Seams
from ablator.errors import SeamError
from ablator.registry import COMPONENTS, FAMILIES

Tiny = Callable[..., tuple[nn.Module, Seams]]

IN_THE_STEM = MoToSettings(placement="stem", n=2, partition="hard")
IN_EVERY_STAGE = MoToSettings(stages="all", orthogonality=0.1)

EXAMPLES: dict[str, list[Any]] = {
    "tokenizer": [
        TokenizerSettings(kind="frozen"),
        TokenizerSettings(kind="conv_stem"),
        TokenizerSettings(kind="intra"),
        TokenizerSettings(kind="intra_local"),
        TokenizerSettings(kind="intra_local_inter", context_stride=8),
        TokenizerSettings(kind="cross_scale"),
        TokenizerSettings(kind="token_learner", learner="convolutional"),
        TokenizerSettings(kind="token_learner", learner="mlp", tokens=3),
    ],
    "moto": [
        MoToSettings(),
        IN_THE_STEM,
        MoToSettings(placement="none", blocks="0:2", statistics="literal"),
        MoToSettings(statistics="counted", value=False),
        MoToSettings(statistics="averaged", self_sampling=True),
        IN_EVERY_STAGE,
    ],
    "norm": [NormSettings(kind="layer"), NormSettings(kind="batch"), NormSettings(kind="instance")],
}
"""A new component adds its line here; without one it fails."""

REFUSED: dict[tuple[str, Any], str] = {
    ("vit", IN_EVERY_STAGE): "family 'vit' has one embedding, patch_embed.proj",
    ("t2t_vit", IN_EVERY_STAGE): "family 't2t_vit' has one embedding, tokens_to_token",
    ("t2t_vit", IN_THE_STEM): "tokens_to_token of family 't2t_vit' is a TokensToToken",
}
"""Family and settings to what the SeamError says; all else has to work."""

CASES = [(name, family) for name in COMPONENTS.names() for family in FAMILIES.names()]


@pytest.mark.parametrize("name", COMPONENTS.names())
def test_examples_reach_every_choice(name: str) -> None:
    assert name in EXAMPLES, f"component {name!r} needs example settings in this file"
    entry = COMPONENTS.get(name)
    assert entry.settings is not None
    assert entry.summary
    hints = get_type_hints(entry.settings)
    for field in dataclasses.fields(entry.settings):
        if get_origin(hints[field.name]) is Literal:
            used = {getattr(example, field.name) for example in EXAMPLES[name]}
            assert used == set(get_args(hints[field.name])), field.name


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_component_changes_the_model_and_leaves_it_whole(tiny: Tiny, name: str, family: str) -> None:
    images_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    attach = COMPONENTS.get(name).load()
    for example in EXAMPLES[name]:
        baseline, _ = tiny(family)
        model, seams = tiny(family)
        if (family, example) in REFUSED:
            with pytest.raises(SeamError, match=re.escape(REFUSED[family, example])):
                attach(seams, example)
            continue
        change = attach(seams, example)
        assert isinstance(change, Change)
        assert change.places
        shared = set(model.state_dict()) & set(baseline.state_dict())
        assert all(torch.equal(model.state_dict()[key], baseline.state_dict()[key]) for key in shared)
        assert set(model.state_dict()) - shared
        theirs = baseline.forward_intermediates(images_BCHW)  # type: ignore[operator]
        ours = model.forward_intermediates(images_BCHW)  # type: ignore[operator]
        assert ours[0].shape == theirs[0].shape == model.forward_features(images_BCHW).shape  # type: ignore[operator]
        assert [x.shape for x in ours[1]] == [x.shape for x in theirs[1]]
        model(images_BCHW).square().sum().backward()
        assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_component_builds_on_the_meta_device(tiny: Tiny, name: str, family: str) -> None:
    with torch.device("meta"):
        model, seams = tiny(family)
        COMPONENTS.get(name).load()(seams, EXAMPLES[name][0])
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 5)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
