"""Laws of the losses, on random features and on real images.

Shape legend: B batch, C channels, H W height and width, N positions.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ablator.objectives import losses
from ablator.objectives.features import feature_network
from ablator.objectives.weights import EFFICIENTNET_LITE0

seeds = st.integers(0, 2**31)
laws = settings(max_examples=20, deadline=None)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(kind: str, images_B3HW: Tensor) -> dict[str, Tensor]:
    network = feature_network("efficientnet_lite0", torch.device("cpu"))
    return network(images_B3HW, EFFICIENTNET_LITE0.layers[kind])


def blurred(images_B3HW: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(images_B3HW, 3, 1, 1, count_include_pad=False)


@laws
@given(seed=seeds, factor=st.floats(0.1, 10))
def test_pixel_losses_are_distances_that_scale(seed: int, factor: float) -> None:
    x, y = draw(seed, 2, 3, 4, 4), draw(seed + 1, 2, 3, 4, 4)
    for loss, power in ((losses.l1, 1), (losses.l2, 2)):
        assert loss(x, y) > 0
        assert loss(x, x) == 0
        assert loss(x, y) == loss(y, x)
        assert loss(factor * x, factor * y).item() == pytest.approx(
            factor**power * loss(x, y).item(), rel=1e-5
        )


def test_pixel_losses_against_hand_counts() -> None:
    x, y = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.5, 0.5])
    assert losses.l1(x, y).item() == pytest.approx(1.5 / 3)
    assert losses.l2(x, y).item() == pytest.approx(1.25 / 3)


@laws
@given(seed=seeds, factor=st.floats(0.1, 100))
def test_perceptual_is_a_distance_of_directions(seed: int, factor: float) -> None:
    x, y = {"a": draw(seed, 2, 8, 3, 3)}, {"a": draw(seed + 1, 2, 8, 3, 3)}
    assert losses.perceptual(x, x) == 0
    assert 0 < losses.perceptual(x, y) < 4  # unit vectors are at most 2 apart
    louder = {"a": factor * x["a"]}
    assert losses.perceptual(louder, y).item() == pytest.approx(losses.perceptual(x, y).item(), rel=1e-6)
    both = {"a": x["a"], "b": x["a"]}, {"a": y["a"], "b": y["a"]}
    assert losses.perceptual(*both).item() == pytest.approx(2 * losses.perceptual(x, y).item())


def contextual_by_the_book(x_CN: Tensor, y_CN: Tensor) -> float:
    """Equations 1 to 5 of Mechrez et al. 2018, position by position, with the halved distance."""
    centre_C = y_CN.mean(dim=1)
    xs = [x_C - centre_C for x_C in x_CN.T]
    ys = [y_C - centre_C for y_C in y_CN.T]
    d = [[float(1 - x @ y / (x.norm() * y.norm())) / 2 for y in ys] for x in xs]
    weights = [[math.exp((1 - d_ij / (min(row) + 1e-5)) / 0.5) for d_ij in row] for row in d]
    affinity = [[w / sum(row) for w in row] for row in weights]
    similarity = sum(max(row[j] for row in affinity) for j in range(len(ys))) / len(ys)
    return -math.log(similarity + 1e-5)


@laws
@given(seed=seeds)
def test_contextual_against_the_formula_written_out(seed: int) -> None:
    x_BCHW, y_BCHW = draw(seed, 2, 5, 2, 3), draw(seed + 1, 2, 5, 2, 3)
    pairs = zip(x_BCHW.flatten(2), y_BCHW.flatten(2), strict=True)
    expected = [contextual_by_the_book(x_CN, y_CN) for x_CN, y_CN in pairs]
    assert losses.contextual({"a": x_BCHW}, {"a": y_BCHW}).item() == pytest.approx(
        sum(expected) / 2, rel=1e-6
    )


@laws
@given(seed=seeds, factor=st.floats(0.1, 100))
def test_contextual_ignores_positions_and_loudness(seed: int, factor: float) -> None:
    x_BCHW, y_BCHW = draw(seed, 2, 6, 4, 5), draw(seed + 1, 2, 6, 4, 5)
    plain = losses.contextual({"a": x_BCHW}, {"a": y_BCHW}).item()

    def permuted(z_BCHW: Tensor, order_N: Tensor) -> Tensor:
        return z_BCHW.flatten(2)[:, :, order_N].view_as(z_BCHW)

    generator = torch.Generator().manual_seed(seed)
    moved = [permuted(z, torch.randperm(20, generator=generator)) for z in (x_BCHW, y_BCHW)]
    assert losses.contextual({"a": moved[0]}, {"a": moved[1]}).item() == pytest.approx(plain, rel=1e-9)
    louder = losses.contextual({"a": factor * x_BCHW}, {"a": factor * y_BCHW}).item()
    assert louder == pytest.approx(plain, rel=1e-6)


@laws
@given(seed=seeds)
def test_contextual_similarity_is_largest_for_the_same_features(seed: int) -> None:
    x_BCHW, y_BCHW = draw(seed, 3, 6, 4, 4), draw(seed + 1, 3, 6, 4, 4)
    same, other = losses.contextual_similarity(x_BCHW, x_BCHW), losses.contextual_similarity(y_BCHW, x_BCHW)
    assert ((other > 0) & (other < same) & (same <= 1)).all()


@laws
@given(seed=seeds)
def test_contextual_of_an_image_does_not_depend_on_its_batch(seed: int) -> None:
    x_BCHW, y_BCHW = draw(seed, 3, 6, 4, 4), draw(seed + 1, 3, 6, 4, 4)
    together = losses.contextual_similarity(x_BCHW, y_BCHW)
    alone = torch.cat([losses.contextual_similarity(x_BCHW[i : i + 1], y_BCHW[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_thinning_bounds_memory_and_leaves_small_maps_alone(height: int, width: int) -> None:
    thinned = losses.thin(torch.empty(1, 1, height, width, device="meta"))
    assert thinned[0, 0].numel() <= losses.MAX_POSITIONS
    if height * width <= losses.MAX_POSITIONS:
        assert thinned.shape[2:] == (height, width)


def test_large_maps_are_compared_at_the_same_positions() -> None:
    x_BCHW = draw(0, 1, 4, 40, 50)
    assert losses.contextual({"a": x_BCHW}, {"a": x_BCHW}) < 0.05


@pytest.mark.parametrize("kind", ["perceptual", "contextual"])
def test_feature_losses_are_fp32_under_autocast(kind: str, photos_B3HW: Tensor) -> None:
    compare = getattr(losses, kind)
    x, y = photos_B3HW, photos_B3HW.flip(0)
    expected = compare(features(kind, x), features(kind, y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compare(features(kind, x), features(kind, y)), expected)


@pytest.mark.parametrize("kind", ["perceptual", "contextual"])
@pytest.mark.parametrize("target", ["same", "black", "photograph"])
def test_constant_images_have_finite_loss_and_gradient(kind: str, target: str, photos_B3HW: Tensor) -> None:
    grey = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    other = {"same": grey.detach(), "black": torch.zeros(1, 3, 64, 64), "photograph": photos_B3HW[:1]}[target]
    loss = getattr(losses, kind)(features(kind, grey), features(kind, other))
    (gradient,) = torch.autograd.grad(loss, grey)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["perceptual", "contextual"])
def test_constant_features_have_finite_loss_and_gradient(kind: str) -> None:
    x_BCHW = torch.zeros(1, 4, 3, 3, requires_grad=True)
    loss = getattr(losses, kind)({"a": x_BCHW}, {"a": torch.zeros(1, 4, 3, 3)})
    (gradient,) = torch.autograd.grad(loss, x_BCHW)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["perceptual", "contextual"])
def test_a_slightly_blurred_photograph_is_nearer_than_another(kind: str, photos_B3HW: Tensor) -> None:
    compare, target = getattr(losses, kind), features(kind, photos_B3HW)
    near = compare(features(kind, blurred(photos_B3HW)), target)
    far = compare(features(kind, photos_B3HW.flip(0)), target)
    assert compare(target, target) < near < 0.8 * far


@pytest.mark.parametrize("kind", ["perceptual", "contextual"])
def test_a_slightly_blurred_digit_is_nearer_than_another(kind: str, digits_B3HW: Tensor) -> None:
    compare, target = getattr(losses, kind), features(kind, digits_B3HW)
    near = compare(features(kind, blurred(digits_B3HW)), target)
    far = compare(features(kind, digits_B3HW.roll(1, 0)), target)
    assert compare(target, target) < near < 0.8 * far


def test_contextual_forgives_a_shift_that_pixels_do_not(photos_B3HW: Tensor) -> None:
    shifted, other = photos_B3HW.roll(8, 3), photos_B3HW.flip(0)

    def gain(distance_to_shifted: Tensor, distance_to_other: Tensor) -> float:
        return (distance_to_shifted / distance_to_other).item()

    target = features("contextual", photos_B3HW)
    loose = gain(*(losses.contextual(features("contextual", x), target) for x in (shifted, other)))
    strict = gain(*(losses.l2(x, photos_B3HW) for x in (shifted, other)))
    assert loose < min(strict, 0.8)
