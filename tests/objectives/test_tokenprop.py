"""TokenProp: its size, what it trains, and what it refuses.

Shape legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ablator.errors import SettingError, UnknownName
from ablator.objectives.settings import TokenPropSettings
from ablator.objectives.tokenprop import build_tokenprop, largest_scale

LOSSES = ("l1", "l2", "perceptual", "contextual")
LITE0 = {"features": "efficientnet_lite0"}


def term(objective: nn.Module, tokens_BCHW: Tensor, images_BCHW: Tensor) -> Tensor:
    terms = objective({"tokens": tokens_BCHW}, images_BCHW)
    assert set(terms) == {"tokenprop"}
    return terms["tokenprop"]


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("scale", [8, 32, 64])
@pytest.mark.parametrize("channels", [24, 96])
def test_the_decoder_has_the_published_shape(make_seams, width: int, scale: int, channels: int) -> None:
    settings = TokenPropSettings(width=width, scale=scale)
    objective = build_tokenprop(make_seams(64, channels), settings)
    made = objective.decoder(torch.randn(2, channels, 16, 16))
    assert made.shape == (2, 3, scale, scale)
    assert ((made > 0) & (made < 1)).all()
    middle = 12 * width
    by_hand = channels * 9 * middle + 2 * middle + middle * 9 * 3 + 3  # conv, norm, conv with bias
    assert sum(p.numel() for p in objective.parameters()) == by_hand


def test_the_target_is_the_image_by_area_within_its_range(make_seams) -> None:
    objective = build_tokenprop(make_seams(16), TokenPropSettings(scale=8, weight=1.0))
    images_BCHW = torch.rand(2, 3, 16, 16)
    images_BCHW[:, :, :4, :4] = 3.0  # what random erasing leaves
    tokens_BCHW = torch.randn(2, 24, 4, 4)
    made = objective.decoder(tokens_BCHW)
    target = images_BCHW.view(2, 3, 8, 2, 8, 2).mean(dim=(3, 5)).clamp(0, 1)
    expected = (made - target).square().mean()
    torch.testing.assert_close(term(objective, tokens_BCHW, images_BCHW), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_term_is_linear_in_its_weight(make_seams, digits_B3HW: Tensor, loss: Any) -> None:
    tokens_BCHW = torch.randn(10, 24, 8, 8)
    values = []
    for weight in (0.0, 0.001, 1.0):
        torch.manual_seed(0)
        settings = TokenPropSettings(loss=loss, weight=weight, scale=32, **LITE0)
        values.append(term(build_tokenprop(make_seams(32), settings), tokens_BCHW, digits_B3HW).item())
    assert values[0] == 0
    assert values[2] > 0
    assert values[1] == pytest.approx(0.001 * values[2], rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_tokenizer_and_decoder_and_nothing_else(
    make_seams, photos_B3HW: Tensor, loss: Any
) -> None:
    seams = make_seams(64)
    objective = build_tokenprop(seams, TokenPropSettings(loss=loss, scale=32, weight=1.0, **LITE0))
    term(objective, seams.model(photos_B3HW), photos_B3HW).backward()
    for parameter in [*seams.model.parameters(), *objective.parameters()]:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_checkpoints_and_copies_hold_the_decoder_only(make_seams, digits_B3HW: Tensor, loss: Any) -> None:
    objective = build_tokenprop(make_seams(32), TokenPropSettings(loss=loss, scale=32, **LITE0))
    tokens_BCHW = torch.randn(10, 24, 8, 8)
    value = term(objective, tokens_BCHW, digits_B3HW)  # features are loaded by now
    assert all(key.startswith("decoder.") for key in objective.state_dict())
    assert sum(v.numel() for v in objective.state_dict().values()) < 10_000
    averaged = copy.deepcopy(objective)  # as a weight average makes it
    assert sum(1 for _ in averaged.modules()) == sum(1 for _ in objective.modules())
    torch.testing.assert_close(term(averaged, tokens_BCHW, digits_B3HW), value)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", ["vgg19", "efficientnet_lite0"])
def test_it_is_checked_on_meta_without_weights(
    make_seams, monkeypatch, tmp_path, loss: Any, network: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with torch.device("meta"):
        seams = make_seams(32)
        settings = TokenPropSettings(loss=loss, scale=32, features=network)
        objective = build_tokenprop(seams, settings)
        images_BCHW = torch.rand(2, 3, 32, 32)
        value = term(objective, seams.model(images_BCHW), images_BCHW)
        value.backward()
    assert value.device.type == "meta"
    assert value.shape == ()


def test_half_precision_tokens_change_the_term_little(make_seams, photos_B3HW: Tensor) -> None:
    """Under bf16 autocast as in training: the loss itself stays in fp32."""
    objective = build_tokenprop(
        make_seams(64), TokenPropSettings(loss="contextual", scale=64, weight=1, **LITE0)
    )
    tokens_BCHW = torch.randn(2, 24, 16, 16)
    plain = term(objective, tokens_BCHW, photos_B3HW)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = term(objective, tokens_BCHW.bfloat16(), photos_B3HW)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, plain, rtol=0.02, atol=0)


def test_training_the_decoder_rebuilds_real_digits(make_seams, digits_B3HW: Tensor) -> None:
    torch.manual_seed(0)
    seams = make_seams(32)
    objective = build_tokenprop(seams, TokenPropSettings(scale=32, weight=1.0))
    optimizer = torch.optim.AdamW([*seams.model.parameters(), *objective.parameters()], lr=0.02)
    values = []
    for _ in range(60):
        value = term(objective, seams.model(digits_B3HW), digits_B3HW)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    constant = (digits_B3HW - digits_B3HW.mean()).square().mean().item()
    assert values[-1] < 0.3 * constant < values[0]


def test_notes_name_the_network_that_stands_in_and_its_licence(make_seams) -> None:
    def notes(**options: Any) -> tuple[str, ...]:
        return build_tokenprop(make_seams(512), TokenPropSettings(**options)).notes

    assert notes(loss="l2", **LITE0) == ()
    assert notes(loss="perceptual") == ()  # VGG19 is what the paper used
    (note,) = notes(loss="perceptual", **LITE0)
    assert "EfficientNet-lite0" in note
    assert "Apache-2.0" in note
    assert "VGG19" in note
    (note,) = notes(loss="contextual", scale=256)
    assert "one row and column in 2 of relu3_2" in note


def test_the_papers_scales_fit_its_images() -> None:
    assert largest_scale(224) == 256  # Table 9


@given(side=st.integers(1, 4096))
def test_the_image_itself_always_fits(side: int) -> None:
    assert side <= largest_scale(side) < 2 * side


@pytest.mark.parametrize(
    ("image_size", "options", "message"),
    [
        (32, {"scale": 64}, r"tokenprop\.scale 64 does not fit: for images of side 32 .* from 4 to 32"),
        (28, {"scale": 33}, r"scale 33 .* from 4 to 32"),
        (64, {"scale": 8, "loss": "contextual"}, r"scale 8 .* from 16 \(.*relu4_2 of vgg19\) to 64"),
        (
            64,
            {"scale": 8, "loss": "perceptual", **LITE0},
            r"scale 8 .* from 16 \(.*efficientnet_lite0\) to 64",
        ),
        (8, {"scale": 8, "loss": "contextual"}, r"needs a scale of at least 16 .* l2 or l1"),
    ],
)
def test_scales_that_do_not_fit_are_refused(make_seams, image_size: int, options: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_tokenprop(make_seams(image_size), TokenPropSettings(**options))


def test_an_unknown_network_is_refused_even_where_it_is_not_used(make_seams) -> None:
    with pytest.raises(UnknownName, match="known: efficientnet_lite0, vgg19"):
        build_tokenprop(make_seams(64), TokenPropSettings(loss="l2", features="vgg"))
