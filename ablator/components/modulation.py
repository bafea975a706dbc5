"""Modulation across tokens as functions: the layout, the factorised form, and the readable reference.

    out = Σ_i [ (X − μ_i) / (σ_i + ε) · β_i + α_i ] ⊙ L_i          (arXiv 2212.11115, section 3)

With a_i = β_i / (σ_i + ε) and b_i = α_i − μ_i·a_i this is X ⊙ (Lᵀa) + Lᵀb, and the statistics are small
matrix products too, so no copy of the map per entity is ever made. `modulate` works through the map in
pieces and keeps nothing but its arguments for the backward pass, which computes the statistics again.

Shape legend: B batch, C channels, H W height and width, P = H·W positions, N entities; lower case b and c
are the parts of B and C that lie in one piece.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ablator.components.moments import (
    Statistics,
    coefficients,
    precision,
    products,
    spread,
    statistics_backward,
    sum_moments,
)

Partition = Literal["soft", "hard"]


def partition(logits_BNHW: Tensor, *, tau: float, kind: Partition) -> Tensor:
    """The layout (B,N,H,W), which sums to 1 over N at every position: softmax(tau · logits), or, hard, the
    one-hot of its argmax with the softmax's gradient. At least float32."""
    soft_BNHW = torch.softmax(tau * logits_BNHW.to(precision(logits_BNHW)), dim=1)
    if kind == "soft":
        return soft_BNHW
    hard_BNHW = torch.zeros_like(soft_BNHW).scatter_(1, soft_BNHW.argmax(dim=1, keepdim=True), 1.0)
    return hard_BNHW + (soft_BNHW - soft_BNHW.detach())


def modulate(
    x_BCHW: Tensor,
    layout_BNHW: Tensor,
    scale_NC: Tensor,
    shift_NC: Tensor,
    *,
    statistics: Statistics,
    eps: float,
) -> Tensor:
    """The modulated map, in x's shape and dtype; statistics and products are in float32 at least, also
    under autocast. Differentiable once in every tensor.

    A deviation below `eps` counts as `eps`, so that a constant region has finite gradients. An entity with
    at most `eps` positions (hard layouts have such) takes mean and deviation of the whole map, as constants.
    """
    assert layout_BNHW.shape == (x_BCHW.shape[0], scale_NC.shape[0], *x_BCHW.shape[2:])
    assert scale_NC.shape == shift_NC.shape == (layout_BNHW.shape[1], x_BCHW.shape[1])
    out_BCP: Tensor = _Modulate.apply(
        x_BCHW.flatten(2), layout_BNHW.flatten(2), scale_NC, shift_NC, statistics, eps
    )
    return out_BCP.view(x_BCHW.shape)


def modulate_term_by_term(
    x_BCHW: Tensor,
    layout_BNHW: Tensor,
    scale_NC: Tensor,
    shift_NC: Tensor,
    *,
    statistics: Statistics,
    eps: float,
) -> Tensor:
    """What `modulate` computes, one entity after the other as the formula is written: the reference."""
    out_BCHW = torch.zeros_like(x_BCHW)
    whole_mean = x_BCHW.mean(dim=(2, 3), keepdim=True).detach()
    whole_var = x_BCHW.var(dim=(2, 3), keepdim=True, correction=0).detach()
    for entity in range(layout_BNHW.shape[1]):
        layout_B1HW = layout_BNHW[:, entity : entity + 1]
        masked_BCHW = x_BCHW * layout_B1HW
        count = layout_B1HW.sum(dim=(2, 3), keepdim=True)
        empty = count <= eps
        count = torch.where(empty, 1.0, count)
        if statistics == "weighted":
            mean = masked_BCHW.sum(dim=(2, 3), keepdim=True) / count
            var = (layout_B1HW * (x_BCHW - mean) ** 2).sum(dim=(2, 3), keepdim=True) / count
        elif statistics == "literal":
            mean = masked_BCHW.mean(dim=(2, 3), keepdim=True)
            var = ((masked_BCHW - mean) ** 2).mean(dim=(2, 3), keepdim=True)
        else:
            total = masked_BCHW.sum if statistics == "counted" else masked_BCHW.mean
            mean = total(dim=(2, 3), keepdim=True) / count
            var = ((masked_BCHW - mean) ** 2).sum(dim=(2, 3), keepdim=True) / count
        mean = torch.where(empty, whole_mean, mean)
        sigma = torch.where(empty, whole_var, var).clamp(min=eps**2).sqrt()
        normalised_BCHW = (x_BCHW - mean) / (sigma + eps)
        term_BCHW = normalised_BCHW * scale_NC[entity, :, None, None] + shift_NC[entity, :, None, None]
        out_BCHW = out_BCHW + term_BCHW * layout_B1HW
    return out_BCHW


def _forward_piece(
    x_bcP: Tensor, layout_bNP: Tensor, scale_Nc: Tensor, shift_Nc: Tensor, statistics: Statistics, eps: float
) -> Tensor:
    moments = sum_moments(x_bcP, layout_bNP, statistics, eps)
    done = coefficients(moments, layout_bNP, scale_Nc, shift_Nc, statistics, eps)
    return spread(done.a, layout_bNP).mul_(moments.x).add_(spread(done.b, layout_bNP))


def _backward_piece(
    grad_bcP: Tensor,
    x_bcP: Tensor,
    layout_bNP: Tensor,
    scale_Nc: Tensor,
    shift_Nc: Tensor,
    statistics: Statistics,
    eps: float,
    grad_layout_bNP: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the piece of x and of its scale and shift. Adds to `grad_layout_bNP`."""
    moments = sum_moments(x_bcP, layout_bNP, statistics, eps)
    done = coefficients(moments, layout_bNP, scale_Nc, shift_Nc, statistics, eps)
    x_bcP = moments.x
    grad_bcP = grad_bcP.to(x_bcP.dtype)
    product_bcP = grad_bcP * x_bcP
    grad_shift_bNc = products(layout_bNP, grad_bcP)
    grad_a_bNc = products(layout_bNP, product_bcP) - grad_shift_bNc * done.offset
    grad_layout_bNP.baddbmm_(done.a, product_bcP).baddbmm_(done.b, grad_bcP)
    del product_bcP
    grad_scale_bNc = grad_a_bNc / (done.sigma + eps)
    constant_bNc = moments.empty | (done.var <= eps**2)
    grad_var_bNc = torch.where(constant_bNc, 0.0, -grad_scale_bNc * done.a / (2 * done.sigma))
    grad_offset_bNc = torch.where(moments.empty, 0.0, -grad_shift_bNc * done.a)
    grads = statistics_backward(moments, done, grad_offset_bNc, grad_var_bNc, statistics, layout_bNP.shape[2])
    grad_layout_bNP.baddbmm_(grads.first, x_bcP).add_(grads.counts)
    grad_x_bcP = spread(done.a, layout_bNP).mul_(grad_bcP).add_(spread(grads.first, layout_bNP))
    if grads.cross is None or grads.squares is None:
        grad_x_bcP.add_(spread(grads.second, layout_bNP).mul_(x_bcP), alpha=2.0)
        grad_layout_bNP.baddbmm_(grads.second, x_bcP.square_())
    else:
        squares_bNP = layout_bNP.square()
        grad_x_bcP.add_(spread(grads.second, squares_bNP).mul_(x_bcP), alpha=2.0)
        grad_x_bcP.add_(spread(grads.cross, squares_bNP))
        grad_squares_bNP = torch.bmm(grads.cross, x_bcP).baddbmm_(grads.second, x_bcP.square_())
        grad_layout_bNP.addcmul_(grad_squares_bNP.add_(grads.squares), layout_bNP, value=2.0)
    return grad_x_bcP, grad_scale_bNc.sum(dim=0), grad_shift_bNc.sum(dim=0)


def _pieces(x_BCP: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cuts of B and C. The working memory of a piece is about five maps of its size in float32, so that
    eight pieces keep it below one map; on CPU smaller pieces also stay in the cache. Compiled code fuses
    the steps of one piece, and would only take longer to compile with more; on a GPU a small piece takes
    longer to launch than to compute."""
    batch, channels, _ = x_BCP.shape
    if torch.compiler.is_compiling():
        yield slice(0, batch), slice(0, channels)
        return
    pieces = 8 if x_BCP.element_size() >= 4 else 16
    if x_BCP.device.type == "cpu":
        pieces = max(pieces, x_BCP.numel() // _CPU_PIECE)
    elif x_BCP.device.type == "cuda":
        pieces = min(pieces, max(1, x_BCP.numel() // _GPU_PIECE))
    if batch >= pieces:
        step = batch // pieces
        for start in range(0, batch, step):
            yield slice(start, min(start + step, batch)), slice(0, channels)
        return
    step = max(1, channels // pieces)
    for start in range(0, channels, step):
        yield slice(0, batch), slice(start, min(start + step, channels))


_CPU_PIECE = 2**18
"""Elements of a piece on CPU: 1 MB in float32."""
_GPU_PIECE = 2**22
"""Least elements of a piece on a GPU: 16 MB in float32, which are read and written in about the time that two
kernels take to launch. The working memory then stays below 200 MB or below one map."""


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


class _Modulate(torch.autograd.Function):
    """`modulate` on flattened positions. Saves its arguments and nothing else."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BCP: Tensor,
        layout_BNP: Tensor,
        scale_NC: Tensor,
        shift_NC: Tensor,
        statistics: Statistics,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x_BCP, layout_BNP, scale_NC, shift_NC)
        ctx.statistics, ctx.eps = statistics, eps
        dtype = precision(x_BCP)
        out_BCP = torch.empty_like(x_BCP)
        with _without_autocast(x_BCP.device.type):
            for b, c in _pieces(x_BCP):
                layout_bNP = layout_BNP[b].to(dtype)
                scale_Nc, shift_Nc = scale_NC[:, c].to(dtype), shift_NC[:, c].to(dtype)
                out_BCP[b, c] = _forward_piece(x_BCP[b, c], layout_bNP, scale_Nc, shift_Nc, statistics, eps)
        return out_BCP

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_BCP: Tensor) -> tuple[Tensor | None, ...]:
        x_BCP, layout_BNP, scale_NC, shift_NC = ctx.saved_tensors
        dtype = precision(x_BCP)
        grad_x_BCP = torch.empty_like(x_BCP)
        grad_layout_BNP = torch.zeros_like(layout_BNP, dtype=dtype)
        grad_scale_NC = torch.zeros_like(scale_NC, dtype=dtype)
        grad_shift_NC = torch.zeros_like(shift_NC, dtype=dtype)
        with _without_autocast(x_BCP.device.type):
            for b, c in _pieces(x_BCP):
                layout_bNP = layout_BNP[b].to(dtype)
                scale_Nc, shift_Nc = scale_NC[:, c].to(dtype), shift_NC[:, c].to(dtype)
                grad_x_BCP[b, c], of_scale_Nc, of_shift_Nc = _backward_piece(
                    grad_BCP[b, c],
                    x_BCP[b, c],
                    layout_bNP,
                    scale_Nc,
                    shift_Nc,
                    ctx.statistics,
                    ctx.eps,
                    grad_layout_BNP[b],
                )
                grad_scale_NC[:, c] += of_scale_Nc
                grad_shift_NC[:, c] += of_shift_Nc
        return (
            grad_x_BCP,
            grad_layout_BNP.to(layout_BNP.dtype),
            grad_scale_NC.to(scale_NC.dtype),
            grad_shift_NC.to(shift_NC.dtype),
            None,
            None,
        )
