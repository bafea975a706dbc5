"""CrossFormer's cross-scale embedding (Wang et al., arXiv 2108.00154, section 3.1).

Shape legend: B batch, C channels, H W height and width of an image or map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.strides import pad_to_whole
from ablator.contracts.protocols import Change, Seams
from ablator.errors import SeamError

KERNELS = (1, 2, 4, 8)
"""Sides of the kernels in strides: 4, 8, 16 and 32 pixels at the published stride 4."""
LEAST_CHANNELS = 8


def scale_widths(channels: int) -> tuple[int, ...]:
    """Channels of each kernel, from the smallest to the largest: C/2, C/4, C/8, and what is left (C/8)."""
    first = (channels // 2, channels // 4, channels // 8)
    return (*first, channels - sum(first))


class CrossScale(nn.Module):
    """Convolutions of four sizes around the same centres, concatenated: large ones get few channels, because
    their cost grows with the square of their side."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.scales = nn.ModuleList(
            nn.Conv2d(in_channels, width, factor * stride, stride, (factor - 1) * stride // 2)
            for factor, width in zip(KERNELS, scale_widths(channels), strict=True)
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        image_BCHW = pad_to_whole(image_BCHW, self.stride)
        return torch.cat([scale(image_BCHW) for scale in self.scales], dim=1)


def attach_cross_scale(seams: Seams, settings: TokenizerSettings) -> Change:
    """Replace the patch projection by patches of one, two, four and eight strides. Raises SeamError for odd
    strides, around whose centres a kernel of two strides cannot lie, and for maps that are too narrow."""
    seam = seams.tokenizer()
    if seam.stride % 2:
        raise SeamError(
            f"tokenizer.kind {settings.kind} centres kernels of 1, 2, 4 and 8 strides, and the stride of "
            f"{seam.name} (family {seams.family!r}) is {seam.stride}, which is odd; it can do even ones. "
            "Other strides: frozen and token_learner take any"
        )
    if seam.channels < LEAST_CHANNELS:
        raise SeamError(
            f"tokenizer.kind {settings.kind} gives an eighth of the channels to its largest kernels, and "
            f"{seam.name} (family {seams.family!r}) has {seam.channels}; it needs {LEAST_CHANNELS} or more"
        )
    seam.replace(CrossScale(seam.in_channels, seam.channels, seam.stride))
    return Change(places=(seam.name,))
