"""Tokenizers: what each sees, what it weighs, and how it gets on with what lies behind it.

Shape legend: B batch, C channels, H W height and width of an image or map, S learned tokens, N positions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from ablator.backbones.families import build
from ablator.backbones.settings import ModelSettings
from ablator.components.moto import MoTo, attach_moto
from ablator.components.norm import attach_norm
from ablator.components.settings import MoToSettings, NormSettings, TokenizerSettings
from ablator.components.tokenizers.attach import KINDS, attach_tokenizer
from ablator.components.tokenizers.conv_stem import stem_widths
from ablator.components.tokenizers.cross_scale import CrossScale, scale_widths
from ablator.components.tokenizers.frozen import FrozenPatches
from ablator.components.tokenizers.intra import PatchStem, pyramid_widths
from ablator.components.tokenizers.intra_local import LocalStem
from ablator.components.tokenizers.intra_local_inter import GlobalStem, head_count
from ablator.components.tokenizers.token_learner import ConvolutionalLearner, MLPLearner, TokenContext
from ablator.contracts.protocols import Seams
from ablator.errors import SeamError, SettingError
from ablator.registry import FAMILIES

Tiny = Callable[..., tuple[nn.Module, Seams]]


def settings(kind: str, **changes: Any) -> TokenizerSettings:
    return TokenizerSettings(kind=kind, **changes)  # type: ignore[arg-type]


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_every_kind_that_a_study_can_name_is_there() -> None:
    assert set(KINDS) == set(get_args(get_type_hints(TokenizerSettings)["kind"]))


# ---- places


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_kind_keeps_the_grid_of_every_family_and_trains(tiny: Tiny, family: str, kind: str) -> None:
    baseline, seams = tiny(family)
    grid = seams.tokenizer().projection(images()).shape
    model, seams = tiny(family)
    change = attach_tokenizer(seams, settings(kind))
    seam = seams.tokenizer()
    assert change.places == (seam.name,)
    assert seam.projection(images()).shape == grid
    output = model(images())
    assert output.shape == baseline(images()).shape
    output.square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    if kind != "token_learner":  # which stands behind the backbone's own projection
        assert all(p.requires_grad == (kind != "frozen") for p in seam.projection.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_sides_that_hold_no_whole_tokens_get_the_grid_of_the_backbone(tiny: Tiny, kind: str) -> None:
    odd_BCHW = torch.randn(2, 3, 70, 62)
    _, seams = tiny("pvt_v2")
    grid = seams.tokenizer().projection(odd_BCHW).shape
    attach_tokenizer(seams, settings(kind))
    assert seams.tokenizer().projection(odd_BCHW).shape == grid


@pytest.mark.parametrize("kind", KINDS)
def test_moto_and_norms_act_behind_the_new_tokenizer(tiny: Tiny, kind: str) -> None:
    model, seams = tiny("vit")
    attach_tokenizer(seams, settings(kind))
    model.eval()
    plain_BCHW = seams.tokenizer().projection(images())
    before = model(images())
    attach_moto(seams, MoToSettings(n=2))
    assert torch.equal(model(images()), before), "ρ = 0"
    attach_norm(seams, NormSettings(kind="layer"))
    normed = nn.functional.layer_norm(plain_BCHW.permute(0, 2, 3, 1), plain_BCHW.shape[1:2])
    torch.testing.assert_close(seams.tokenizer().projection(images()), normed.permute(0, 3, 1, 2))
    assert any(isinstance(module, MoTo) for module in seams.tokenizer().projection.modules())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "token_learner"])
def test_a_stem_of_moto_and_a_replaced_tokenizer_want_the_same_place(tiny: Tiny, kind: str) -> None:
    _, seams = tiny("vit")
    attach_tokenizer(seams, settings(kind))
    with pytest.raises(
        SeamError, match=r"moto\.placement stem .*patch_embed\.proj.* use moto\.placement post"
    ):
        attach_moto(seams, MoToSettings(placement="stem"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_has_its_own_tokenizer(tiny: Tiny, kind: str) -> None:
    model, seams = tiny("vit")
    attach_tokenizer(seams, settings(kind))
    model.eval()
    other = copy.deepcopy(model)
    before = model(images())
    with torch.no_grad():
        for parameter in other.patch_embed.parameters():  # type: ignore[union-attr]
            parameter.add_(1.0)
    assert not torch.equal(other(images()), before)
    assert torch.equal(model(images()), before)


# ---- sizes, beside Tables 1 and 11


def parameters(kind: str | None, name: str = "deit_small_patch16_224", **options: Any) -> float:
    with torch.device("meta"):
        model, seams = build(ModelSettings(name=name, options=options), num_classes=1000, image_size=224)
        if kind is not None:
            attach_tokenizer(seams, settings(kind))
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def test_parameters_of_deit_s_are_those_of_the_paper() -> None:
    none, frozen = parameters(None), parameters("frozen")
    intra, local, inter = (parameters(kind) for kind in ("intra", "intra_local", "intra_local_inter"))
    assert none == frozen == pytest.approx(22.051, abs=1e-3)
    assert intra - none == pytest.approx(0.192, abs=1e-3), "printed +0.2"
    assert local == intra, "printed +0"
    assert inter - local == pytest.approx(3.4, abs=0.1), "printed +3.4"


def test_deit_c_has_the_published_stem_and_about_the_size_of_deit() -> None:
    convolutions = 3 * 48 * 9 + 48 * 96 * 9 + 96 * 192 * 9 + 192 * 384 * 9 + 384 * 384 + 384
    norms = 2 * (48 + 96 + 192 + 384)
    patches = 16 * 16 * 3 * 384 + 384
    added = (parameters("conv_stem") - parameters(None)) * 1e6
    assert added == pytest.approx(convolutions + norms - patches, abs=0.5)
    assert parameters("conv_stem", depth=11) == pytest.approx(parameters(None), rel=0.05)


@pytest.mark.parametrize(
    ("channels", "steps", "stem", "pyramid"),
    [
        (384, 4, (48, 96, 192, 384), (32, 64, 128, 256)),
        (768, 4, (96, 192, 384, 768), (64, 128, 256, 512)),
        (96, 2, (48, 96), (32, 64)),
        (64, 2, (32, 64), (20, 40)),
        (384, 5, (24, 48, 96, 192, 384), (16, 32, 64, 128, 256)),
    ],
)
def test_widths_follow_stride_and_embedding(
    channels: int, steps: int, stem: tuple[int, ...], pyramid: tuple[int, ...]
) -> None:
    assert stem_widths(channels, steps) == stem
    assert pyramid_widths(channels, steps) == pyramid


def test_cross_scale_is_crossformers_at_stride_4() -> None:
    module = CrossScale(3, 96, 4)
    convolutions = [scale for scale in module.scales if isinstance(scale, nn.Conv2d)]
    assert [c.kernel_size[0] for c in convolutions] == [4, 8, 16, 32]
    assert [c.padding[0] for c in convolutions] == [0, 2, 6, 14]
    assert [c.out_channels for c in convolutions] == [48, 24, 12, 12]
    assert sum(scale_widths(20)) == 20


def test_cross_scale_kernels_lie_around_the_same_centres() -> None:
    # A picture that is symmetric around a token gives every kernel a symmetric view of it: with symmetric
    # weights the maps are symmetric too.
    module = CrossScale(1, 8, 4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    row = torch.zeros(1, 1, 36, 36)
    row[..., 16:20, 16:20] = 1.0
    tokens_BCHW = module(row)
    torch.testing.assert_close(tokens_BCHW, tokens_BCHW.flip(-1))
    torch.testing.assert_close(tokens_BCHW, tokens_BCHW.flip(-2))


# ---- frozen


@pytest.mark.parametrize("family", FAMILIES.names())
def test_frozen_patches_are_uniform_within_mocos_bound_and_without_gradient(tiny: Tiny, family: str) -> None:
    _, seams = tiny(family)
    attach_tokenizer(seams, settings("frozen"))
    module = seams.tokenizer().projection
    assert isinstance(module, FrozenPatches)
    weight, bias = module.patches.weight, module.patches.bias
    side = module.patches.kernel_size[0]
    bound = math.sqrt(6 / (3 * side**2 + seams.tokenizer().channels))
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert bias is not None
    assert not bias.any()
    assert not any(parameter.requires_grad for parameter in module.parameters())


# ---- what a token sees


def seen(module: nn.Module, side: int, token: tuple[int, int]) -> Tensor:
    """Where in an image (side×side) a change reaches the token, in eval mode: a mask (H,W)."""
    image_BCHW = torch.randn(1, 3, side, side, dtype=torch.float64).requires_grad_()
    tokens_BCHW = module.double().eval()(image_BCHW)
    (grad_BCHW,) = torch.autograd.grad(tokens_BCHW[0, :, token[0], token[1]].square().sum(), image_BCHW)
    return grad_BCHW[0].abs().sum(dim=0) > 0


def test_intra_sees_its_patch_local_its_neighbourhood_and_inter_everything() -> None:
    torch.manual_seed(0)
    own = torch.zeros(96, 96, dtype=torch.bool)
    own[32:48, 48:64] = True
    intra = seen(PatchStem(3, 96, 4), 96, (2, 3))
    assert not (intra & ~own).any()
    assert (intra & own).sum() > 0.9 * own.sum()
    local = seen(LocalStem(3, 96, 4), 96, (2, 3))
    around = torch.zeros_like(own)
    around[21:52, 37:68] = True
    assert not (local & ~around).any()
    assert (local & around).sum() > 0.9 * around.sum(), "31 pixels, half a patch around its own"
    inter = seen(GlobalStem(3, 96, 4, 16), 96, (2, 3))
    assert all(inter[y : y + 16, x : x + 16].any() for y in range(0, 96, 16) for x in range(0, 96, 16))


def test_tokens_of_the_local_stem_share_pixels() -> None:
    torch.manual_seed(0)
    module = LocalStem(3, 32, 2)
    assert (seen(module, 32, (3, 3)) & seen(module, 32, (3, 4))).any()
    apart = PatchStem(3, 32, 2)
    assert not (seen(apart, 32, (3, 3)) & seen(apart, 32, (3, 4))).any()


def test_local_runs_intras_kernels() -> None:
    shapes = [tuple(p.shape for p in stem(3, 96, 4).parameters()) for stem in (PatchStem, LocalStem)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("steps", "strides"), [(1, (1, 2)), (2, (1, 2, 4)), (3, (2, 2, 4, 8)), (4, (2, 4, 4, 8, 16))]
)
def test_the_local_stem_knows_where_its_maps_lie(steps: int, strides: tuple[int, ...]) -> None:
    stem = LocalStem(3, 32, steps).eval()
    assert stem.strides() == strides
    x_BCHW = torch.zeros(1, 3, 32, 32)
    for step, stride in zip(stem.steps, strides, strict=False):
        x_BCHW = step(x_BCHW)
        assert x_BCHW.shape[-1] == 32 // stride


def test_global_context_stands_behind_the_last_maps_with_keys_of_one_size() -> None:
    stem = GlobalStem(3, 384, 4, 16)
    assert {name: block.reduction for name, block in stem.context.items()} == {"2": 4, "3": 2, "tokens": 1}
    assert [head_count(width) for width in (128, 256, 384)] == [2, 4, 6]
    assert {n: b.reduction for n, b in GlobalStem(3, 96, 2, 16).context.items()} == {"tokens": 4}
    assert head_count(296) == 4
    assert head_count(40) == 1


# ---- TokenLearner


def test_the_learners_weights_are_those_of_their_version() -> None:
    x_BCHW = torch.randn(2, 16, 5, 4)
    soft_BSN = MLPLearner(16, 3).weights(x_BCHW)
    assert soft_BSN.shape == (2, 3, 20)
    torch.testing.assert_close(soft_BSN.sum(dim=-1), torch.ones(2, 3))
    sigmoid_BSN = ConvolutionalLearner(16, 3).weights(x_BCHW)
    assert sigmoid_BSN.shape == (2, 3, 20)
    assert sigmoid_BSN.min() > 0
    assert sigmoid_BSN.max() < 1


@pytest.mark.parametrize("learner", [MLPLearner, ConvolutionalLearner])
def test_a_learned_token_is_the_weighted_sum_of_the_map(learner: Callable[[int, int], Any]) -> None:
    x_BCHW = torch.randn(2, 16, 5, 4)
    module = learner(16, 3)
    weights_BSN = module.weights(x_BCHW)
    by_hand_BSC = torch.einsum("bsn,bcn->bsc", weights_BSN, x_BCHW.flatten(2))
    torch.testing.assert_close(module(x_BCHW), by_hand_BSC)


@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_fresh_token_learner_is_the_baseline_and_then_reaches_every_position(
    tiny: Tiny, family: str
) -> None:
    baseline, _ = tiny(family)
    model, seams = tiny(family)
    attach_tokenizer(seams, settings("token_learner"))
    assert torch.equal(model.eval()(images()), baseline.eval()(images()))
    (module,) = (m for m in model.modules() if isinstance(m, TokenContext))
    with torch.no_grad():
        nn.init.normal_(module.fuser.mix.weight)
    seam = seams.tokenizer()
    changed_BCHW = images()
    changed_BCHW[:, :, :4, :4] += 3.0
    moved_BCHW = seam.projection(changed_BCHW) - seam.projection(images())
    assert (moved_BCHW.abs().amax(dim=1) > 0).all()


# ---- refusals


@pytest.mark.parametrize("kind", ["conv_stem", "intra", "intra_local", "intra_local_inter", "cross_scale"])
def test_strides_that_do_not_fit_are_refused(kind: str) -> None:
    def seams_of(patch: int, size: int) -> Seams:
        options = {"patch_size": patch, "embed_dim": 32, "depth": 1, "num_heads": 2}
        name = "deit_tiny_patch16_224"
        return build(ModelSettings(name=name, options=options), num_classes=2, image_size=size)[1]

    with pytest.raises(SeamError, match=r"patch_embed\.proj \(family 'vit'\) is 7.* token_learner take any"):
        attach_tokenizer(seams_of(7, 28), settings(kind))
    if kind == "cross_scale":
        attach_tokenizer(seams_of(14, 28), settings(kind))
    else:
        with pytest.raises(SeamError, match="is 14"):
            attach_tokenizer(seams_of(14, 28), settings(kind))
    for free in ("frozen", "token_learner"):
        attach_tokenizer(seams_of(7, 28), settings(free))


def test_what_does_not_fit_the_map_is_refused(tiny: Tiny) -> None:
    _, seams = tiny("vit")
    with pytest.raises(SettingError, match=r"tokenizer\.tokens 256 must be fewer than the 256 .*'vit'"):
        attach_tokenizer(seams, settings("token_learner", tokens=256))
    with pytest.raises(SettingError, match=r"tokenizer\.context_stride 65 .* 64 pixels at patch_embed"):
        attach_tokenizer(seams, settings("intra_local_inter", context_stride=65))
    _, narrow = tiny("pvt_v2", embed_dims=[4, 8, 16, 16])
    with pytest.raises(SeamError, match=r"patch_embed\.proj \(family 'pvt_v2'\) has 4"):
        attach_tokenizer(narrow, settings("cross_scale"))
