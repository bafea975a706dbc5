"""Swin Transformer v1: four stages of windows, maps with channels last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from timm.models import is_model_in_modules
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import check_divisible, create


class Swin:
    """The family of `swin_*`."""

    name = "swin"

    def covers(self, model_name: str) -> bool:
        """Whether timm builds `model_name` as a SwinTransformer (version 1)."""
        return bool(is_model_in_modules(model_name.split(".")[0], ["swin_transformer"]))

    def build(
        self,
        model_name: str,
        *,
        num_classes: int,
        image_size: int,
        drop_path: float,
        options: Mapping[str, Any],
    ) -> nn.Module:
        """A fresh model; windows that do not divide a map are padded by timm. Raises SettingError for bad
        options and image sizes that do not fit."""
        model: Any = create(
            model_name,
            SwinTransformer,
            options,
            num_classes=num_classes,
            img_size=image_size,
            drop_path_rate=drop_path,
        )
        check_divisible(model_name, image_size, model.patch_embed.patch_size)
        return cast(nn.Module, model)

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
