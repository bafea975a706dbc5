"""A random patch projection that is never trained (MoCo v3, arXiv 2104.02057, section 4; Table 11 here).

Shape legend: B batch, C channels, H W height and width of an image or map.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.strides import pad_to_whole
from ablator.contracts.protocols import Change, Seams, TokenizerSeam


class FrozenPatches(nn.Module):
    """A convolution whose weight is uniform in ±√(6 / (3k² + D)) and whose bias is 0, both without gradient:
    Glorot's bound of a linear layer from a patch of k² pixels to D channels."""

    def __init__(self, projection: nn.Conv2d) -> None:
        """`projection` is a fresh convolution; its weights are drawn again here."""
        super().__init__()
        self.patches = projection
        assert projection.bias is not None
        outputs, inputs, height, width = projection.weight.shape
        bound = math.sqrt(6 / (inputs * height * width + outputs))
        nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.zeros_(projection.bias)
        self.requires_grad_(False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        tokens_BCHW: Tensor = self.patches(image_BCHW)
        return tokens_BCHW


class WholePatches(FrozenPatches):
    """The same on an image that is filled up to whole patches, for backbones whose own tokenizer is no
    convolution (T2T-ViT)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(nn.Conv2d(in_channels, channels, stride, stride))
        self.stride = stride

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        return super().forward(pad_to_whole(image_BCHW, self.stride))


def _frozen(seam: TokenizerSeam) -> FrozenPatches:
    """Patches as the backbone cuts them (PVTv2's overlap), or plain ones where it does not convolve."""
    own = seam.projection
    if not isinstance(own, nn.Conv2d):
        return WholePatches(seam.in_channels, seam.channels, seam.stride)
    kernel, stride, padding = own.kernel_size[0], own.stride[0], own.padding[0]
    assert isinstance(padding, int)
    return FrozenPatches(nn.Conv2d(seam.in_channels, seam.channels, kernel, stride, padding))


def attach_frozen(seams: Seams, settings: TokenizerSettings) -> Change:
    """Replace the patch projection by a random one that stays as it is. Fits every seam."""
    del settings
    seam = seams.tokenizer()
    seam.replace(_frozen(seam))
    return Change(places=(seam.name,))
