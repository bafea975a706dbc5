"""ViT and DeiT: timm's `VisionTransformer`, one embedding, blocks on token sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from timm.models import is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ablator.backbones.seams import BackboneSeams, HookSeam, projection_seam
from ablator.backbones.timm_models import check_divisible, create


class ViT:
    """The family of plain vision transformers (`deit_*`, `vit_*_patch*`), not distilled."""

    name = "vit"

    def covers(self, model_name: str) -> bool:
        """Whether timm builds `model_name` as a VisionTransformer with a patch projection."""
        base = model_name.split(".")[0]
        # Hybrids with a convolutional trunk carry no patch size in their name; the distilled models have a
        # second head, whose output no task here understands.
        plain = "_patch" in base and "distilled" not in base
        return plain and bool(is_model_in_modules(base, ["vision_transformer", "deit"]))

    def build(
        self,
        model_name: str,
        *,
        num_classes: int,
        image_size: int,
        drop_path: float,
        options: Mapping[str, Any],
    ) -> nn.Module:
        """A fresh model. Raises SettingError for bad options and image sizes that do not fit."""
        model: Any = create(
            model_name,
            VisionTransformer,
            options,
            num_classes=num_classes,
            img_size=image_size,
            drop_path_rate=drop_path,
        )
        check_divisible(model_name, image_size, model.patch_embed.patch_size)
        return cast(nn.Module, model)

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
