"""Pyramid Vision Transformer, version 1: four stages, patches without overlap, a class token in the last."""

from __future__ import annotations

from torch import nn

from ablator.backbones.pvt_model import PyramidVisionTransformer
from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import TimmFamily


class Pvt(TimmFamily):
    """The family of `pvt_tiny`, `pvt_small`, `pvt_medium` and `pvt_large`. Images may not be so small that a
    stage's spatial reduction is larger than its map."""

    name = "pvt"
    modules = ("pvt_model",)
    constructor = PyramidVisionTransformer

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
