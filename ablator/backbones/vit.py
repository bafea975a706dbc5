"""ViT and DeiT: timm's `VisionTransformer`, one embedding, blocks on token sequences."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import TimmFamily, check_divisible


class ViT(TimmFamily):
    """The family of plain vision transformers (`deit_*`, `vit_*_patch*`), not distilled."""

    name = "vit"
    modules = ("vision_transformer", "deit")
    constructor = VisionTransformer

    def covers(self, model_name: str) -> bool:
        """Whether timm builds `model_name` as a VisionTransformer with a patch projection."""
        # Hybrids with a convolutional trunk carry no patch size in their name; the distilled models have a
        # second head, whose output no task here understands.
        base = model_name.split(".")[0]
        plain = "_patch" in base and "distilled" not in base
        return plain and super().covers(model_name)

    def check_size(self, model_name: str, model: nn.Module, image_size: int) -> None:
        """SettingError unless the image is cut into whole patches."""
        embed: Any = model.patch_embed
        check_divisible(model_name, image_size, embed.patch_size)

    def seams(self, model: nn.Module, image_size: int) -> BackboneSeams:
        """The patch projection (NCHW), and every block (BNC behind the prefix tokens)."""
        embed: Any = model.patch_embed
        blocks: Any = model.blocks
        patch_drop: Any = model.patch_drop
        dropping = not isinstance(patch_drop, nn.Identity)
        return BackboneSeams(
            family=self.name,
            model=model,
            image_size=(image_size, image_size),
            embedding_seams=[projection_seam(embed, "patch_embed")],
            block_seams=[
                HookSeam(
                    name=f"blocks.{index}",
                    channels=int(model.embed_dim),  # type: ignore[arg-type]
                    layout="BNC",
                    host=block,
                    prefix=int(model.num_prefix_tokens),  # type: ignore[arg-type]
                    grid=(embed.grid_size[0], embed.grid_size[1]),
                    reaches_head=index < len(blocks) - 1 or model.global_pool != "token",
                )
                for index, block in enumerate(blocks)
            ],
            no_blocks="model.options.patch_drop_rate removes tokens" if dropping else None,
        )


FAMILY = ViT()
