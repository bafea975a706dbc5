"""From a model's name to its family, and from settings to a model with seams."""

from __future__ import annotations

import difflib

import timm
from torch import nn

from ablator.backbones.settings import ModelSettings
from ablator.contracts.protocols import Family, Seams
from ablator.errors import UnknownName
from ablator.registry import FAMILIES


def family_of(model_name: str) -> Family:
    """The family that covers `model_name`.

    Raises UnknownName: for a name that timm does not know, with the nearest names of covered families; for
    a model of timm that no family covers, with the families that there are.
    """
    families: list[Family] = [entry.load() for entry in FAMILIES]
    for family in families:
        if family.covers(model_name):
            return family
    covered = [name for name in timm.list_models() if any(family.covers(name) for family in families)]
    names = ", ".join(FAMILIES.names())
    close = difflib.get_close_matches(model_name.split(".")[0], covered, n=3, cutoff=0.4)
    hint = f"; nearest names: {', '.join(close)}" if close else ""
    if timm.is_model(model_name):
        raise UnknownName(
            f"model.name {model_name!r} exists in timm but has no seams here; families with seams: "
            f"{names}{hint}"
        )
    raise UnknownName(f"unknown model.name {model_name!r}; families: {names}{hint}")


def build(settings: ModelSettings, *, num_classes: int, image_size: int) -> tuple[nn.Module, Seams]:
    """A fresh backbone from torch's current random state (also on the meta device), and its seams.

    `image_size` is the side of the square input in pixels. Raises UnknownName for the model's name and
    SettingError for options or sizes that do not fit.
    """
    family = family_of(settings.name)
    model = family.build(
        settings.name,
        num_classes=num_classes,
        image_size=image_size,
        drop_path=settings.drop_path,
        options=settings.options,
    )
    return model, family.seams(model, image_size)
