"""Names to families, options to models, seams to places in every family."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ablator.backbones  # noqa: F401  (registers the families)
from ablator.backbones.families import build, family_of
from ablator.backbones.settings import ModelSettings
from ablator.contracts.protocols import Seams
from ablator.errors import SeamError, SettingError, UnknownName
from ablator.registry import FAMILIES

TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("deit_tiny_patch16_224", {"patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 4},
    ),
    "pvt_v2": (
        "pvt_v2_b0",
        {"depths": [1, 1, 2, 1], "embed_dims": [16, 16, 32, 32], "num_heads": [1, 1, 2, 2]},
    ),
    "t2t_vit": (
        "t2t_vit_14",
        {"strides": [2, 2, 1], "token_dim": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    ),
    "pvt": (
        "pvt_small",
        {"depths": [1, 1, 2, 1], "embed_dims": [16, 16, 32, 32], "num_heads": [1, 1, 2, 2]},
    ),
}


def tiny(family: str, image_size: int = 32, **changes: Any) -> tuple[nn.Module, Seams]:
    torch.manual_seed(0)
    name, options = TINY[family]
    settings = ModelSettings(name=name, options={**options, **changes})
    return build(settings, num_classes=5, image_size=image_size)


class Record(nn.Module):
    """Passes a map on and remembers it."""

    seen: Tensor

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.seen = x_BCHW
        return x_BCHW


def test_every_family_has_a_tiny_model_here() -> None:
    assert set(TINY) == set(FAMILIES.names())


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("deit_small_patch16_224", "vit"),
        ("deit_small_patch16_224.fb_in1k", "vit"),
        ("deit3_base_patch16_224", "vit"),
        ("vit_tiny_patch16_224", "vit"),
        ("vit_base_patch14_dinov2", "vit"),
        ("swin_small_patch4_window7_224", "swin"),
        ("pvt_v2_b2", "pvt_v2"),
        ("pvt_v2_b2_li", "pvt_v2"),
        ("t2t_vit_19", "t2t_vit"),
        ("pvt_medium", "pvt"),
    ],
)
def test_names_find_their_family(name: str, family: str) -> None:
    assert family_of(name).name == family


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deit_smal_patch16_224", "unknown.*vit, swin, pvt_v2.*deit_small_patch16_224"),
        ("swin_tiny", "unknown.*swin_tiny_patch4_window7_224"),
        ("resnet50", "exists in timm but has no seams.*vit, swin, pvt_v2"),
        ("deit_small_distilled_patch16_224", "no seams"),
        ("swinv2_tiny_window8_256", "no seams"),
        ("vit_tiny_r_s16_p8_224", "no seams"),
        ("t2t_vit_t_14", "unknown.*t2t_vit, pvt.*t2t_vit_14"),
    ],
)
def test_names_without_a_family_are_explained(name: str, says: str) -> None:
    with pytest.raises(UnknownName, match=says):
        family_of(name)


@pytest.mark.parametrize("family", FAMILIES.names())
@pytest.mark.parametrize("image_size", [32, 48])
def test_seams_see_the_maps_that_pass(family: str, image_size: int) -> None:
    model, seams = tiny(family, image_size)
    model.eval()
    images_BCHW = torch.randn(2, 3, image_size, image_size)
    before = model(images_BCHW)
    tokenizer = seams.tokenizer()
    assert (seams.family, seams.image_size) == (family, (image_size, image_size))
    assert (tokenizer.in_channels, tokenizer.stride, tokenizer.layout) == (3, 4, "NCHW")
    assert seams.embeddings()[0].name == tokenizer.name
    everywhere = {seam.name: seam for seam in (*seams.embeddings(), *seams.blocks())}
    recorders = {name: Record() for name in everywhere}
    for name, seam in everywhere.items():
        seam.append(recorders[name])
    assert torch.equal(model(images_BCHW), before)
    for name, seam in everywhere.items():
        batch, channels, height, width = recorders[name].seen.shape
        assert (batch, channels) == (2, seam.channels)
        assert height == width
    assert recorders[tokenizer.name].seen.shape[-1] == image_size // tokenizer.stride


@pytest.mark.parametrize("family", FAMILIES.names())
def test_block_seams_carry_what_timm_calls_intermediates(family: str) -> None:
    model, seams = tiny(family, 64)
    model.eval()
    recorder = Record()
    seams.blocks()[-1].append(recorder)
    _, maps = model.forward_intermediates(torch.randn(2, 3, 64, 64))  # type: ignore[operator]
    last_BCHW = recorder.seen
    if family == "pvt_v2":  # its stages end in a norm
        last_BCHW = model.stages[-1].norm(last_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore
    torch.testing.assert_close(last_BCHW, maps[-1])


@pytest.mark.parametrize("family", FAMILIES.names())
def test_what_is_appended_runs_in_order_at_the_right_place(family: str) -> None:
    model, seams = tiny(family)
    model.eval()
    images_BCHW = torch.randn(1, 3, 32, 32)
    plain_BCHW = seams.tokenizer().projection(images_BCHW)
    first, second = Record(), Record()
    seams.tokenizer().append(first)
    seams.tokenizer().append(nn.Hardtanh(-0.1, 0.1))
    family_of(TINY[family][0]).seams(model, 32).tokenizer().append(second)  # seams made anew know the old
    model(images_BCHW)
    assert torch.equal(first.seen, plain_BCHW)
    assert torch.equal(second.seen, plain_BCHW.clamp(-0.1, 0.1))


@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_replaced_projection_keeps_what_was_appended(family: str) -> None:
    model, seams = tiny(family)
    tokenizer = seams.tokenizer()
    recorder = Record()
    tokenizer.append(recorder)
    projection = nn.Conv2d(3, tokenizer.channels, 4, 4)
    tokenizer.replace(projection)
    assert tokenizer.projection is projection
    images_BCHW = torch.randn(1, 3, 32, 32)
    model(images_BCHW)
    assert torch.equal(recorder.seen, projection(images_BCHW))
    assert not [name for name in model.state_dict() if ".proj.0" in name]


def test_prefix_tokens_pass_untouched() -> None:
    model, seams = tiny("vit", reg_tokens=2)
    seams.blocks()[0].append(nn.Threshold(1e9, 0.0))
    block = model.blocks[0]  # type: ignore[index]
    tokens_BNC = torch.randn(2, 3 + 64, 32)
    out_BNC = block(tokens_BNC)
    assert out_BNC[:, :3].abs().min() > 0
    assert not out_BNC[:, 3:].any()


def test_only_a_class_tokens_last_block_is_out_of_the_heads_reach() -> None:
    assert [seam.reaches_head for seam in tiny("vit")[1].blocks()] == [True, True, False]
    averaging = tiny("vit", global_pool="avg")[1]
    assert all(seam.reaches_head for seam in averaging.blocks())
    for family in ("t2t_vit", "pvt"):
        reaching = [seam.reaches_head for seam in tiny(family)[1].blocks()]
        assert reaching == [True] * (len(reaching) - 1) + [False]
        assert all(seam.reaches_head for seam in tiny(family, global_pool="avg")[1].blocks())


@pytest.mark.parametrize("family", FAMILIES.names())
def test_builds_on_the_meta_device(family: str) -> None:
    with torch.device("meta"):
        model, seams = tiny(family)
        for seam in seams.blocks():
            seam.append(nn.Conv2d(seam.channels, seam.channels, 1))
        assert model(torch.empty(1, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize("family", FAMILIES.names())
def test_the_same_seed_gives_the_same_weights_and_drop_path_is_passed(family: str) -> None:
    first, second = tiny(family)[0].state_dict(), tiny(family)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    name, options = TINY[family]
    model, _ = build(ModelSettings(name=name, drop_path=0.3, options=options), num_classes=5, image_size=32)
    rates = [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("family", "options", "says"),
    [
        ("vit", {"embed_dims": 64}, r"model\.options\.embed_dims.*did you mean 'embed_dim'"),
        ("pvt_v2", {"patch_size": 4}, r"model\.options\.patch_size"),
        ("swin", {"img_size": 32}, r"model\.options\.img_size.*data\.image_size"),
        ("vit", {"num_classes": 3}, r"model\.options\.num_classes"),
        ("vit", {"num_heads": 5}, r"model\.options\.num_heads=5"),
        ("vit", {"depth": "three"}, r"model\.options\.depth='three'"),
        ("vit", {"embed_dim": -4}, r"model\.options\.embed_dim=-4"),
        ("swin", {"depths": 3}, r"model\.options\.depths=3"),
        ("vit", {"patch_size": 0}, r"model\.options\.patch_size=0"),
        ("vit", {"patch_size": [4, 8]}, r"patch_size must be a square"),
        ("t2t_vit", {"stride": 2}, r"model\.options\.stride.*did you mean 'strides'"),
        ("t2t_vit", {"strides": [2, 2]}, r"strides have three numbers each"),
        ("t2t_vit", {"strides": [8, 1, 1]}, r"stride lies between 1 and its kernel, 7, not 8"),
        ("t2t_vit", {"kernel_sizes": [7, 3, 2]}, r"stride 1 needs an odd kernel, not 2"),
        ("t2t_vit", {"global_pool": "max"}, r"global_pool is token, avg or empty, not 'max'"),
        ("pvt", {"depths": [1, 1]}, r"depths 2, num_heads 4"),
        ("pvt", {"sr_ratios": [8, 4, 2, 2]}, r"the last of sr_ratios is 1, not 2"),
        ("pvt", {"patch_sizes": [4, 2, 0, 2]}, r"model\.options\.patch_sizes"),
    ],
)
def test_bad_options_are_named(family: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        tiny(family, **options)


@pytest.mark.parametrize(
    ("family", "size", "says"),
    [
        ("vit", 30, "30 is not a multiple of the patch size 4.*28 or 32.*2, 3, 5"),
        ("swin", 34, "32 or 36"),
        ("vit", 3, "nearest image sizes: 4"),
        ("pvt_v2", 24, "too small.*least size is 29"),
        ("t2t_vit", 34, "34 is not a multiple of 4.*32 or 36"),
        ("pvt", 28, "28 is too small: stage 1 reduces its 7×7 map by 8; the least side is 32"),
    ],
)
def test_image_sizes_that_do_not_fit_are_refused(family: str, size: int, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        tiny(family, size)


@pytest.mark.parametrize(("family", "size"), [("pvt_v2", 29), ("pvt", 32)])
def test_the_least_size_named_is_enough(family: str, size: int) -> None:
    model, _ = tiny(family, size)
    assert model(torch.zeros(1, 3, size, size)).shape == (1, 5)


def test_blocks_without_a_map_have_no_seam() -> None:
    _, seams = tiny("vit", patch_drop_rate=0.5)
    with pytest.raises(SeamError, match="patch_drop_rate"):
        seams.blocks()
    assert seams.tokenizer().name == "patch_embed.proj"


def test_registering_loads_no_torch() -> None:
    code = "import sys, ablator.backbones, ablator.components; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
