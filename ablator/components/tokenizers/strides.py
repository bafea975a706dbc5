"""What the tokenizers share: steps that halve the map, and images that hold whole tokens.

Shape legend: B batch, C channels, H W height and width of an image or map.
"""

from __future__ import annotations

from torch import Tensor, nn

from ablator.contracts.protocols import Seams
from ablator.errors import SeamError


def halvings(seams: Seams, kind: str) -> int:
    """How often a map must be halved to get from image to tokens: the tokenizer's stride is 2 to the power
    of that. Raises SeamError where it is no power of two."""
    seam = seams.tokenizer()
    steps = seam.stride.bit_length() - 1
    if seam.stride < 2 or seam.stride != 2**steps:
        raise SeamError(
            f"tokenizer.kind {kind} halves the map step by step, and the stride of {seam.name} (family "
            f"{seams.family!r}) is {seam.stride}; it can do 2, 4, 8, 16 and 32. Other strides: frozen and "
            "token_learner take any, cross_scale any even one"
        )
    return steps


def pad_to_whole(image_BCHW: Tensor, stride: int) -> Tensor:
    """The image with zeros at its right and lower edge, so that both sides are multiples of `stride`."""
    height, width = image_BCHW.shape[-2:]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return image_BCHW
    return nn.functional.pad(image_BCHW, (0, right, 0, below))


def convolution_step(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution without bias, BatchNorm and ReLU; the side becomes ⌈side / stride⌉."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
