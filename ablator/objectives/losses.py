"""Distances between a reconstruction and its target: on pixels, and on a frozen network's features.

Shape legend: B batch, C channels, H W height and width of a map, N M positions of the two maps.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

BANDWIDTH = 0.5
"""h of the contextual similarity (Mechrez et al. 2018, equation 3)."""
EPSILON = 1e-5
"""Added to the nearest distance (equation 2) and inside the logarithm."""
HALVED_COSINE = True
"""True: d = (1 - cos) / 2 in [0, 1], as the authors' code has it; False: d = 1 - cos, as the paper has it.
The two differ only against EPSILON."""
MAX_POSITIONS = 32 * 32
"""Larger maps are thinned by a regular stride to at most this many positions before the contextual loss
compares them all with each other (4 MB per image, layer and fp32 matrix)."""
_NORM_EPSILON = 1e-10


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which autocast is off on `device`."""
    if device.type == "meta":  # has no autocast to switch off
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference over all elements, in fp32."""
    return nn.functional.l1_loss(x.float(), y.float())


def l2(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference over all elements, in fp32."""
    return nn.functional.mse_loss(x.float(), y.float())


def perceptual(x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of features that are normalised over channels, averaged over images and positions,
    summed over layers: equation 1 of Zhang et al. 2018 (LPIPS) with all channel weights at 1.

    x, y: layer name to features (B,C,H,W), x of the reconstruction. Returns a scalar.
    """
    return torch.stack([_perceptual_layer(x[name], y[name]) for name in x]).sum()


def _perceptual_layer(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    return (_unit(_precise(x_BCHW)) - _unit(_precise(y_BCHW))).square().sum(dim=1).mean()


def contextual(x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
    """The contextual loss -log CX(x, y) (Mechrez et al. 2018, equations 1-5), averaged over images and
    summed over layers. It compares which features occur, not where.

    x, y: layer name to features (B,C,H,W), x of the reconstruction, y of the target. Returns a scalar.
    Memory: B·min(HW, MAX_POSITIONS)² elements per layer.
    """
    losses = [-torch.log(contextual_similarity(x[name], y[name]) + EPSILON).mean() for name in x]
    return torch.stack(losses).sum()


def contextual_similarity(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """CX(x, y) in (0, 1] per image (B,): for every position of y the best of x's normalised affinities,
    averaged. Both sets are centred by the mean of y's own image, so images do not depend on their batch."""
    with full_precision(x_BCHW.device):
        x_BCN = thin(_precise(x_BCHW)).flatten(2)
        y_BCM = thin(_precise(y_BCHW)).flatten(2)
        centre_BC1 = y_BCM.mean(dim=2, keepdim=True)
        cosine_BNM = _unit(x_BCN - centre_BC1).transpose(1, 2) @ _unit(y_BCM - centre_BC1)
        # Rounding puts cosines slightly above 1, and a negative distance would turn the order around.
        d_BNM = (1 - cosine_BNM).clamp_min(0)
        if HALVED_COSINE:
            d_BNM = d_BNM / 2
        relative_BNM = d_BNM / (d_BNM.amin(dim=2, keepdim=True) + EPSILON)
        # w_ij / sum_k w_ik with w = exp((1 - d) / h) is a softmax over y's positions, and cannot overflow.
        affinity_BNM = torch.softmax((1 - relative_BNM) / BANDWIDTH, dim=2)
        return affinity_BNM.amax(dim=1).mean(dim=1)


def thinning(height: int, width: int) -> int:
    """The stride at which a map of height × width keeps at most MAX_POSITIONS positions."""
    stride = max(1, math.floor(math.sqrt(height * width / MAX_POSITIONS)))
    while math.ceil(height / stride) * math.ceil(width / stride) > MAX_POSITIONS:
        stride += 1
    return stride


def thin(x_BCHW: Tensor) -> Tensor:
    """Every `thinning`-th row and column: no randomness, and the same positions in both maps."""
    stride = thinning(x_BCHW.shape[-2], x_BCHW.shape[-1])
    return x_BCHW[..., ::stride, ::stride]


def _unit(x_BC: Tensor) -> Tensor:
    # rsqrt of a sum that is never 0: features of a constant image have a finite gradient too.
    return x_BC * torch.rsqrt(x_BC.square().sum(dim=1, keepdim=True) + _NORM_EPSILON)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
