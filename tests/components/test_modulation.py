"""The factorised form against the formula written out, and the laws of layouts.

Shape legend: B batch, C channels, H W height and width, N entities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ablator.components.modulation import Partition, _pieces, modulate, modulate_term_by_term, partition
from ablator.components.moments import Statistics

READINGS = get_args(Statistics)
KINDS = get_args(Partition)
EPS = 1e-3


def draw(seed: int, batch: int, channels: int, height: int, width: int, entities: int) -> list[Tensor]:
    """Map, logits, scale, shift and an incoming gradient, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        normal(batch, channels, height, width) * 2 + 3,
        normal(batch, entities, height, width),
        normal(entities, channels),
        normal(entities, channels),
        normal(batch, channels, height, width),
    ]


shapes = st.tuples(
    st.integers(0, 2**31),
    st.integers(1, 18),
    st.integers(1, 20),
    st.integers(2, 5),
    st.integers(2, 5),
    st.integers(1, 9),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reading", READINGS)
@settings(max_examples=30, deadline=None)
@given(shape=shapes, tau=st.sampled_from([0.1, 1.0, 5.0]))
def test_equals_the_formula_term_by_term(
    reading: Statistics, kind: Partition, shape: tuple[int, ...], tau: float
) -> None:
    x_BCHW, logits_BNHW, scale_NC, shift_NC, grad_BCHW = draw(*shape)
    results = []
    for function in (modulate, modulate_term_by_term):
        inputs = [t.clone().requires_grad_() for t in (x_BCHW, logits_BNHW, scale_NC, shift_NC)]
        layout_BNHW = partition(inputs[1], tau=tau, kind=kind)
        out_BCHW = function(inputs[0], layout_BNHW, *inputs[2:], statistics=reading, eps=0.03)
        results.append((out_BCHW, *torch.autograd.grad(out_BCHW, inputs, grad_BCHW)))
    for ours, reference in zip(*results, strict=True):
        # Relative to the largest value: an entity of two nearly equal positions has gradients of 1/eps².
        torch.testing.assert_close(
            ours / (1 + reference.abs().max()), reference / (1 + reference.abs().max()), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("reading", READINGS)
def test_gradients_are_those_of_the_function(reading: Statistics) -> None:
    x_BCHW, logits_BNHW, scale_NC, shift_NC, _ = draw(3, 2, 3, 3, 2, 4)
    inputs = [t.requires_grad_() for t in (x_BCHW, logits_BNHW, scale_NC, shift_NC)]
    assert torch.autograd.gradcheck(
        lambda x, z, s, t: modulate(x, partition(z, tau=1.0, kind="soft"), s, t, statistics=reading, eps=EPS),
        inputs,
    )


@pytest.mark.parametrize("reading", ["weighted", "literal"])
def test_one_entity_is_instance_norm(reading: Statistics) -> None:
    x_BCHW, logits_BNHW, *_ = draw(1, 3, 6, 7, 5, 1)
    layout_BNHW = partition(logits_BNHW, tau=0.1, kind="soft")
    ones_NC, zeros_NC = torch.ones(1, 6, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64)
    out_BCHW = modulate(x_BCHW, layout_BNHW, ones_NC, zeros_NC, statistics=reading, eps=1e-12)
    reference_BCHW = torch.nn.functional.instance_norm(x_BCHW, eps=1e-20)
    torch.testing.assert_close(out_BCHW, reference_BCHW, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("reading", "mean", "std"),
    [("literal", 8.7, 6.6), ("counted", 0.0, 0.27), ("averaged", 2.2, 1.5), ("weighted", 0.0, 1.0)],
)
def test_readings_differ_as_they_are_known_to(reading: Statistics, mean: float, std: float) -> None:
    # x ~ N(3, 2²), C = 16, n = 8, 28×28. The logits' spread gives that measurement's layouts.
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(1, 16, 28, 28, generator=generator) * 2 + 3
    layout_BNHW = partition(torch.randn(1, 8, 28, 28, generator=generator) * 3.8, tau=0.1, kind="soft")
    out_BCHW = modulate(
        x_BCHW, layout_BNHW, torch.ones(8, 16), torch.zeros(8, 16), statistics=reading, eps=1e-5
    )
    assert out_BCHW.mean().item() == pytest.approx(mean, rel=0.05, abs=1e-3)
    assert out_BCHW.std().item() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(shape=shapes, tau=st.floats(0.05, 20))
def test_a_layout_shares_out_every_position(kind: Partition, shape: tuple[int, ...], tau: float) -> None:
    _, logits_BNHW, *_ = draw(*shape)
    layout_BNHW = partition(logits_BNHW, tau=tau, kind=kind)
    torch.testing.assert_close(layout_BNHW.sum(dim=1), torch.ones_like(layout_BNHW[:, 0]))
    assert layout_BNHW.min() >= 0
    if kind == "hard":
        assert torch.equal(layout_BNHW.amax(dim=1), torch.ones_like(layout_BNHW[:, 0]))


def test_the_temperature_multiplies() -> None:
    logits_BNHW = torch.tensor([0.0, 10.0]).view(1, 2, 1, 1)
    layout_BNHW = partition(logits_BNHW, tau=0.1, kind="soft")
    assert layout_BNHW[0, 1].item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item())


def test_a_hard_layout_passes_the_soft_ones_gradient() -> None:
    _, logits_BNHW, *_ = draw(5, 2, 1, 3, 3, 4)
    weights_BNHW = torch.randn(logits_BNHW.shape, dtype=torch.float64)
    gradients = []
    for kind in ("soft", "hard"):
        logits_BNHW.requires_grad_()
        layout_BNHW = partition(logits_BNHW, tau=0.5, kind=kind)
        gradients.append(torch.autograd.grad((layout_BNHW * weights_BNHW).sum(), logits_BNHW)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("reading", READINGS)
@settings(max_examples=15, deadline=None)
@given(shape=shapes, order=st.randoms(use_true_random=False))
def test_entities_have_no_order(reading: Statistics, shape: tuple[int, ...], order: object) -> None:
    x_BCHW, logits_BNHW, scale_NC, shift_NC, _ = draw(*shape)
    permutation = list(range(logits_BNHW.shape[1]))
    order.shuffle(permutation)  # type: ignore[attr-defined]
    layout_BNHW = partition(logits_BNHW, tau=1.0, kind="soft")
    out_BCHW = modulate(x_BCHW, layout_BNHW, scale_NC, shift_NC, statistics=reading, eps=EPS)
    permuted_BCHW = modulate(
        x_BCHW,
        layout_BNHW[:, permutation],
        scale_NC[permutation],
        shift_NC[permutation],
        statistics=reading,
        eps=EPS,
    )
    torch.testing.assert_close(out_BCHW, permuted_BCHW, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reading", READINGS)
def test_a_large_mean_does_not_cancel_the_deviation_away(reading: Statistics) -> None:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(4, 16, 28, 28, generator=generator) + 1000
    layout_BNHW = partition(torch.randn(4, 8, 28, 28, generator=generator), tau=1.0, kind="soft")
    ones_NC, zeros_NC = torch.ones(8, 16), torch.zeros(8, 16)
    out_BCHW = modulate(x_BCHW, layout_BNHW, ones_NC, zeros_NC, statistics=reading, eps=EPS)
    exact_BCHW = modulate_term_by_term(
        x_BCHW.double(),
        layout_BNHW.double(),
        ones_NC.double(),
        zeros_NC.double(),
        statistics=reading,
        eps=EPS,
    )
    error = (out_BCHW - exact_BCHW).abs().max() / exact_BCHW.abs().max()
    assert error < 5e-6


@pytest.mark.parametrize("reading", READINGS)
def test_statistics_stay_in_float32_under_autocast(reading: Statistics) -> None:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = (torch.randn(2, 8, 16, 16, generator=generator) + 30).bfloat16().requires_grad_()
    layout_BNHW = partition(torch.randn(2, 4, 16, 16, generator=generator), tau=1.0, kind="soft")
    arguments = (layout_BNHW, torch.ones(4, 8), torch.zeros(4, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out_BCHW = modulate(x_BCHW, *arguments, statistics=reading, eps=EPS)
        out_BCHW.sum().backward()
    exact_BCHW = modulate(x_BCHW.detach().float(), *arguments, statistics=reading, eps=EPS)
    assert out_BCHW.dtype == torch.bfloat16
    assert torch.equal(out_BCHW, exact_BCHW.bfloat16())
    assert x_BCHW.grad is not None
    assert x_BCHW.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("reading", READINGS)
def test_constant_maps_and_empty_entities_stay_finite(reading: Statistics) -> None:
    x_BCHW = torch.full((2, 3, 4, 4), 7.0, requires_grad=True)
    logits_BNHW = torch.zeros(2, 5, 4, 4)
    logits_BNHW[:, 0] = 1.0  # the other four entities hold nothing
    logits_BNHW.requires_grad_()
    layout_BNHW = partition(logits_BNHW, tau=1.0, kind="hard")
    out_BCHW = modulate(x_BCHW, layout_BNHW, torch.ones(5, 3), torch.ones(5, 3), statistics=reading, eps=EPS)
    out_BCHW.square().sum().backward()
    for tensor in (out_BCHW, x_BCHW.grad, logits_BNHW.grad):
        assert tensor is not None
        assert tensor.isfinite().all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(memory_format: torch.memory_format) -> None:
    x_BCHW, logits_BNHW, scale_NC, shift_NC, _ = draw(0, 3, 4, 5, 6, 2)
    layout_BNHW = partition(logits_BNHW, tau=1.0, kind="soft")
    x_BCHW = x_BCHW.contiguous(memory_format=memory_format)
    out_BCHW = modulate(x_BCHW, layout_BNHW, scale_NC, shift_NC, statistics="weighted", eps=EPS)
    assert out_BCHW.is_contiguous(memory_format=memory_format)


def test_second_derivatives_are_refused() -> None:
    x_BCHW, logits_BNHW, scale_NC, shift_NC, _ = draw(0, 1, 2, 3, 3, 2)
    x_BCHW.requires_grad_()
    layout_BNHW = partition(logits_BNHW, tau=1.0, kind="soft")
    out_BCHW = modulate(x_BCHW, layout_BNHW, scale_NC, shift_NC, statistics="weighted", eps=EPS)
    (gradient,) = torch.autograd.grad(out_BCHW.square().sum(), x_BCHW, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("shape", [(16, 384, 14), (8, 112, 56), (2, 112, 56)])
def test_32_entities_cost_at_most_3_maps(
    peak_bytes: Callable[[Callable[[], object]], int], reading: Statistics, shape: tuple[int, int, int]
) -> None:
    """Forward and backward, counting output, gradient of x and everything temporary; not the gradients of
    layout and parameters, which every implementation returns."""
    batch, channels, side = shape
    x_BCHW = torch.randn(batch, channels, side, side, requires_grad=True)
    layout_BNHW = partition(torch.randn(batch, 32, side, side), tau=1.0, kind="soft").requires_grad_()
    scale_NC, shift_NC = (
        torch.ones(32, channels, requires_grad=True),
        torch.zeros(32, channels, requires_grad=True),
    )
    gradient_BCHW = torch.ones_like(x_BCHW)

    def forward() -> Tensor:
        return modulate(x_BCHW, layout_BNHW, scale_NC, shift_NC, statistics=reading, eps=EPS)

    def forward_and_backward() -> object:
        out_BCHW = forward()
        return out_BCHW, torch.autograd.grad(
            out_BCHW, (x_BCHW, layout_BNHW, scale_NC, shift_NC), gradient_BCHW
        )

    returned = layout_BNHW.nbytes + scale_NC.nbytes + shift_NC.nbytes
    assert peak_bytes(forward) <= 2 * x_BCHW.nbytes
    assert peak_bytes(forward_and_backward) - returned <= 3 * x_BCHW.nbytes


@pytest.mark.parametrize(
    ("shape", "dtype", "pieces"),
    [
        ((256, 192, 64), torch.bfloat16, 1),
        ((128, 384, 196), torch.bfloat16, 2),
        ((256, 384, 3136), torch.float32, 8),
        ((1, 16, 112 * 112), torch.float32, 1),
    ],
)
def test_small_maps_are_not_cut_on_a_gpu(shape: tuple[int, ...], dtype: torch.dtype, pieces: int) -> None:
    with FakeTensorMode():  # knows devices without having them
        assert len(list(_pieces(torch.empty(shape, dtype=dtype, device="cuda:0")))) == pieces
