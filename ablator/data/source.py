"""What an opened data set is: two sets of labelled images, and what is known about them. No torch here.

Shape legend: N images, H height, W width, C channels (absent for grey).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import struct
from collections.abc import Iterable
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "val"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per channel, of ImageNet's training images in [0, 1]; used where a data set has no constants of its own."""

# Everything that Pillow's readers raise on damaged files of the formats that are accepted here.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class UnreadableImageError(Exception):
    """One image that cannot be decoded. Not a user error yet: the loader counts them and decides."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason


class Images(Protocol):
    """One split: labels, and images that are decoded when asked for."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices (N,)."""
        ...

    def read(self, index: int) -> Image.Image:
        """Image `index` as RGB of 8 bits; raises UnreadableImageError."""
        ...

    def name(self, index: int) -> str:
        """What messages call image `index`, such as its path."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ArrayImages:
    """Images that lie decoded in memory, all of one size."""

    pixels: NDArray[np.uint8]
    """(N, H, W) grey or (N, H, W, 3)."""
    labels: NDArray[np.int64]
    label: str
    """Prefix of names, such as `digits/train`."""

    def read(self, index: int) -> Image.Image:
        """Image `index` as RGB; grey becomes three equal channels."""
        return Image.fromarray(self.pixels[index]).convert("RGB")

    def name(self, index: int) -> str:
        """`digits/train[12]`."""
        return f"{self.label}[{index}]"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One opened data set, before a fraction is taken. Compared by identity, so that it can key caches."""

    name: str
    classes: tuple[str, ...]
    train: Images
    val: Images
    fingerprint: str
    """SHA-256 in hex; see `contracts.protocols.DataInfo`."""
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def images(self, split: Split) -> Images:
        """The images of one split."""
        return self.train if split == "train" else self.val

    def image(self, split: Split, index: int) -> Image.Image:
        """One image as RGB; raises UnreadableImageError."""
        return self.images(split).read(index)


def decode(name: str, content: str | bytes) -> Image.Image:
    """Decode an image file (a path, or its bytes) to RGB of 8 bits.

    Grey becomes three equal channels, 16-bit grey keeps its high byte, palettes are resolved, and
    transparent pixels are laid over black. Raises UnreadableImageError, which carries `name`.
    """
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            return as_rgb(image)
    except _DECODING_ERRORS as error:
        raise UnreadableImageError(name, f"{type(error).__name__}: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB of 8 bits; raises ValueError for floating-point pixels, of unknown range."""
    if image.mode == "F":
        raise ValueError("pixels are floating point; images have 8 or 16 bits per channel")
    if image.mode == "I" or image.mode.startswith("I;"):
        high_HW = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high_HW).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB")
    return image.convert("RGB")


def fingerprint(parts: Iterable[bytes | NDArray[np.generic]]) -> str:
    """SHA-256 in hex over the parts and their lengths, so that moving a boundary changes it."""
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else np.ascontiguousarray(part).data.cast("B")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def cache_folder() -> str:
    """Where fetched data sets are kept: `ablator` under XDG_CACHE_HOME, else under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ablator")
