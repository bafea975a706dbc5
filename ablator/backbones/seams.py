"""Seams that every family builds its own from.

A seam runs what was put there in a forward hook of the module it sits behind, and registers it as that
module's child `appended`. So the backbone's parameters keep their state-dict names, copies and pickles
of the model carry their seams along, and every forward of timm (features, intermediates) passes here.

Shape legend: B batch, C channels, H W height and width of a map, N tokens (prefix tokens included).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablator.contracts.protocols import Layout
from ablator.errors import SeamError

_CHILD = "appended"


class Appended(nn.ModuleList):
    """Modules (NCHW to NCHW) that run in order on the output of the module that they are a child of.

    `prefix` tokens at the front of a BNC sequence pass untouched; `grid` is the map's (H, W), or None
    where the host is called with it as its second argument.
    """

    def __init__(self, layout: Layout, *, prefix: int = 0, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.prefix = prefix
        self.grid = grid

    def forward(self, output: Tensor, arguments: tuple[Any, ...]) -> Tensor:
        """The host's output with the appended modules applied, in the same layout and shape."""
        if self.layout == "NCHW":
            return self._chain(output)
        if self.layout == "NHWC":
            return self._chain(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
        height, width = self.grid if self.grid is not None else arguments[1]
        tokens_BNC = output[:, self.prefix :]
        x_BCHW = tokens_BNC.transpose(1, 2).reshape(len(output), -1, height, width)
        tokens_BNC = self._chain(x_BCHW).flatten(2).transpose(1, 2)
        if self.prefix:
            return torch.cat([output[:, : self.prefix], tokens_BNC], dim=1)
        return tokens_BNC.contiguous()

    def _chain(self, x_BCHW: Tensor) -> Tensor:
        for module in self:
            x_BCHW = module(x_BCHW)
        return x_BCHW


def _run_appended(host: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    # The child is looked up on the host it runs for, so that a deep copy (EMA) uses its own.
    appended = host._modules.get(_CHILD)
    return output if appended is None else appended(output, arguments)


def _adopt(host: nn.Module, appended: Appended) -> None:
    host.add_module(_CHILD, appended)
    host.register_forward_hook(_run_appended)


@dataclasses.dataclass(kw_only=True)
class HookSeam:
    """A seam behind one module; see `contracts.protocols.Seam`."""

    name: str
    channels: int
    layout: Layout
    host: nn.Module
    prefix: int = 0
    grid: tuple[int, int] | None = None
    reaches_head: bool = True

    def append(self, module: nn.Module) -> None:
        """Run `module` on the map that passes here, after what was appended before."""
        if _CHILD not in self.host._modules:
            _adopt(self.host, Appended(self.layout, prefix=self.prefix, grid=self.grid))
        appended = self.host._modules[_CHILD]
        assert isinstance(appended, Appended)
        appended.append(module)


@dataclasses.dataclass(kw_only=True)
class ProjectionSeam(HookSeam):
    """The tokenizer's seam, behind the module that makes a map (NCHW) of the image; see
    `contracts.protocols.TokenizerSeam`."""

    holder: nn.Module
    """The module that holds the projection."""
    attribute: str
    """The projection's name there."""
    in_channels: int
    stride: int

    @property
    def projection(self) -> nn.Module:
        """The module that turns images (B,3,H,W) into the map, with what was appended to it."""
        return self.host

    def replace(self, module: nn.Module) -> None:
        """Put `module` there; what was appended stays behind it."""
        appended = self.host._modules.pop(_CHILD, None)
        setattr(self.holder, self.attribute, module)
        self.host = module
        if isinstance(appended, Appended):
            _adopt(module, appended)


def projection_seam(embed: nn.Module, name: str) -> ProjectionSeam:
    """The seam behind `embed.proj`, which must be a convolution with equal strides."""
    conv = embed.proj
    assert isinstance(conv, nn.Conv2d)
    assert conv.stride[0] == conv.stride[1]
    return ProjectionSeam(
        name=f"{name}.proj",
        channels=conv.out_channels,
        layout="NCHW",
        host=conv,
        holder=embed,
        attribute="proj",
        in_channels=conv.in_channels,
        stride=conv.stride[0],
    )


@dataclasses.dataclass(kw_only=True)
class BackboneSeams:
    """Every seam of one model; see `contracts.protocols.Seams`."""

    family: str
    model: nn.Module
    image_size: tuple[int, int]
    embedding_seams: Sequence[HookSeam]
    """In order of depth; the first one is the tokenizer's."""
    block_seams: Sequence[HookSeam]
    no_blocks: str | None = None
    """Why the blocks of this model have no map, where that is so."""

    def tokenizer(self) -> ProjectionSeam:
        """The first embedding."""
        first = self.embedding_seams[0]
        assert isinstance(first, ProjectionSeam)
        return first

    def embeddings(self) -> Sequence[HookSeam]:
        """Outputs of every stage's embedding, the first one included."""
        return self.embedding_seams

    def blocks(self) -> Sequence[HookSeam]:
        """Outputs of the transformer blocks over all stages; SeamError where they carry no map."""
        if self.no_blocks is not None:
            raise SeamError(
                f"family {self.family!r} has no seam behind its blocks here: {self.no_blocks}; "
                f"there is the tokenizer's seam, {self.embedding_seams[0].name}"
            )
        return self.block_seams
