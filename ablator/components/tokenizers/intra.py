"""Several scales inside each token (arXiv 2212.11115, Table 1, "+intra").

The module is not published. What the table fixes is its size, +0.2M parameters and +0.1G multiply-adds on
DeiT-S: a stem of 3×3/2 convolutions of 32, 64, 128 and 256 channels with a 1×1 convolution to 384 adds 0.192M
and 0.146G. That it looks at nothing outside its own patch is read from the name, intra-token, and from the
next row, which adds locality without adding parameters.

Shape legend: B batch, C channels, H W height and width of an image, h w of the map of tokens, P patches
(P = B·h·w), s the side of a patch in pixels.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.strides import convolution_step, halvings, pad_to_whole
from ablator.contracts.protocols import Change, Seams


def pyramid_widths(channels: int, steps: int) -> tuple[int, ...]:
    """Channels behind each step: the last has two thirds of the embedding's D (in multiples of 8), every
    earlier one half of the next. D = 384 and four steps: 32, 64, 128, 256."""
    last = max(8, 8 * round(channels / 12))
    return tuple(max(4, last >> (steps - 1 - step)) for step in range(steps))


class PatchStem(nn.Module):
    """A convolutional stem that runs in every patch by itself: zeros lie around each patch, so that a token
    sees its own pixels only, on every scale from the patch to one position."""

    def __init__(self, in_channels: int, channels: int, steps: int) -> None:
        super().__init__()
        self.stride = 2**steps
        self.widths = pyramid_widths(channels, steps)
        self.steps = nn.Sequential(
            *(
                convolution_step(inputs, outputs, 2)
                for inputs, outputs in pairwise((in_channels, *self.widths))
            )
        )
        self.pointwise = nn.Conv2d(self.widths[-1], channels, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        side = self.stride
        image_BCHW = pad_to_whole(image_BCHW, side)
        batch, inputs, height, width = image_BCHW.shape
        grid = (height // side, width // side)
        cells = image_BCHW.reshape(batch, inputs, grid[0], side, grid[1], side)
        patches_PCss = cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, inputs, side, side)
        seen_PC = self.steps(patches_PCss).flatten(1)
        map_BCHW = seen_PC.view(batch, *grid, -1).permute(0, 3, 1, 2)
        tokens_BCHW: Tensor = self.pointwise(map_BCHW)
        return tokens_BCHW


def attach_intra(seams: Seams, settings: TokenizerSettings) -> Change:
    """Replace the patch projection by a stem inside each patch. Raises SeamError where the stride is no
    power of two."""
    seam = seams.tokenizer()
    stem = PatchStem(seam.in_channels, seam.channels, halvings(seams, settings.kind))
    seam.replace(stem)
    note = f"intra: widths {stem.widths} inside patches of {stem.stride} pixels (inferred from its size)"
    return Change(places=(seam.name,), notes=(note,))
