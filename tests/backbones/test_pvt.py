"""PVT, version 1: the authors' names, sizes and numbers, and timm's interface."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ablator.backbones.families import family_of
from ablator.backbones.pvt_model import PyramidVisionTransformer, checkpoint_filter_fn

TINY: dict[str, Any] = {
    "img_size": 32,
    "num_classes": 5,
    "depths": [1, 1, 2, 1],
    "embed_dims": [8, 16, 24, 32],
    "num_heads": [1, 1, 2, 2],
}

LOGITS = [0.133053, 0.061277, -0.045766, -0.190985, -0.358583, -0.516434]
"""The first ones of a PVT with a block per stage, 224 pixels; the authors' code gives the same to 2e-6."""
LOGITS_256 = [0.133511, 0.061236, -0.046278, -0.191917, -0.359868, -0.517994]
"""Of the same model on an image of 256 pixels, for which it resamples its positions; to 3e-6."""


def create(name: str = "pvt_small", **arguments: Any) -> PyramidVisionTransformer:
    family_of(name)  # registers
    model = timm.create_model(name, **arguments)
    assert isinstance(model, PyramidVisionTransformer)
    return model


def test_state_dict_has_the_authors_names() -> None:
    with torch.device("meta"):
        state = create().state_dict()
    assert len(state) == 301
    shapes = {
        "cls_token": (1, 1, 512),
        "pos_embed1": (1, 3136, 64),
        "pos_embed4": (1, 50, 512),
        "patch_embed1.proj.weight": (64, 3, 4, 4),
        "patch_embed1.norm.weight": (64,),
        "patch_embed3.proj.weight": (320, 128, 2, 2),
        "block1.0.norm1.weight": (64,),
        "block1.0.attn.q.bias": (64,),
        "block1.0.attn.kv.weight": (128, 64),
        "block1.0.attn.sr.weight": (64, 64, 8, 8),
        "block1.0.attn.norm.bias": (64,),
        "block2.3.mlp.fc1.weight": (1024, 128),
        "block3.5.attn.proj.weight": (320, 320),
        "block4.2.mlp.fc2.weight": (512, 2048),
        "norm.weight": (512,),
        "head.bias": (1000,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "block4.0.attn.sr.weight" not in state


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("pvt_tiny", 13_229_288),
        ("pvt_small", 24_485_864),
        ("pvt_medium", 44_208_104),
        ("pvt_large", 61_369_320),
    ],
)
def test_sizes_are_those_of_the_authors_models(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = create(name)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_logits_are_those_that_were_compared_with_the_authors_code(
    formula_logits: Callable[[nn.Module, int], Tensor],
) -> None:
    logits = formula_logits(create(depths=[1, 1, 1, 1]), 224)
    assert logits.shape == (1000,)
    torch.testing.assert_close(logits[:6], torch.tensor(LOGITS), rtol=0, atol=1e-5)


def test_logits_on_another_size_are_too(formula_logits: Callable[[nn.Module, int], Tensor]) -> None:
    logits = formula_logits(create(depths=[1, 1, 1, 1]), 256)
    torch.testing.assert_close(logits[:6], torch.tensor(LOGITS_256), rtol=0, atol=1e-5)


def test_intermediates_are_the_stages_maps_and_end_in_the_features() -> None:
    model = create(**TINY).eval()
    images_BCHW = torch.randn(2, 3, 32, 32)
    features_BNC = model.forward_features(images_BCHW)
    assert features_BNC.shape == (2, 1 + 1, 32)
    final_BNC, maps = model.forward_intermediates(images_BCHW, norm=True)
    assert torch.equal(final_BNC, features_BNC)
    assert [tuple(map_BCHW.shape[1:]) for map_BCHW in maps] == [(8, 8, 8), (16, 4, 4), (24, 2, 2), (32, 1, 1)]
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), features_BNC[:, 1:])
    early = model.forward_intermediates(images_BCHW, [1], stop_early=True, intermediates_only=True)
    assert torch.equal(early[0], maps[1])
    assert torch.equal(model.forward_head(features_BNC, pre_logits=True), features_BNC[:, 0])


def test_timms_feature_extraction_takes_stages() -> None:
    model = timm.create_model("pvt_small", features_only=True, **{**TINY, "num_classes": 0, "img_size": 64})
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    assert model.feature_info.channels() == [8, 16, 24, 32]
    assert [map_BCHW.shape[-1] for map_BCHW in model(torch.randn(1, 3, 64, 64))] == [16, 8, 4, 2]


def test_small_patches_give_small_images_a_usable_grid() -> None:
    model = create(**TINY, patch_sizes=[2, 2, 2, 2])
    assert model.grid_sizes == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    two = create(
        img_size=8,
        num_classes=5,
        patch_sizes=[2, 2],
        embed_dims=[8, 16],
        depths=[1, 1],
        num_heads=[1, 2],
        mlp_ratios=[2, 2],
        sr_ratios=[2, 1],
    )
    assert two(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_drop_path_grows_over_all_stages() -> None:
    model = create(**TINY, drop_path_rate=0.4)
    rates = [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])  # type: ignore[comparison-overlap]


def test_timm_groups_parameters_by_depth_and_spares_the_class_token() -> None:
    from timm.models import group_parameters

    model = create(**TINY)
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert layers["patch_embed1.proj.weight"] == layers["pos_embed1"] == 0
    order = [
        "block1.0.norm1.weight",
        "patch_embed2.proj.weight",
        "block3.0.norm1.weight",
        "block3.1.norm1.weight",
    ]
    assert [layers[name] for name in order] == sorted({layers[name] for name in order})
    assert layers["cls_token"] == layers["pos_embed4"] == layers["block4.0.norm1.weight"]
    assert model.no_weight_decay() == {"cls_token"}


def test_weights_go_round_and_other_sizes_resample_positions() -> None:
    model, other = create(**TINY).eval(), create(**TINY).eval()
    other.load_state_dict(model.state_dict())
    images_BCHW = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(images_BCHW[..., :32, :32]), other(images_BCHW[..., :32, :32]))
    larger = create(**{**TINY, "img_size": 64}).eval()
    larger.load_state_dict(checkpoint_filter_fn(model.state_dict(), larger))
    assert larger.pos_embed4.shape == (1, 1 + 4, 32)  # type: ignore[union-attr]
    # Loading resamples as the forward pass of the smaller model does.
    torch.testing.assert_close(larger(images_BCHW), model(images_BCHW))


def test_a_copy_is_independent() -> None:
    model = create(**TINY)
    average = copy.deepcopy(model)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    same = [k for k, v in average.state_dict().items() if torch.equal(v, model.state_dict()[k])]
    assert not [name for name in same if name.endswith("kv.weight") or name.startswith(("pos_embed", "cls"))]
