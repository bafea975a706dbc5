"""The laws of what figures are drawn from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ablator.analysis.measures import (
    LayoutStatistics,
    MapStatistics,
    cosine_diversity,
    effective_rank,
    residual,
)


@st.composite
def tokens(draw: st.DrawFn) -> Tensor:
    """(B,N,C), of any rank and scale."""
    batch, count, channels = (draw(st.integers(low, 9)) for low in (1, 2, 1))
    rank = draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    left, right = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, count, rank), (batch, rank, channels))
    )
    return draw(st.sampled_from([1e-3, 1.0, 1e3])) * left @ right


@given(tokens())
def test_measures_stay_within_their_bounds(tokens_BNC: Tensor) -> None:
    _, count, channels = tokens_BNC.shape
    rank_B = effective_rank(tokens_BNC)
    assert bool((rank_B >= 1 - 1e-9).all())
    assert bool((rank_B <= min(count, channels) + 1e-9).all())
    diverse_B = cosine_diversity(tokens_BNC)
    assert bool((diverse_B >= -1e-9).all())
    assert bool((diverse_B <= 1 + 1 / (count - 1) + 1e-9).all())
    apart_B = residual(tokens_BNC)
    assert bool((apart_B >= 0).all())
    assert bool((apart_B <= 1 + 1e-9).all())


@given(tokens(), st.sampled_from([0.01, 3.0]))
def test_measures_know_neither_scale_nor_the_order_of_tokens(tokens_BNC: Tensor, scale: float) -> None:
    for measure in (cosine_diversity, effective_rank, residual):
        torch.testing.assert_close(
            measure(scale * tokens_BNC.flip(1)), measure(tokens_BNC), rtol=1e-6, atol=1e-6
        )


@given(tokens())
def test_identical_tokens_are_not_diverse(tokens_BNC: Tensor) -> None:
    same_BNC = tokens_BNC[:, :1].expand_as(tokens_BNC)
    zero_B = torch.zeros(len(same_BNC), dtype=torch.float64)
    torch.testing.assert_close(cosine_diversity(same_BNC), zero_B, rtol=0, atol=1e-9)
    torch.testing.assert_close(residual(same_BNC), zero_B, rtol=0, atol=1e-9)
    torch.testing.assert_close(effective_rank(same_BNC), zero_B + 1, rtol=1e-6, atol=1e-6)


def test_orthogonal_tokens_are_as_diverse_as_can_be() -> None:
    eye_BNC = torch.eye(5, dtype=torch.float64)[None]
    assert cosine_diversity(eye_BNC).item() == pytest.approx(1.0)
    assert effective_rank(eye_BNC).item() == pytest.approx(5.0)


@given(st.integers(0, 4), st.integers(0, 3), st.integers(1, 4), st.sampled_from([0.0, -7.0, 1e4]))
def test_dead_and_saturated_maps_are_counted(dead: int, saturated: int, live: int, level: float) -> None:
    generator = torch.Generator().manual_seed(dead + 10 * saturated)
    maps_BCHW = torch.randn(6, dead + saturated + live, 8, 8, generator=generator)
    maps_BCHW[:, :dead] = level
    # ReLU of what is negative at most positions.
    maps_BCHW[:, dead : dead + saturated] = (maps_BCHW[:, dead : dead + saturated] - 0.8).relu()
    found = MapStatistics(maps_BCHW.shape[1])
    for batch in maps_BCHW.split(4):
        found.observe(batch)
    for batch in maps_BCHW.split(4):
        found.count_ends(batch)
    kinds = ["dead"] * dead + ["saturated"] * saturated + ["live"] * live
    assert found.dead().tolist() == [kind == "dead" for kind in kinds]
    assert found.saturated().tolist() == [kind == "saturated" for kind in kinds]


def test_where_every_map_is_constant_all_are_dead() -> None:
    found = MapStatistics(3)
    maps_BCHW = torch.tensor([0.1, -3.0, 1e5]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    found.observe(maps_BCHW)
    found.count_ends(maps_BCHW)
    assert found.dead().all()
    assert not found.saturated().any()


def test_a_layout_that_follows_the_image_explains_its_brightness() -> None:
    images_B3HW = torch.zeros(2, 3, 8, 8)
    images_B3HW[:, :, :, 4:] = 1.0
    right_BHW = images_B3HW[:, 0, ::2, ::2]
    follows_BEHW = torch.stack([1 - right_BHW, right_BHW, torch.zeros_like(right_BHW)], dim=1)
    found = LayoutStatistics(3)
    found.observe(follows_BEHW, images_B3HW)
    assert found.brightness == pytest.approx(1.0)
    assert found.shares == pytest.approx((0.5, 0.5, 0.0))
    assert found.largest == pytest.approx(1.0)
    across = LayoutStatistics(3)
    across.observe(follows_BEHW.transpose(2, 3), images_B3HW)
    assert across.brightness == pytest.approx(0.0, abs=1e-9)
