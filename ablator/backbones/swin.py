"""Swin Transformer v1: four stages of windows, maps with channels last."""

from __future__ import annotations

from typing import Any

from timm.models.swin_transformer import SwinTransformer
from torch import nn

from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import TimmFamily, check_divisible


class Swin(TimmFamily):
    """The family of `swin_*`; windows that do not divide a map are padded by timm."""

    name = "swin"
    modules = ("swin_transformer",)
    constructor = SwinTransformer

    def check_size(self, model_name: str, model: nn.Module, image_size: int) -> None:
        """SettingError unless the image is cut into whole patches."""
        embed: Any = model.patch_embed
        check_divisible(model_name, image_size, embed.patch_size)

    def seams(self, model: nn.Module, image_size: int) -> BackboneSeams:
        """The patch projection (NCHW, before its LayerNorm), the patch mergings and the blocks (NHWC)."""
        embed: Any = model.patch_embed
        stages: Any = model.layers
        embeddings: list[HookSeam] = [projection_seam(embed, "patch_embed")]
        blocks: list[HookSeam] = []
        for index, stage in enumerate(stages):
            channels = stage.blocks[0].dim
            if index:
                name = f"layers.{index}.downsample"
                embeddings.append(
                    HookSeam(name=name, channels=channels, layout="NHWC", host=stage.downsample)
                )
            for depth, block in enumerate(stage.blocks):
                name = f"layers.{index}.blocks.{depth}"
                blocks.append(HookSeam(name=name, channels=channels, layout="NHWC", host=block))
        return BackboneSeams(
            family=self.name,
            model=model,
            image_size=(image_size, image_size),
            embedding_seams=embeddings,
            block_seams=blocks,
        )


FAMILY = Swin()
