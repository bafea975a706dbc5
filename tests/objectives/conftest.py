"""Real images, and a tokenizer of known size.

Shape legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn

from ablator.contracts.protocols import Layout, Seam


@dataclasses.dataclass
class PatchSeam:
    """The tokenizer seam of a patch projection that gives NCHW."""

    projection: nn.Module
    name: str = "proj"
    channels: int = 24
    in_channels: int = 3
    stride: int = 4
    layout: Layout = "NCHW"

    def append(self, module: nn.Module) -> None:
        self.projection = nn.Sequential(self.projection, module)

    def replace(self, module: nn.Module) -> None:
        self.projection = module


@dataclasses.dataclass
class PatchSeams:
    """The seams of a model that is a tokenizer and nothing else."""

    model: nn.Module
    image_size: tuple[int, int]
    seam: PatchSeam
    family: str = "patches"

    def tokenizer(self) -> PatchSeam:
        return self.seam

    def embeddings(self) -> Sequence[Seam]:
        return [self.seam]

    def blocks(self) -> Sequence[Seam]:
        return []


@pytest.fixture
def make_seams():
    def make(image_size: int = 32, channels: int = 24) -> PatchSeams:
        projection = nn.Conv2d(3, channels, 4, 4)
        return PatchSeams(projection, (image_size, image_size), PatchSeam(projection, channels=channels))

    return make


@pytest.fixture(scope="session")
def photos_B3HW() -> Tensor:
    """Two photographs, a temple and a flower, in [0, 1] at 64×64."""
    photos = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    return nn.functional.interpolate(torch.stack(photos).float() / 255, (64, 64), mode="area")


@pytest.fixture(scope="session")
def digits_B3HW() -> Tensor:
    """Ten handwritten digits, 0 to 9, in [0, 1], enlarged to 32×32."""
    grey = torch.from_numpy(load_digits().images[:10]).float()[:, None] / 16
    return nn.functional.interpolate(grey, (32, 32), mode="bilinear").expand(-1, 3, -1, -1)
