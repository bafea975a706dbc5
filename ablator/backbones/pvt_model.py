"""Pyramid Vision Transformer, version 1 (Wang et al., ICCV 2021, arXiv 2102.12122), built and registered as a
model of timm.

Parameters have the names of the authors' checkpoints (whai362/PVT, classification), which load strictly. The
attention, whose keys and values come from a map reduced by a strided convolution (section 3.3), is the one
that timm has for version 2.

Shape legend: B batch, C channels of a stage, H W height and width of its map, N = H·W tokens (and the class
token in the last stage).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from timm.layers import DropPath, Mlp, calculate_drop_path_rates, resample_abs_pos_embed, trunc_normal_
from timm.models import generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.models.pvt_v2 import Attention
from torch import Tensor, nn

from ablator.backbones.class_token import ClassTokenModel, create_registered, untrained_cfg

__all__ = ["Block", "PatchEmbed", "PyramidVisionTransformer"]

EPS = 1e-6
"""Of the blocks' and the last LayerNorm; those behind the embeddings and the reductions keep torch's 1e-5."""

RESAMPLING: dict[str, Any] = {"interpolation": "bilinear", "antialias": False}
"""Of positions, for images of another size."""


class PatchEmbed(nn.Module):
    """A stage's embedding: patches without overlap, projected and normalised."""

    def __init__(self, in_chans: int, channels: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, channels, patch_size, patch_size)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B,N,C) of a map or an image, and the new map's (H, W)."""
        x_BCHW = self.proj(x_BCHW)
        return self.norm(x_BCHW.flatten(2).transpose(1, 2)), (x_BCHW.shape[-2], x_BCHW.shape[-1])


class Block(nn.Module):
    """A pre-normalised transformer block with spatial-reduction attention."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        sr_ratio: int,
        qkv_bias: bool,
        drop_path: float,
        proj_drop: float,
        attn_drop: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=EPS)
        self.attn = Attention(
            channels,
            num_heads,
            sr_ratio=sr_ratio,
            qkv_bias=qkv_bias,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(channels, eps=EPS)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop=proj_drop)

    def forward(self, x_BNC: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B,N,C) of a map of `size` (H, W)."""
        x_BNC = x_BNC + self.drop_path(self.attn(self.norm1(x_BNC), size))
        return cast(Tensor, x_BNC + self.drop_path(self.mlp(self.norm2(x_BNC))))


class PyramidVisionTransformer(ClassTokenModel):
    """Stages of blocks on maps that shrink, each with an embedding and learned positions; the class token
    joins in the last one.

    Sequences hold one number per stage. A side that a patch size does not divide loses its last pixels, and
    images of another size than `img_size` get resampled positions, both as in the authors' code. Raises
    ValueError for stages that do not fit each other or the image.
    """

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        patch_sizes: Sequence[int] = (4, 2, 2, 2),
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (3, 4, 6, 3),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            embed_dims[-1],
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        per_stage = {
            "patch_sizes": patch_sizes,
            "embed_dims": embed_dims,
            "depths": depths,
            "num_heads": num_heads,
            "mlp_ratios": mlp_ratios,
            "sr_ratios": sr_ratios,
        }
        strides = _check_stages(img_size, per_stage)
        self.num_stages = len(depths)
        self.grid_sizes = [(img_size // stride, img_size // stride) for stride in strides]
        self.feature_info = []
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        for index, channels in enumerate(embed_dims):
            before = embed_dims[index - 1] if index else in_chans
            blocks = [
                Block(
                    channels,
                    num_heads[index],
                    mlp_ratio=mlp_ratios[index],
                    sr_ratio=sr_ratios[index],
                    qkv_bias=qkv_bias,
                    drop_path=rate,
                    proj_drop=proj_drop_rate,
                    attn_drop=attn_drop_rate,
                )
                for rate in rates[index]
            ]
            self._add_stage(index, PatchEmbed(before, channels, patch_sizes[index]), blocks)
            info = {"num_chs": channels, "reduction": strides[index], "module": f"block{index + 1}"}
            self.feature_info.append(info)
        self.pos_drop = nn.Dropout(pos_drop_rate)
        self.norm = nn.LayerNorm(embed_dims[-1], eps=EPS)
        self.init_weights()

    def _add_stage(self, index: int, embed: PatchEmbed, blocks: Sequence[Block]) -> None:
        tokens = math.prod(self.grid_sizes[index]) + self.prefix(index)
        positions_1NC = torch.empty(1, tokens, embed.proj.out_channels)
        self.add_module(f"patch_embed{index + 1}", embed)
        self.register_parameter(f"pos_embed{index + 1}", nn.Parameter(trunc_normal_(positions_1NC, std=0.02)))
        self.add_module(f"block{index + 1}", nn.ModuleList(blocks))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm orders parameters by depth."""
        return {
            "stem": r"^(?:patch_embed1\.|pos_embed1$)",
            "blocks": [
                (r"^(?:patch_embed|pos_embed)(\d+)", (0,)),
                (r"^cls_token", (self.num_stages, 0)),
                (r"^block(\d+)\." if coarse else r"^block(\d+)\.(\d+)", None),
                (r"^norm", (99999,)),
            ],
        }

    def stage(self, index: int) -> tuple[PatchEmbed, Sequence[Block]]:
        """The embedding and the blocks of a stage, counted from 0."""
        embed: Any = getattr(self, f"patch_embed{index + 1}")
        blocks: Any = getattr(self, f"block{index + 1}")
        return embed, blocks

    def prefix(self, index: int) -> int:
        """Class tokens in a stage."""
        return self.num_prefix_tokens if index == self.num_stages - 1 else 0

    def _run_stage(self, index: int, x_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens behind a stage's last block, the class token first in the last stage, and (H, W)."""
        embed, blocks = self.stage(index)
        x_BNC, size = embed(x_BCHW)
        prefix = self.prefix(index)
        if prefix:
            x_BNC = self.with_class_token(x_BNC)
        positions_1NC = resample_abs_pos_embed(
            getattr(self, f"pos_embed{index + 1}"),
            new_size=size,
            old_size=self.grid_sizes[index],
            num_prefix_tokens=prefix,
            **RESAMPLING,
        )
        x_BNC = self.pos_drop(x_BNC + positions_1NC)
        for block in blocks:
            x_BNC = block(x_BNC, size)
        return x_BNC, size

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens (B,1+N,C) of the last stage for images (B,3,H,W), the class token first."""
        return cast(Tensor, self.forward_intermediates(x, indices=1)[0])

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """What `forward_features` gives, and the stages' maps (B,C,H,W); the arguments mean what they do in
        timm's `PyramidVisionTransformerV2`. `norm` normalises the last stage's map, the only one that the
        model has a norm for."""
        assert output_fmt == "NCHW", "output_fmt is NCHW"
        taken, last = feature_take_indices(self.num_stages, indices)
        kept: list[Tensor] = []
        x_BNC, map_BCHW = x, x
        for index in range(last + 1 if stop_early else self.num_stages):
            x_BNC, size = self._run_stage(index, map_BCHW)
            prefix = self.prefix(index)
            y_BNC = self.norm(x_BNC) if norm and prefix else x_BNC
            map_BCHW = y_BNC[:, prefix:].transpose(1, 2).unflatten(2, size)
            if index in taken:
                kept.append(map_BCHW.contiguous())
        if intermediates_only:
            return kept
        return self.norm(x_BNC), kept


def _check_stages(img_size: int, per_stage: dict[str, Sequence[Any]]) -> list[int]:
    """The stages' strides in image pixels; ValueError where stages do not fit."""
    lengths = {name: len(values) for name, values in per_stage.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"every stage needs one number of each, and there are: {found}")
    reductions = per_stage["sr_ratios"]
    if reductions[-1] != 1:
        raise ValueError(
            f"the last stage has a class token, whose tokens are no map to reduce: the last of sr_ratios is "
            f"1, not {reductions[-1]}"
        )
    strides = list(accumulate(per_stage["patch_sizes"], lambda a, b: a * b))
    for index, (stride, reduction) in enumerate(zip(strides, reductions, strict=True)):
        side = img_size // stride
        if side < reduction:
            raise ValueError(
                f"the image's side {img_size} is too small: stage {index + 1} reduces its {side}×{side} map "
                f"by {reduction}; the least side is {stride * reduction}, or give smaller sr_ratios or "
                "patch_sizes"
            )
    return strides


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: PyramidVisionTransformer) -> dict[str, Tensor]:
    """A checkpoint's tensors with positions of the model's grids; those of another image size are
    resampled."""
    adapted = dict(state)
    for index, grid in enumerate(model.grid_sizes):
        name = f"pos_embed{index + 1}"
        if name in adapted:
            adapted[name] = resample_abs_pos_embed(
                adapted[name], new_size=grid, num_prefix_tokens=model.prefix(index), **RESAMPLING
            )
    return adapted


_CFG = untrained_cfg(first_conv="patch_embed1.proj", crop_pct=0.875)
default_cfgs = generate_default_cfgs(
    {"pvt_tiny": _CFG, "pvt_small": _CFG, "pvt_medium": _CFG, "pvt_large": _CFG}
)


_create = functools.partial(
    create_registered, PyramidVisionTransformer, filter_fn=checkpoint_filter_fn, out_indices=(0, 1, 2, 3)
)


@register_model  # type: ignore[untyped-decorator]
def pvt_tiny(pretrained: bool = False, **arguments: Any) -> PyramidVisionTransformer:
    """PVT-Tiny: 13.2M parameters, 1.9G multiply-adds (arXiv 2102.12122, Table 2)."""
    return _create("pvt_tiny", pretrained, {"depths": (2, 2, 2, 2), **arguments})


@register_model  # type: ignore[untyped-decorator]
def pvt_small(pretrained: bool = False, **arguments: Any) -> PyramidVisionTransformer:
    """PVT-Small: 24.5M parameters, 3.8G multiply-adds (arXiv 2102.12122, Table 2)."""
    return _create("pvt_small", pretrained, {"depths": (3, 4, 6, 3), **arguments})


@register_model  # type: ignore[untyped-decorator]
def pvt_medium(pretrained: bool = False, **arguments: Any) -> PyramidVisionTransformer:
    """PVT-Medium: 44.2M parameters, 6.7G multiply-adds (arXiv 2102.12122, Table 2)."""
    return _create("pvt_medium", pretrained, {"depths": (3, 4, 18, 3), **arguments})


@register_model  # type: ignore[untyped-decorator]
def pvt_large(pretrained: bool = False, **arguments: Any) -> PyramidVisionTransformer:
    """PVT-Large: 61.4M parameters, 9.8G multiply-adds (arXiv 2102.12122, Table 2)."""
    return _create("pvt_large", pretrained, {"depths": (3, 8, 27, 3), **arguments})
