"""Tokens-to-Token ViT (Yuan et al., ICCV 2021, arXiv 2101.11986), built and registered as a model of timm.

Parameters have the names of the authors' checkpoints (yitu-opensource/T2T-ViT), which load strictly. The
sinusoid positions are a parameter without gradient, as there.

Shape legend: B batch, H W height and width of the image or the grid of tokens, N = H·W tokens, D channels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from timm.layers import calculate_drop_path_rates, resample_abs_pos_embed
from timm.models import generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ablator.backbones.class_token import ClassTokenModel, create_registered, untrained_cfg
from ablator.backbones.tokens_to_token import TokensToToken

__all__ = ["T2TViT", "sinusoids"]


def sinusoids(positions: int, dim: int) -> Tensor:
    """Fixed positions (1, positions, dim): sin(p / 10000^(j/dim)) in even channels j, and the cosine of the
    same angle in the channel after each (Vaswani et al., 2017, section 3.5)."""
    channels_D = torch.arange(dim, dtype=torch.float64)
    wavelengths_D = 10000 ** (2 * (channels_D // 2) / dim)
    angles_ND = torch.arange(positions, dtype=torch.float64)[:, None] / wavelengths_D
    return torch.where(channels_D % 2 == 0, angles_ND.sin(), angles_ND.cos()).float().unsqueeze(0)


class T2TViT(ClassTokenModel):
    """A deep and narrow ViT behind `TokensToToken`, with a class token and fixed positions.

    Images have the side `img_size`, a multiple of the product of `strides`. `token_dim`, `kernel_sizes`,
    `strides` and `token_drop_rate` are those of the tokenizer. Raises ValueError for sizes and soft splits
    that do not fit.
    """

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        embed_dim: int = 384,
        depth: int = 14,
        num_heads: int = 6,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = False,
        token_dim: int = 64,
        kernel_sizes: Sequence[int] = (7, 3, 3),
        strides: Sequence[int] = (4, 2, 2),
        token_drop_rate: float = 0.1,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            embed_dim,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        self.embed_dim = embed_dim
        self.tokens_to_token: nn.Module = TokensToToken(
            in_chans,
            embed_dim,
            token_dim=token_dim,
            kernel_sizes=kernel_sizes,
            strides=strides,
            drop=token_drop_rate,
        )
        self.stride = math.prod(strides)
        """Image pixels per token along one axis."""
        self.grid_size = _grid(img_size, strides)
        positions_1ND = sinusoids(math.prod(self.grid_size) + 1, embed_dim)
        self.pos_embed = nn.Parameter(positions_1ND, requires_grad=False)
        self.pos_drop = nn.Dropout(pos_drop_rate)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                proj_drop=proj_drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=rate,
                norm_layer=nn.LayerNorm,
            )
            for rate in calculate_drop_path_rates(drop_path_rate, depth)
        )
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": self.stride, "module": f"blocks.{index}"}
            for index in range(depth)
        ]
        self.norm = nn.LayerNorm(embed_dim)
        self.init_weights()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm orders parameters by depth."""
        return {
            "stem": r"^cls_token|pos_embed|tokens_to_token",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def _embed(self, image_BCHW: Tensor) -> Tensor:
        tokens_BND = self.tokens_to_token(image_BCHW).flatten(2).transpose(1, 2)
        return cast(Tensor, self.pos_drop(self.with_class_token(tokens_BND) + self.pos_embed))

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens (B,1+N,D) of images (B,3,H,W), the class token first."""
        x_BND = self._embed(x)
        for block in self.blocks:
            x_BND = block(x_BND)
        return cast(Tensor, self.norm(x_BND))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """What `forward_features` gives, and the outputs of blocks; the arguments mean what they do in
        timm's `VisionTransformer`. Outputs are maps (B,D,H,W) or, for `output_fmt` NLC, tokens (B,N,D), in
        a pair with the class token (B,1,D) for `return_prefix_tokens`."""
        assert output_fmt in ("NCHW", "NLC"), "output_fmt is NCHW or NLC"
        taken, last = feature_take_indices(len(self.blocks), indices)
        kept: list[Any] = []
        x_BND = self._embed(x)
        for index, block in enumerate(self.blocks):
            if stop_early and index > last:
                break
            x_BND = block(x_BND)
            if index in taken:
                y_BND = self.norm(x_BND) if norm else x_BND
                out = y_BND[:, 1:]
                if output_fmt == "NCHW":
                    out = out.transpose(1, 2).unflatten(2, self.grid_size).contiguous()
                kept.append((out, y_BND[:, :1]) if return_prefix_tokens else out)
        return kept if intermediates_only else (self.norm(x_BND), kept)


def _grid(img_size: int, strides: Sequence[int]) -> tuple[int, int]:
    stride = math.prod(strides)
    if img_size < stride or img_size % stride:
        fits = [size for size in (img_size // stride * stride, -(-img_size // stride) * stride) if size]
        raise ValueError(
            f"the image's side {img_size} is not a multiple of {stride}, the product of strides "
            f"{list(strides)}; nearest image sizes: {' or '.join(str(size) for size in fits)}"
        )
    return img_size // stride, img_size // stride


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: T2TViT) -> dict[str, Tensor]:
    """A checkpoint's tensors with positions of the model's grid; those of another image size are resampled,
    as the authors do for fine-tuning."""
    adapted = dict(state)
    if "pos_embed" in adapted:
        adapted["pos_embed"] = resample_abs_pos_embed(
            adapted["pos_embed"], new_size=model.grid_size, interpolation="bicubic", antialias=False
        )
    return adapted


_CFG = untrained_cfg(first_conv=None, crop_pct=0.9)
default_cfgs = generate_default_cfgs({"t2t_vit_14": _CFG, "t2t_vit_19": _CFG})


_create = functools.partial(create_registered, T2TViT, filter_fn=checkpoint_filter_fn, out_indices=3)


@register_model  # type: ignore[untyped-decorator]
def t2t_vit_14(pretrained: bool = False, **arguments: Any) -> T2TViT:
    """T2T-ViT-14: 21.5M parameters, 4.8G multiply-adds (the repository's model table)."""
    return _create("t2t_vit_14", pretrained, {"embed_dim": 384, "depth": 14, "num_heads": 6, **arguments})


@register_model  # type: ignore[untyped-decorator]
def t2t_vit_19(pretrained: bool = False, **arguments: Any) -> T2TViT:
    """T2T-ViT-19: 39.2M parameters, 8.5G multiply-adds (the repository's model table)."""
    return _create("t2t_vit_19", pretrained, {"embed_dim": 448, "depth": 19, "num_heads": 7, **arguments})
