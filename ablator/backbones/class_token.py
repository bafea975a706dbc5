"""What the models written here share: a class token, and timm's interface around a linear head on it.

Shape legend: B batch, H W height and width, N tokens of the last stage, D their channels, K classes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import global_pool_nlc, trunc_normal_
from timm.models import build_model_with_cfg
from torch import Tensor, nn


class ClassTokenModel(nn.Module, abc.ABC):
    """A model whose `forward_features` gives normalised tokens (B,1+N,D), the class token first. Raises
    ValueError for an unknown pooling."""

    num_prefix_tokens = 1

    def __init__(
        self, width: int, *, in_chans: int, num_classes: int, global_pool: str, drop_rate: float
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = width
        self.global_pool = _known_pool(global_pool)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.head_drop = nn.Dropout(drop_rate)
        self.head: nn.Module = nn.Linear(width, num_classes) if num_classes > 0 else nn.Identity()

    def init_weights(self) -> None:
        """Truncated normal weights of deviation 0.02 and zero biases in linear layers, as in the authors'
        code; other layers keep torch's own."""
        trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def no_weight_decay(self) -> set[str]:
        """The class token alone, as in the authors' code."""
        return {"cls_token"}

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh last layer for `num_classes`, none for 0; `global_pool` token, avg or empty."""
        if global_pool is not None:
            self.global_pool = _known_pool(global_pool)
        self.num_classes = num_classes
        like = self.cls_token
        self.head = (
            nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            if num_classes > 0
            else nn.Identity()
        )

    def with_class_token(self, tokens_BND: Tensor) -> Tensor:
        """The class token in front, (B,1+N,D)."""
        return torch.cat([self.cls_token.expand(len(tokens_BND), -1, -1), tokens_BND], dim=1)

    @abc.abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens (B,1+N,D) of images (B,3,H,W)."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B,K) of features (B,1+N,D), or what the last layer is given."""
        x_BD = self.head_drop(global_pool_nlc(x, self.global_pool, self.num_prefix_tokens))
        return cast(Tensor, x_BD if pre_logits else self.head(x_BD))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K) of images (B,3,H,W)."""
        return self.forward_head(self.forward_features(x))


def _known_pool(name: str) -> str:
    if name not in ("token", "avg", ""):
        raise ValueError(f"global_pool is token, avg or empty, not {name!r}")
    return name


Model = TypeVar("Model", bound=ClassTokenModel)


def create_registered(
    constructor: type[Model],
    name: str,
    pretrained: bool,
    arguments: dict[str, Any],
    *,
    filter_fn: Callable[..., dict[str, Tensor]],
    out_indices: int | Sequence[int],
) -> Model:
    """What timm calls for a registered name. `filter_fn` adapts a checkpoint's tensors; `out_indices` are the
    features that `features_only` gives where `arguments` do not say which."""
    features = {"out_indices": arguments.pop("out_indices", out_indices), "feature_cls": "getter"}
    model = build_model_with_cfg(
        constructor, name, pretrained, pretrained_filter_fn=filter_fn, feature_cfg=features, **arguments
    )
    return cast(Model, model)


def untrained_cfg(*, first_conv: str | None, crop_pct: float) -> dict[str, Any]:
    """timm's description of a model whose weights it cannot fetch. `crop_pct` is the central part of the
    image that the authors evaluate on; `first_conv` the name of the convolution that sees the image."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": crop_pct,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": first_conv,
        "classifier": "head",
    }
