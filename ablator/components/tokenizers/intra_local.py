"""Several scales and the neighbourhood of each token (arXiv 2212.11115, Table 1, "+intra+local").

The module is not published. The table adds no parameter to "+intra" and 0.4G multiply-adds on DeiT-S. Here
the same kernels run over the whole image, so that the tokens' fields of view overlap, and one step keeps its
map's density, until the result is averaged down to the grid: +0.347G.

Shape legend: B batch, C channels, H W height and width of an image or map.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.intra import pyramid_widths
from ablator.components.tokenizers.strides import convolution_step, halvings, pad_to_whole
from ablator.contracts.protocols import Change, Seams


def dense_step(steps: int) -> int:
    """Which step (from 0) has stride 1: the last but one, for stride 16 the one to 128 channels. (The one
    before would add 0.5G to DeiT-S, the one behind 0.2G.)"""
    return max(0, steps - 2)


class LocalStem(nn.Module):
    """The steps of `PatchStem` over the whole image, one of them with stride 1, then 2×2 means and the 1×1
    convolution."""

    def __init__(self, in_channels: int, channels: int, steps: int) -> None:
        super().__init__()
        self.stride = 2**steps
        self.widths = pyramid_widths(channels, steps)
        self.dense = dense_step(steps)
        sides = pairwise((in_channels, *self.widths))
        self.steps = nn.ModuleList(
            convolution_step(inputs, outputs, 1 if step == self.dense else 2)
            for step, (inputs, outputs) in enumerate(sides)
        )
        self.mean = nn.AvgPool2d(2)
        self.pointwise = nn.Conv2d(self.widths[-1], channels, 1)

    def strides(self) -> tuple[int, ...]:
        """Image pixels per position behind each step, and of the tokens."""
        behind = [2 ** (step + 1 if step < self.dense else step) for step in range(len(self.steps))]
        return (*behind, self.stride)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        x_BCHW = pad_to_whole(image_BCHW, self.stride)
        for step in self.steps:
            x_BCHW = step(x_BCHW)
        tokens_BCHW: Tensor = self.pointwise(self.mean(x_BCHW))
        return tokens_BCHW


def attach_intra_local(seams: Seams, settings: TokenizerSettings) -> Change:
    """Replace the patch projection by an overlapping stem. Raises SeamError where the stride is no power of
    two."""
    seam = seams.tokenizer()
    stem = LocalStem(seam.in_channels, seam.channels, halvings(seams, settings.kind))
    seam.replace(stem)
    note = f"intra, local: widths {stem.widths}, step {stem.dense + 1} dense (inferred from its size)"
    return Change(places=(seam.name,), notes=(note,))
