"""Pyramid Vision Transformer v2: four stages, each with an overlapping convolutional embedding."""

from __future__ import annotations

from typing import Any

from timm.models.pvt_v2 import PyramidVisionTransformerV2
from torch import nn

from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import TimmFamily
from ablator.errors import SettingError


class PvtV2(TimmFamily):
    """The family of `pvt_v2_*`."""

    name = "pvt_v2"
    modules = ("pvt_v2",)
    constructor = PyramidVisionTransformerV2
    takes_size = False

    def check_size(self, model_name: str, model: nn.Module, image_size: int) -> None:
        """SettingError for images so small that a stage's spatial reduction is larger than its map."""
        stages: Any = model.stages
        for index, stage in enumerate(stages):
            attention = stage.blocks[0].attn
            reduction = attention.sr.kernel_size[0] if attention.sr is not None else 1
            stride = 4 * 2**index
            side = -(-image_size // stride)
            if side < reduction:
                needed = stride * (reduction - 1) + 1
                raise SettingError(
                    f"data.image_size {image_size} is too small for {model_name}: stage {index + 1} reduces "
                    f"its {side}×{side} map by {reduction}; the least size is {needed} (multiples of 32 fit "
                    "best), or give smaller model.options.sr_ratios"
                )

    def seams(self, model: nn.Module, image_size: int) -> BackboneSeams:
        """The embeddings' convolutions (NCHW, before their LayerNorms), and the blocks (BNC)."""
        embed: Any = model.patch_embed
        stages: Any = model.stages
        embeddings: list[HookSeam] = [projection_seam(embed, "patch_embed")]
        blocks: list[HookSeam] = []
        for index, stage in enumerate(stages):
            if stage.downsample is not None:
                embeddings.append(projection_seam(stage.downsample, f"stages.{index}.downsample"))
            channels = stage.norm.normalized_shape[0]
            for depth, block in enumerate(stage.blocks):
                # The block is told its map's size with every call, so the seam needs no grid of its own.
                name = f"stages.{index}.blocks.{depth}"
                blocks.append(HookSeam(name=name, channels=channels, layout="BNC", host=block))
        return BackboneSeams(
            family=self.name,
            model=model,
            image_size=(image_size, image_size),
            embedding_seams=embeddings,
            block_seams=blocks,
        )


FAMILY = PvtV2()
