"""Backbone families and their seams: one file per family, models from timm or registered with it."""

from ablator.registry import FAMILIES

FAMILIES.add("vit", "ablator.backbones.vit:FAMILY", summary="ViT and DeiT (plain, one embedding)")
FAMILIES.add("swin", "ablator.backbones.swin:FAMILY", summary="Swin Transformer v1 (four stages)")
FAMILIES.add(
    "pvt_v2", "ablator.backbones.pvt_v2:FAMILY", summary="Pyramid Vision Transformer v2 (four stages)"
)
FAMILIES.add("t2t_vit", "ablator.backbones.t2t_vit:FAMILY", summary="Tokens-to-Token ViT (one embedding)")
FAMILIES.add("pvt", "ablator.backbones.pvt:FAMILY", summary="Pyramid Vision Transformer v1 (four stages)")
