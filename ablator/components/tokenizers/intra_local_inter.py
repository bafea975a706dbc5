"""Scales, neighbourhood and the whole image (arXiv 2212.11115, Table 1, "+intra+local+inter").

The module is not published. The table adds 3.4M parameters and 1.8G multiply-adds to "+intra+local" on
DeiT-S. Two transformer blocks on the tokens would cost 3.5M and 0.8G; the ratio asks for attention on denser
maps as well. Here each of the last maps (128 channels at stride 4, 256 at stride 8, and the tokens) is
followed by one block of PVTv2 (Wang et al., arXiv 2106.13797): attention to a spatially reduced map, and a
depthwise convolution in its MLP, which tells positions apart before there are position embeddings. +3.32M,
+1.80G.

Shape legend: B batch, C channels, H W height and width of an image or map, N = H·W.
"""

from __future__ import annotations

from timm.models.pvt_v2 import Block
from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.intra_local import LocalStem
from ablator.components.tokenizers.strides import halvings, pad_to_whole
from ablator.contracts.protocols import Change, Seams
from ablator.errors import SettingError

HEAD_WIDTH = 64
"""Channels of an attention head, where the map has as many."""
FINEST_STRIDE = 4
"""Image pixels per position of the densest map that gets a block; attention from denser ones costs more than
the backbone."""


def head_count(channels: int) -> int:
    """Heads of about `HEAD_WIDTH` channels that divide `channels`."""
    wanted = max(1, channels // HEAD_WIDTH)
    return next(heads for heads in range(wanted, 0, -1) if channels % heads == 0)


class GlobalBlock(nn.Module):
    """PVTv2's block on a map: every position sees every part of it, in keys and values of `reduction`²
    positions each."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.reduction = reduction
        self.block = Block(channels, head_count(channels), sr_ratio=reduction, qkv_bias=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map, same shape."""
        x_BNC = x_BCHW.flatten(2).transpose(1, 2)
        out_BNC: Tensor = self.block(x_BNC, list(x_BCHW.shape[2:]))
        return out_BNC.transpose(1, 2).reshape(x_BCHW.shape)


class GlobalStem(LocalStem):
    """`LocalStem` with a `GlobalBlock` behind the tokens, and behind each step from the dense one on whose
    positions are `FINEST_STRIDE` pixels apart or more."""

    def __init__(self, in_channels: int, channels: int, steps: int, context_stride: int) -> None:
        super().__init__(in_channels, channels, steps)
        *behind, tokens = self.strides()
        self.context = nn.ModuleDict(
            {
                str(step): GlobalBlock(self.widths[step], max(1, context_stride // stride))
                for step, stride in enumerate(behind)
                if step >= self.dense and stride >= FINEST_STRIDE
            }
        )
        self.context["tokens"] = GlobalBlock(channels, max(1, context_stride // tokens))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens."""
        x_BCHW = pad_to_whole(image_BCHW, self.stride)
        for index, step in enumerate(self.steps):
            x_BCHW = step(x_BCHW)
            if str(index) in self.context:
                x_BCHW = self.context[str(index)](x_BCHW)
        tokens_BCHW: Tensor = self.context["tokens"](self.pointwise(self.mean(x_BCHW)))
        return tokens_BCHW


def attach_intra_local_inter(seams: Seams, settings: TokenizerSettings) -> Change:
    """Replace the patch projection by an overlapping stem with global context.

    Raises SeamError where the stride is no power of two, and SettingError where `context_stride` leaves no
    key in the image.
    """
    seam = seams.tokenizer()
    steps = halvings(seams, settings.kind)
    if settings.context_stride > min(seams.image_size):
        raise SettingError(
            f"tokenizer.context_stride {settings.context_stride} leaves no key in images of "
            f"{min(seams.image_size)} pixels at {seam.name} (family {seams.family!r}); give at most that"
        )
    stem = GlobalStem(seam.in_channels, seam.channels, steps, settings.context_stride)
    seam.replace(stem)
    note = (
        f"intra, local, inter: widths {stem.widths}, step {stem.dense + 1} dense, {len(stem.context)} blocks "
        f"with keys every {max(settings.context_stride, seam.stride)} pixels (inferred from its size)"
    )
    return Change(places=(seam.name,), notes=(note,))
