"""What the models written here share: a class token, and timm's interface around the head on it."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from ablator.backbones.class_token import ClassTokenModel
from ablator.backbones.families import family_of

TINY: dict[str, dict[str, Any]] = {
    "pvt_small": {"depths": [1, 1, 2, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 2, 2]},
    "t2t_vit_14": {"strides": [2, 2, 1], "token_dim": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
}


@pytest.fixture(params=TINY)
def model(request: pytest.FixtureRequest) -> ClassTokenModel:
    """A tiny model for images of 32 pixels and 5 classes."""
    family_of(request.param)  # registers
    made = timm.create_model(request.param, img_size=32, num_classes=5, **TINY[request.param])
    assert isinstance(made, ClassTokenModel)
    return made.eval()


def test_the_classifier_can_be_reset(model: ClassTokenModel) -> None:
    images_BCHW = torch.randn(2, 3, 32, 32)
    assert model.get_classifier() is model.head
    assert model(images_BCHW).shape == (2, 5)
    model.reset_classifier(7, global_pool="avg")
    assert model(images_BCHW).shape == (2, 7)
    model.reset_classifier(0)
    averaged_BD = model.forward_features(images_BCHW)[:, 1:].mean(dim=1)
    torch.testing.assert_close(model(images_BCHW), averaged_BD)


@pytest.mark.parametrize(
    ("pattern", "names"), [("pvt_*", "pvt_small pvt_medium"), ("t2t_vit_*", "t2t_vit_14 t2t_vit_19")]
)
def test_weights_are_not_promised(pattern: str, names: str) -> None:
    family_of(names.split()[0])
    promised = timm.list_models(pattern, pretrained=True)
    assert not [name for name in promised if not name.startswith("pvt_v2")]
    assert set(names.split()) <= set(timm.list_models(pattern))


def test_an_unknown_pooling_is_named(model: ClassTokenModel) -> None:
    with pytest.raises(ValueError, match="global_pool is token, avg or empty, not 'max'"):
        model.reset_classifier(5, global_pool="max")
