"""T2T-ViT: the authors' names, sizes and numbers, and timm's interface."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ablator.backbones.families import family_of
from ablator.backbones.t2t_vit_model import T2TViT, checkpoint_filter_fn, sinusoids
from ablator.backbones.tokens_to_token import Performer, TokensToToken

TINY: dict[str, Any] = {
    "img_size": 32,
    "num_classes": 5,
    "strides": [2, 2, 1],
    "token_dim": 8,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
}

LOGITS = [1.651522, -0.031428, -1.705623, -0.674886, 1.447303, 1.326397]
"""The first ones of a T2T-ViT-14 with two blocks; the authors' code gives the same to 1e-6."""


def create(name: str = "t2t_vit_14", **arguments: Any) -> T2TViT:
    family_of(name)  # registers
    model = timm.create_model(name, **arguments)
    assert isinstance(model, T2TViT)
    return model


def test_state_dict_has_the_authors_names() -> None:
    with torch.device("meta"):
        state = create().state_dict()
    assert len(state) == 188
    shapes = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 197, 384),
        "tokens_to_token.attention1.w": (32, 64),
        "tokens_to_token.attention1.kqv.weight": (192, 147),
        "tokens_to_token.attention1.norm1.bias": (147,),
        "tokens_to_token.attention1.proj.weight": (64, 64),
        "tokens_to_token.attention2.kqv.weight": (192, 576),
        "tokens_to_token.attention2.mlp.0.weight": (64, 64),
        "tokens_to_token.attention2.mlp.2.bias": (64,),
        "tokens_to_token.project.weight": (384, 576),
        "blocks.13.norm1.weight": (384,),
        "blocks.13.attn.qkv.weight": (1152, 384),
        "blocks.13.attn.proj.bias": (384,),
        "blocks.13.mlp.fc1.weight": (1152, 384),
        "blocks.13.mlp.fc2.bias": (384,),
        "norm.weight": (384,),
        "head.weight": (1000, 384),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "blocks.0.attn.qkv.bias" not in state


@pytest.mark.parametrize(
    ("name", "everything", "trained"),
    [("t2t_vit_14", 21_545_550, 21_465_806), ("t2t_vit_19", 39_177_422, 39_085_070)],
)
def test_sizes_are_those_of_the_authors_models(name: str, everything: int, trained: int) -> None:
    with torch.device("meta"):
        model = create(name)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == everything
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == trained


def test_logits_are_those_that_were_compared_with_the_authors_code(
    formula_logits: Callable[[nn.Module, int], Tensor],
) -> None:
    logits = formula_logits(create(depth=2), 224)
    assert logits.shape == (1000,)
    torch.testing.assert_close(logits[:6], torch.tensor(LOGITS), rtol=0, atol=1e-5)


def test_random_features_are_orthogonal_and_neither_they_nor_positions_train() -> None:
    model = create(**TINY)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"pos_embed", "tokens_to_token.attention1.w", "tokens_to_token.attention2.w"}
    directions_MD = Performer(27, 64, 0.1).w
    torch.testing.assert_close(directions_MD @ directions_MD.T, 32 * torch.eye(32), atol=1e-4, rtol=0)


def test_performers_attend_by_distance() -> None:
    torch.manual_seed(0)
    layer = Performer(16, 1024, 0.0)  # many features, so that the estimate is close
    key_BND, query_BND, value_BND = torch.randn(3, 2, 20, 1024).unbind()
    key_BND[..., 3:] = query_BND[..., 3:] = 0
    scores_BNN = {
        "distance": -(torch.cdist(query_BND, key_BND) ** 2) / 4,
        "product": query_BND @ key_BND.transpose(1, 2),
        "none": torch.zeros(2, 20, 20),
    }
    found_BND = layer._attend(key_BND, query_BND, value_BND)
    off = {
        name: (found_BND - torch.softmax(scores, dim=-1) @ value_BND).norm()
        for name, scores in scores_BNN.items()
    }
    assert off["distance"] < 0.6 * min(off["product"], off["none"])


def test_performers_keep_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    layer = Performer(16, 64, 0.0)
    tokens = [torch.randn(2, 20, 64).bfloat16() for _ in range(3)]
    expected_BND = layer._attend(*(x_BND.float() for x_BND in tokens))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_BND = layer._attend(*tokens)
    assert found_BND.dtype == torch.bfloat16
    assert torch.equal(found_BND, expected_BND.bfloat16())


def test_positions_are_sines_and_cosines() -> None:
    table_ND = sinusoids(10, 8)[0]
    assert torch.equal(table_ND[0], torch.tensor([0.0, 1.0] * 4))
    assert table_ND[3, 2].item() == pytest.approx(torch.sin(torch.tensor(3 / 10000**0.25)).item())
    assert table_ND[9, 7].item() == pytest.approx(torch.cos(torch.tensor(9 / 10000**0.75)).item())


@pytest.mark.parametrize(
    ("kernel_sizes", "strides", "side"),
    [
        ((7, 3, 3), (4, 2, 2), 32),
        ((7, 3, 3), (2, 2, 1), 12),
        ((3, 3, 3), (1, 1, 2), 6),
        ((4, 3, 2), (4, 3, 2), 24),
    ],
)
def test_soft_splits_divide_the_image_by_their_strides(
    kernel_sizes: tuple[int, ...], strides: tuple[int, ...], side: int
) -> None:
    tokenizer = TokensToToken(3, 10, token_dim=4, kernel_sizes=kernel_sizes, strides=strides, drop=0.0)
    stride = strides[0] * strides[1] * strides[2]
    assert tokenizer(torch.randn(2, 3, side, side)).shape == (2, 10, side // stride, side // stride)


def test_intermediates_end_in_the_features() -> None:
    model = create(**TINY).eval()
    images_BCHW = torch.randn(2, 3, 32, 32)
    features_BND = model.forward_features(images_BCHW)
    assert features_BND.shape == (2, 1 + 64, 32)
    final_BND, maps = model.forward_intermediates(images_BCHW, norm=True)
    assert torch.equal(final_BND, features_BND)
    assert [tuple(map_BDHW.shape) for map_BDHW in maps] == [(2, 32, 8, 8)] * 3
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), features_BND[:, 1:])
    tokens = model.forward_intermediates(
        images_BCHW, [1], True, stop_early=True, output_fmt="NLC", intermediates_only=True
    )
    assert torch.equal(
        tokens[0][0], model.forward_intermediates(images_BCHW)[1][1].flatten(2).transpose(1, 2)
    )
    assert tokens[0][1].shape == (2, 1, 32)
    assert torch.equal(model.forward_head(features_BND, pre_logits=True), features_BND[:, 0])


def test_timms_feature_extraction_takes_blocks() -> None:
    model = timm.create_model(
        "t2t_vit_14", features_only=True, out_indices=(0, 2), **{**TINY, "num_classes": 0}
    )
    assert [tuple(map_BDHW.shape) for map_BDHW in model(torch.randn(1, 3, 32, 32))] == [(1, 32, 8, 8)] * 2
    assert model.feature_info.reduction() == [4, 4]


def test_drop_path_grows_with_depth_and_the_tokenizer_has_its_dropout() -> None:
    model = create(**TINY, drop_path_rate=0.2)
    rates = [module.drop_prob for module in model.blocks.modules() if type(module).__name__ == "DropPath"]
    assert rates == pytest.approx([0.1, 0.1, 0.2, 0.2])  # type: ignore[comparison-overlap]
    drops = [module.p for module in model.tokens_to_token.modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.1] * 4


def test_timm_groups_parameters_by_depth_and_spares_the_class_token() -> None:
    from timm.models import group_parameters

    model = create(**TINY)
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert layers["tokens_to_token.attention1.w"] == layers["cls_token"] == 0
    assert [layers[f"blocks.{index}.attn.qkv.weight"] for index in range(3)] == [1, 2, 3]
    assert layers["norm.weight"] == 3
    assert model.no_weight_decay() == {"cls_token"}


def test_weights_go_round_and_other_sizes_resample_positions() -> None:
    model, other = create(**TINY), create(**TINY)
    other.load_state_dict(model.state_dict())
    images_BCHW = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(images_BCHW), other.eval()(images_BCHW))
    larger = create(**{**TINY, "img_size": 48})
    larger.load_state_dict(checkpoint_filter_fn(model.state_dict(), larger))
    assert larger.pos_embed.shape == (1, 1 + 144, 32)
    assert torch.equal(larger.pos_embed[:, 0], model.pos_embed[:, 0])
    assert larger(torch.randn(1, 3, 48, 48)).shape == (1, 5)


def test_a_copy_is_independent_and_training_moves_what_it_should() -> None:
    model = create(**TINY)
    average = copy.deepcopy(model)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    moved = {k for k, v in average.state_dict().items() if not torch.equal(v, model.state_dict()[k])}
    assert {"cls_token", "tokens_to_token.attention1.kqv.weight", "blocks.2.mlp.fc2.weight"} <= moved
    assert not moved & {"pos_embed", "tokens_to_token.attention1.w", "tokens_to_token.attention2.w"}
