"""Frozen feature networks: architecture, weights, and the layers that losses read.

Networks are cached per process and looked up by name and device, so they are never submodules of what is
trained: no checkpoint, optimiser, parameter count or copy of a model holds them.

Shape legend: B batch, C channels, H W height and width of a map.
"""

from __future__ import annotations

import functools
import importlib
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablator.errors import WeightsError
from ablator.objectives.losses import full_precision
from ablator.objectives.weights import FeatureNetwork
from ablator.registry import FEATURE_NETWORKS

_VGG19_TAPS = {"relu1_2": 3, "relu2_2": 8, "relu3_2": 13, "relu3_4": 17, "relu4_2": 22, "relu4_4": 26}
"""Positions of the activations in torchvision's `vgg19().features`."""
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LITE0_MEAN, _LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3


class Features(nn.Module):
    """A frozen chain of stages with names. Always in eval mode; gradients reach its input only."""

    mean: Tensor
    std: Tensor

    def __init__(self, stages: Mapping[str, nn.Module], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.names = tuple(stages)
        self.stages = nn.ModuleList(stages.values())
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Features:
        """Stays in eval mode whatever is asked: statistics of ImageNet, not of the batch."""
        super().train(False)
        return self

    def forward(self, images_B3HW: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Outputs (B,C,H',W') of the named layers for images in [0, 1], in fp32 even under autocast."""
        wanted = set(layers)
        last = max(self.names.index(name) for name in wanted)
        outputs: dict[str, Tensor] = {}
        with full_precision(images_B3HW.device):
            x_BCHW = (images_B3HW.float() - self.mean) / self.std
            for name, stage in zip(self.names[: last + 1], self.stages, strict=False):
                x_BCHW = stage(x_BCHW)
                if name in wanted:
                    outputs[name] = x_BCHW
        return outputs


@torch.compiler.disable  # type: ignore[untyped-decorator]
def feature_network(name: str, device: torch.device) -> Features:
    """The frozen network called `name` on `device`, loaded once per process.

    On the meta device it is the architecture alone, for shapes and operation counts without weights.
    Raises UnknownName, or WeightsError where the weights cannot be had.
    """
    return _loaded(name, str(device))


def forget_networks() -> None:
    """Free the networks of this process; they are loaded again when they are next asked for."""
    _loaded.cache_clear()


@functools.cache
def _loaded(name: str, device: str) -> Features:
    network: FeatureNetwork = FEATURE_NETWORKS.get(name).load()
    module, _, function = network.build.partition(":")
    build = getattr(importlib.import_module(module), function)
    # A first call inside inference_mode must not leave weights that training cannot use afterwards.
    with torch.inference_mode(False):
        made: Features = build(None if device == "meta" else network.obtain())
        return made.to(device)


def build_vgg19(weights: Path | None) -> Features:
    """VGG19 (Simonyan and Zisserman 2015) up to relu4_4; weights as torchvision saves them."""
    from torchvision.models import vgg19

    # Built on meta and then filled, so that loading draws nothing from the trial's random state.
    with torch.device("meta"):
        body = vgg19(weights=None).features
    for module in body:
        if isinstance(module, nn.ReLU):
            module.inplace = False  # otherwise a tap on the convolution before it would be overwritten
    if weights is not None:
        state = _read(weights)
        prefix = "features."
        _fill(body, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, weights)
    stages, start = {}, 0
    for name, position in _VGG19_TAPS.items():
        stages[name] = body[start : position + 1]
        start = position + 1
    return _frozen(stages, _IMAGENET_MEAN, _IMAGENET_STD)


def efficientnet_lite0(weights: Path | None) -> nn.Module:
    """The whole classifier EfficientNet-lite0 (Tan and Le 2019, lite variant), on meta where `weights` is
    None; its input is (255x - 127) / 128 for x in [0, 1]."""
    import timm

    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights is not None:
        state = _read(weights)
        # The file's keys follow another implementation, its tensors the same order; the hash of the file
        # is pinned, so the pairing by order is too.
        _fill(model, dict(zip(model.state_dict(), state.values(), strict=True)), weights)
    made: nn.Module = model
    return made


def build_efficientnet_lite0(weights: Path | None) -> Features:
    """EfficientNet-lite0 up to its fifth stage."""
    model: Any = efficientnet_lite0(weights)
    blocks = model.blocks
    stages = {
        "stem": nn.Sequential(model.conv_stem, model.bn1),
        "blocks.1": nn.Sequential(blocks[0], blocks[1]),
        "blocks.2": blocks[2],
        "blocks.4": nn.Sequential(blocks[3], blocks[4]),
    }
    return _frozen(stages, _LITE0_MEAN, _LITE0_STD)


def _frozen(stages: Mapping[str, nn.Module], mean: Sequence[float], std: Sequence[float]) -> Features:
    # Outside of any `with torch.device(...)` of the caller: mean and std are values, not shapes.
    with torch.device("cpu"):
        return Features(stages, mean, std)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with torch.device("cpu"):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"the weights {path} cannot be read ({error}); delete the file and run again"
        ) from error
    return state


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the weights {path} do not fit their network: {error}") from error
