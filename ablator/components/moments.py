"""The statistics of MoTo and their gradients, for one piece of a map: small matrix products with the layout.

Shape legend: b and c parts of the batch and of the channels, P positions, N entities.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Statistics = Literal["weighted", "literal", "counted", "averaged"]
"""How μ(X ⊙ L_i) and σ(X ⊙ L_i) are read; P positions, cnt_i = Σ_p L_i:

weighted: μ = ΣLX/cnt, σ² = ΣL(X−μ)²/cnt · literal: μ = Σ(XL)/P, σ² = Σ(XL−μ)²/P ·
counted: μ = Σ(XL)/cnt, σ² = Σ(XL−μ)²/cnt · averaged: μ = Σ(XL)/(P·cnt), σ² = Σ(XL−μ)²/cnt.
"""


class Moments(NamedTuple):
    """What one piece of the map is summed up to. The map is centred by its mean over P, which keeps the
    sums free of cancellation and is a constant for the gradient, since no result depends on it."""

    x: Tensor
    """The centred piece (b,c,P)."""
    mean: Tensor
    """Its mean (b,1,c)."""
    var: Tensor
    """Its variance (b,1,c)."""
    counts: Tensor
    """ΣL (b,N,1); 1 for empty entities."""
    empty: Tensor
    """Which entities have at most eps positions (b,N,1)."""
    first: Tensor
    """ΣLx (b,N,c)."""
    second: Tensor
    """ΣWx² (b,N,c), where W is L (weighted) or L² (the readings that square the masked map)."""
    cross: Tensor | None
    """ΣL²x (b,N,c); None for weighted."""


class Coefficients(NamedTuple):
    """The affine map of every entity, out = Σ_i (x·a_i + b_i)·L_i on the centred x, and what led to it."""

    a: Tensor
    """(b,N,c)"""
    b: Tensor
    """(b,N,c)"""
    offset: Tensor
    """μ less the mean over P (b,N,c)."""
    var: Tensor
    """σ² (b,N,c)."""
    sigma: Tensor
    """σ, at least eps (b,N,c)."""
    share: Tensor | float
    """g with μ = g·Σ(XL): a number or (b,N,1)."""


class MomentGradients(NamedTuple):
    """Gradients of the moments, in their shapes."""

    first: Tensor
    second: Tensor
    cross: Tensor | None
    counts: Tensor
    squares: Tensor | None
    """Of ΣL² (b,N,1); None for weighted."""


def precision(tensor: Tensor) -> torch.dtype:
    """The dtype to compute in: float32, or float64 for float64."""
    return torch.promote_types(tensor.dtype, torch.float32)


def products(weights_bNP: Tensor, x_bcP: Tensor) -> Tensor:
    """Σ_P of weights times x, (b,N,c)."""
    return torch.bmm(weights_bNP, x_bcP.transpose(1, 2))


def spread(coefficients_bNc: Tensor, weights_bNP: Tensor) -> Tensor:
    """Coefficients of the entities mixed at every position, (b,c,P)."""
    return torch.bmm(coefficients_bNc.transpose(1, 2), weights_bNP)


def sum_moments(x_bcP: Tensor, layout_bNP: Tensor, statistics: Statistics, eps: float) -> Moments:
    """Everything of the piece that statistics and their gradients need."""
    x_bcP = x_bcP.to(precision(x_bcP))
    mean_bc1 = x_bcP.mean(dim=2, keepdim=True)
    x_bcP = x_bcP - mean_bc1
    count_bN1 = layout_bNP.sum(dim=2, keepdim=True)
    empty_bN1 = count_bN1 <= eps
    squares_bcP = x_bcP.square()
    masked = statistics != "weighted"
    weights_bNP = layout_bNP.square() if masked else layout_bNP
    return Moments(
        x=x_bcP,
        mean=mean_bc1.transpose(1, 2),
        var=squares_bcP.mean(dim=2)[:, None],
        counts=torch.where(empty_bN1, 1.0, count_bN1),
        empty=empty_bN1,
        first=products(layout_bNP, x_bcP),
        second=products(weights_bNP, squares_bcP),
        cross=products(weights_bNP, x_bcP) if masked else None,
    )


def _statistics(
    moments: Moments, layout_bNP: Tensor, statistics: Statistics
) -> tuple[Tensor, Tensor, Tensor | float]:
    """μ less the mean over P (b,N,c), σ² (b,N,c), and g with μ = g·Σ(XL)."""
    count_bN1, first_bNc, mean_b1c = moments.counts, moments.first, moments.mean
    if moments.cross is None:
        offset_bNc = first_bNc / count_bN1
        return offset_bNc, moments.second / count_bN1 - offset_bNc.square(), 1 / count_bN1
    positions = layout_bNP.shape[2]
    share: Tensor | float
    k_bN1: Tensor | float
    if statistics == "literal":
        share, k_bN1 = 1 / positions, count_bN1 / positions
    elif statistics == "counted":
        share, k_bN1 = 1 / count_bN1, 1.0
    else:
        share, k_bN1 = 1 / (positions * count_bN1), 1 / positions
    # With X = x + m and μ = d + m·k:  XL − μ = (xL − d) + m·(L − k), squared and summed part by part.
    d_bNc = share * first_bNc
    squares_bNc = moments.second - 2 * d_bNc * first_bNc + positions * d_bNc.square()
    mixed_bNc = moments.cross - k_bN1 * first_bNc - d_bNc * (count_bN1 - positions * k_bN1)
    layout_squares_bN1 = (layout_bNP - k_bN1).square().sum(dim=2, keepdim=True)
    squares_bNc = squares_bNc + 2 * mean_b1c * mixed_bNc + mean_b1c.square() * layout_squares_bN1
    var_bNc = squares_bNc / (positions if statistics == "literal" else count_bN1)
    return d_bNc + mean_b1c * (k_bN1 - 1), var_bNc, share


def coefficients(
    moments: Moments,
    layout_bNP: Tensor,
    scale_Nc: Tensor,
    shift_Nc: Tensor,
    statistics: Statistics,
    eps: float,
) -> Coefficients:
    """μ, σ and from them the affine map of every entity; an empty one has the whole map's μ and σ."""
    offset_bNc, var_bNc, share = _statistics(moments, layout_bNP, statistics)
    offset_bNc = torch.where(moments.empty, 0.0, offset_bNc)
    var_bNc = torch.where(moments.empty, moments.var, var_bNc)
    sigma_bNc = var_bNc.clamp(min=eps**2).sqrt()
    a_bNc = scale_Nc / (sigma_bNc + eps)
    return Coefficients(a_bNc, shift_Nc - offset_bNc * a_bNc, offset_bNc, var_bNc, sigma_bNc, share)


def statistics_backward(
    moments: Moments,
    done: Coefficients,
    grad_offset_bNc: Tensor,
    grad_var_bNc: Tensor,
    statistics: Statistics,
    positions: int,
) -> MomentGradients:
    """Gradients of the moments from those of μ and σ²."""
    count_bN1, mean_b1c = moments.counts, moments.mean
    if moments.cross is None:
        grad_second_bNc = grad_var_bNc / count_bN1
        grad_first_bNc = (grad_offset_bNc - 2 * done.offset * grad_var_bNc) / count_bN1
        loss_bNc = grad_second_bNc * moments.second + grad_first_bNc * moments.first
        grad_count_bN1 = -loss_bNc.sum(dim=2, keepdim=True) / count_bN1
        return MomentGradients(grad_first_bNc, grad_second_bNc, None, grad_count_bN1, None)
    # σ²·den = Σ(XL)² − 2μM + Pμ², with M = Σ(XL) = Σ(Lx) + m·cnt, μ = g·M and den = P or cnt.
    grad_second_bNc = grad_var_bNc / (positions if statistics == "literal" else count_bN1)
    mu_bNc = done.offset + mean_b1c
    total_bNc = moments.first + mean_b1c * count_bN1
    grad_mu_bNc = grad_offset_bNc - 2 * (total_bNc - positions * mu_bNc) * grad_second_bNc
    grad_first_bNc = done.share * grad_mu_bNc - 2 * mu_bNc * grad_second_bNc
    grad_count_bNc = mean_b1c * grad_first_bNc
    if statistics != "literal":
        loss_bNc = grad_mu_bNc * mu_bNc + grad_var_bNc * done.var
        grad_count_bNc = grad_count_bNc - loss_bNc / count_bN1
    return MomentGradients(
        first=grad_first_bNc,
        second=grad_second_bNc,
        cross=2 * mean_b1c * grad_second_bNc,
        counts=grad_count_bNc.sum(dim=2, keepdim=True),
        squares=(mean_b1c.square() * grad_second_bNc).sum(dim=2, keepdim=True),
    )
