"""Plain normalisations of the tokenizer's output (arXiv 2212.11115, Table 6).

Shape legend: B batch, C channels, H W height and width of a map.
"""

from __future__ import annotations

from torch import Tensor, nn

from ablator.components.settings import NormSettings
from ablator.contracts.protocols import Change, Seams


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of every position of a map."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The normalised map, same shape."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def make_norm(settings: NormSettings, channels: int) -> nn.Module:
    """The normalisation of a map with `channels` channels; all kinds have a learned scale and shift."""
    if settings.kind == "layer":
        return ChannelLayerNorm(channels)
    if settings.kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=True)


def attach_norm(seams: Seams, settings: NormSettings) -> Change:
    """Normalise the map behind the patch projection."""
    seam = seams.tokenizer()
    seam.append(make_norm(settings, seam.channels))
    return Change(places=(seam.name,))
