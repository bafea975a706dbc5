"""Tokens-to-Token ViT: a tokenizer of its own, one embedding, blocks on token sequences."""

from __future__ import annotations

from torch import nn

from ablator.backbones.seams import BackboneSeams, HookSeam, ProjectionSeam
from ablator.backbones.t2t_vit_model import T2TViT
from ablator.backbones.timm_models import TimmFamily


class T2T(TimmFamily):
    """The family of `t2t_vit_*`. Images hold whole tokens."""

    name = "t2t_vit"
    modules = ("t2t_vit_model",)
    constructor = T2TViT

    def seams(self, model: nn.Module, image_size: int) -> BackboneSeams:
        """The tokens-to-token module (its map, NCHW), and every block (BNC behind the class token)."""
        assert isinstance(model, T2TViT)
        tokenizer = ProjectionSeam(
            name="tokens_to_token",
            channels=model.embed_dim,
            layout="NCHW",
            host=model.tokens_to_token,
            holder=model,
            attribute="tokens_to_token",
            in_channels=model.in_chans,
            stride=model.stride,
        )
        return BackboneSeams(
            family=self.name,
            model=model,
            image_size=(image_size, image_size),
            embedding_seams=[tokenizer],
            block_seams=[
                HookSeam(
                    name=f"blocks.{index}",
                    channels=model.embed_dim,
                    layout="BNC",
                    host=block,
                    prefix=model.num_prefix_tokens,
                    grid=model.grid_size,
                    reaches_head=index < len(model.blocks) - 1 or model.global_pool != "token",
                )
                for index, block in enumerate(model.blocks)
            ],
        )


FAMILY = T2T()
