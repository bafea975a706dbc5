"""Pyramid Vision Transformer, version 1: four stages, patches without overlap, a class token in the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import is_model_in_modules
from torch import nn

from ablator.backbones.pvt_model import PyramidVisionTransformer
from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import create


class Pvt:
    """The family of `pvt_tiny`, `pvt_small`, `pvt_medium` and `pvt_large`."""

    name = "pvt"

    def covers(self, model_name: str) -> bool:
        """Whether `model_name` is a PyramidVisionTransformer (version 1)."""
        return bool(is_model_in_modules(model_name.split(".")[0], ["pvt_model"]))

    def build(
        self,
        model_name: str,
        *,
        num_classes: int,
        image_size: int,
        drop_path: float,
        options: Mapping[str, Any],
    ) -> nn.Module:
        """A fresh model. Raises SettingError for bad options and for images so small that a stage's
        spatial reduction is larger than its map."""
        return create(
            model_name,
            PyramidVisionTransformer,
            options,
            num_classes=num_classes,
            img_size=image_size,
            drop_path_rate=drop_path,
        )

    def seams(self, model: nn.Module, image_size: int) -> BackboneSeams:
        """The embeddings' convolutions (NCHW, before their LayerNorms), and the blocks (BNC; in the last
        stage behind the class token)."""
        assert isinstance(model, PyramidVisionTransformer)
        embeddings: list[HookSeam] = []
        blocks: list[HookSeam] = []
        for index in range(model.num_stages):
            embed, stage_blocks = model.stage(index)
            seam = projection_seam(embed, f"patch_embed{index + 1}")
            embeddings.append(seam)
            for depth, block in enumerate(stage_blocks):
                # The block is told its map's size with every call, so the seam needs no grid of its own.
                blocks.append(
                    HookSeam(
                        name=f"block{index + 1}.{depth}",
                        channels=seam.channels,
                        layout="BNC",
                        host=block,
                        prefix=model.prefix(index),
                    )
                )
        blocks[-1].reaches_head = model.global_pool != "token"
        return BackboneSeams(
            family=self.name,
            model=model,
            image_size=(image_size, image_size),
            embedding_seams=embeddings,
            block_seams=blocks,
        )


FAMILY = Pvt()
