"""What the families share: how timm is asked for a model."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping
from typing import Any

import timm
from timm.models import is_model_in_modules
from torch import nn

from ablator.backbones.seams import BackboneSeams
from ablator.errors import SettingError, nearest

_OWNED = {
    "num_classes": "it follows from the data",
    "in_chans": "images always have 3 channels",
    "img_size": "it is data.image_size",
    "drop_path_rate": "it is model.drop_path",
    "dynamic_img_size": "every image of a trial has the side data.image_size",
    "dynamic_img_pad": "every image of a trial has the side data.image_size",
    "strict_img_size": "every image of a trial has the side data.image_size",
    "device": "the trial's resources say it",
    "dtype": "train.precision says it",
}
"""Constructor arguments that are not the user's to give in `model.options`, and who gives them."""


class TimmFamily(abc.ABC):
    """A family whose models timm builds, its own or such as are registered with it; see
    `contracts.protocols.Family`."""

    name: str
    modules: tuple[str, ...]
    """The modules that define the models."""
    constructor: type[nn.Module]
    takes_size = True
    """Whether the constructor is told the image's side."""

    def covers(self, model_name: str) -> bool:
        """Whether `model_name` is defined in one of `modules`; what stands behind a dot names weights."""
        return bool(is_model_in_modules(model_name.split(".")[0], self.modules))

    def build(
        self,
        model_name: str,
        *,
        num_classes: int,
        image_size: int,
        drop_path: float,
        options: Mapping[str, Any],
    ) -> nn.Module:
        """A fresh model. Raises SettingError for bad options and image sizes that do not fit."""
        size = {"img_size": image_size} if self.takes_size else {}
        model = create(
            model_name,
            self.constructor,
            options,
            num_classes=num_classes,
            drop_path_rate=drop_path,
            **size,
        )
        self.check_size(model_name, model, image_size)
        return model

    def check_size(self, model_name: str, model: nn.Module, image_size: int) -> None:
        """SettingError for an image that does not fit the model; none where the constructor has checked."""
        del model_name, model, image_size

    @abc.abstractmethod
    def seams(self, model: nn.Module, image_size: int) -> BackboneSeams:
        """The seams of a model that `build` made."""


def create(model_name: str, constructor: type, options: Mapping[str, Any], **arguments: Any) -> nn.Module:
    """A fresh timm model. `options` are the user's constructor arguments, `arguments` ours.

    Raises SettingError, naming the option, where the constructor does not know or cannot take it.
    """
    known = [name for name in inspect.signature(constructor).parameters if name not in _OWNED]
    for name in options:
        if name in _OWNED:
            raise SettingError(f"model.options.{name} cannot be set: {_OWNED[name]}")
        if name not in known:
            raise SettingError(
                f"model.options.{name}: {model_name} has no such argument{nearest(name, known)}; "
                f"known: {', '.join(known)}"
            )
    try:
        model = timm.create_model(model_name, pretrained=False, **arguments, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError, LookupError) as error:
        given = [f"model.options.{name}={value!r}" for name, value in options.items()]
        given += [f"data.image_size={value!r}" for name, value in arguments.items() if name == "img_size"]
        made = ", ".join(given) or "its own defaults"
        raise SettingError(f"model.name {model_name!r} cannot be built with {made}: {error}") from error
    assert isinstance(model, nn.Module)
    return model


def check_divisible(model_name: str, image_size: int, patch_size: tuple[int, int]) -> None:
    """Raise SettingError unless the image is cut into whole patches."""
    patch = max(patch_size)
    if patch_size[0] != patch_size[1]:
        raise SettingError(f"model.options.patch_size must be a square, not {patch_size[0]}×{patch_size[1]}")
    if image_size % patch or image_size < patch:
        below, above = image_size // patch * patch, -(-image_size // patch) * patch
        fits = " or ".join(str(size) for size in (below, above) if size)
        divisors = ", ".join(str(p) for p in range(2, min(image_size, 32) + 1) if image_size % p == 0)
        raise SettingError(
            f"data.image_size {image_size} is not a multiple of the patch size {patch} of {model_name}; "
            f"nearest image sizes: {fits}; patch sizes (model.options.patch_size) for {image_size}: "
            f"{divisors or 'none'}"
        )
