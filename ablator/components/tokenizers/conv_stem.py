"""The convolutional stem of DeiT_C (Xiao et al., arXiv 2106.14881, section 3 and Table 4; Table 11 here).

Shape legend: B batch, C channels, H W height and width of an image or map.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.strides import convolution_step, halvings
from ablator.contracts.protocols import Change, Seams


def stem_widths(channels: int, steps: int) -> tuple[int, ...]:
    """Channels behind each step: the last has the embedding's D, every earlier one half of the next. Four
    steps (stride 16) give the published D/8, D/4, D/2, D; two (stride 4) give D/2, D."""
    return tuple(max(1, channels >> (steps - 1 - step)) for step in range(steps))


class ConvStem(nn.Module):
    """Stacked 3×3/2 convolutions, each with BatchNorm and ReLU, and a 1×1 convolution with bias."""

    def __init__(self, in_channels: int, channels: int, steps: int) -> None:
        super().__init__()
        self.widths = stem_widths(channels, steps)
        self.steps = nn.Sequential(
            *(
                convolution_step(inputs, outputs, 2)
                for inputs, outputs in pairwise((in_channels, *self.widths))
            )
        )
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        tokens_BCHW: Tensor = self.pointwise(self.steps(image_BCHW))
        return tokens_BCHW


def attach_conv_stem(seams: Seams, settings: TokenizerSettings) -> Change:
    """Replace the patch projection by a convolutional stem.

    DeiT_C also has one transformer block fewer, so that its cost stays that of DeiT. That is the study's to
    say, with model.options.depth. Raises SeamError where the stride is no power of two.
    """
    seam = seams.tokenizer()
    stem = ConvStem(seam.in_channels, seam.channels, halvings(seams, settings.kind))
    seam.replace(stem)
    return Change(places=(seam.name,), notes=(f"convolutional stem: widths {stem.widths}",))
