"""What is measured on maps of tokens: diversity, dead and saturated maps, entities.

The paper (arXiv 2212.11115) shows token diversity and first-layer features without defining either, so that
the definitions here are this project's; each stands in its function.

Shape legend: B images, N tokens, C channels, H W height and width of the map, E entities.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEAD = 0.01
"""A map is dead where its deviation is at most this part of the root mean square over all maps'."""
SATURATED = 0.5
"""A map is saturated where more than this part of its values lies at one end of its range."""
END = 0.01
"""How much of a map's range counts as its end."""
_NOISE = 1e-6
"""Deviation, as part of the values' size, below which fp32 knows no difference."""


def tokens_of(map_BCHW: Tensor) -> Tensor:
    """(B,N,C) in float64: the sums of several thousand float32 products are compared with zero here."""
    return map_BCHW.flatten(2).transpose(1, 2).double()


def cosine_diversity(tokens_BNC: Tensor) -> Tensor:
    """(B,): 1 − the mean cosine over all pairs of different tokens. 0 for tokens of one direction, at most
    1 + 1/(N−1); a token of zeros has cosine 0 with every other. Needs N of at least 2."""
    count = tokens_BNC.shape[1]
    assert count > 1, "one token has no pair"
    unit_BNC = torch.nn.functional.normalize(tokens_BNC, dim=2)
    ones_B = unit_BNC.square().sum((1, 2))
    pairs_B = unit_BNC.sum(1).square().sum(1) - ones_B
    return 1 - pairs_B / (count * (count - 1))


def effective_rank(tokens_BNC: Tensor) -> Tensor:
    """(B,): exp of the entropy of the singular values of X (N,C), normalised to the sum 1 (Roy & Vetterli,
    EUSIPCO 2007). From 1 to min(N, C); X is not centred, and 1 for zeros."""
    values_BR = torch.linalg.svdvals(tokens_BNC)
    share_BR = values_BR / values_BR.sum(1, keepdim=True).clamp_min(torch.finfo(values_BR.dtype).tiny)
    rank_B: Tensor = torch.special.entr(share_BR).sum(1).exp()
    return rank_B


def residual(tokens_BNC: Tensor) -> Tensor:
    """(B,): ‖X − 1x̄ᵀ‖ / ‖X‖ in Frobenius norms, with x̄ the mean token; from 0 (equal tokens) to 1. 0 for
    zeros."""
    whole_B = torch.linalg.vector_norm(tokens_BNC, dim=(1, 2))
    apart_B = torch.linalg.vector_norm(tokens_BNC - tokens_BNC.mean(1, keepdim=True), dim=(1, 2))
    ratio_B: Tensor = apart_B / whole_B.clamp_min(torch.finfo(whole_B.dtype).tiny)
    return ratio_B


class MapStatistics:
    """Counts dead and saturated maps over a data set in two passes: `observe` every batch, then `count_ends`
    every batch."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._squares = torch.zeros(channels, dtype=torch.float64)
        self._shift: Tensor | None = None
        self._low = torch.full((channels,), torch.inf, dtype=torch.float64)
        self._high = torch.full((channels,), -torch.inf, dtype=torch.float64)
        self._at_low = torch.zeros(channels, dtype=torch.int64)
        self._at_high = torch.zeros(channels, dtype=torch.int64)

    def observe(self, map_BCHW: Tensor) -> None:
        """First pass."""
        values_CX = _by_channel(map_BCHW)
        if self._shift is None:  # moments around a value of the map itself lose no digits
            self._shift = values_CX[:, 0].clone()
        apart_CX = values_CX - self._shift[:, None]
        self._count += values_CX.shape[1]
        self._sum += apart_CX.sum(1)
        self._squares += apart_CX.square().sum(1)
        self._low = torch.minimum(self._low, values_CX.amin(1))
        self._high = torch.maximum(self._high, values_CX.amax(1))

    def count_ends(self, map_BCHW: Tensor) -> None:
        """Second pass, over the same batches."""
        values_CX = _by_channel(map_BCHW)
        margin_C = END * (self._high - self._low)
        self._at_low += (values_CX <= (self._low + margin_C)[:, None]).sum(1)
        self._at_high += (values_CX >= (self._high - margin_C)[:, None]).sum(1)

    def dead(self) -> Tensor:
        """(C,) bool: near-constant maps. Their standard deviation over all positions of all images is at
        most DEAD of the root mean square of all maps' deviations, or of the size of rounding."""
        variance_C = (self._squares / self._count - (self._sum / self._count).square()).clamp_min(0)
        size = torch.maximum(self._low.abs(), self._high.abs()).square().mean().sqrt()
        floor = torch.maximum(DEAD * variance_C.mean().sqrt(), _NOISE * size)
        return variance_C.sqrt() <= floor

    def saturated(self) -> Tensor:
        """(C,) bool: maps that are not dead, and of whose values more than SATURATED lie within END of the
        range at its lower end, or at its upper end."""
        most_C = torch.maximum(self._at_low, self._at_high)
        return (most_C > SATURATED * self._count) & ~self.dead()


def _by_channel(map_BCHW: Tensor) -> Tensor:
    return map_BCHW.transpose(0, 1).flatten(1).double().cpu()


class LayoutStatistics:
    """How a layout divides a data set, batch by batch."""

    def __init__(self, entities: int) -> None:
        self._count = torch.zeros(entities, dtype=torch.float64)
        self._bright = torch.zeros(entities, dtype=torch.float64)
        self._squares = 0.0
        self._largest = 0.0

    def observe(self, layout_BEHW: Tensor, images_B3HW: Tensor) -> None:
        """`images_B3HW` in [0, 1]; their brightness is averaged over each position's pixels."""
        height, width = layout_BEHW.shape[-2:]
        bright_X = torch.nn.functional.adaptive_avg_pool2d(images_B3HW.mean(1, keepdim=True), (height, width))
        bright_X = bright_X.flatten().double().cpu()
        largest_X, entity_X = (found.flatten().cpu() for found in layout_BEHW.float().max(1))
        self._count += torch.bincount(entity_X, minlength=len(self._count))
        self._bright.index_add_(0, entity_X, bright_X)
        self._squares += float(bright_X.square().sum())
        self._largest += float(largest_X.double().sum())

    @property
    def shares(self) -> tuple[float, ...]:
        """By entity, the part of all positions where its share is the largest; they sum to 1."""
        return tuple((self._count / self._count.sum()).tolist())

    @property
    def largest(self) -> float:
        """Mean over positions of the largest share, from 1/E to 1."""
        return self._largest / float(self._count.sum())

    @property
    def brightness(self) -> float:
        """Part of the variance of the positions' brightness that lies between entities (η², the correlation
        ratio), from 0 to 1; 0 for images of one brightness."""
        count = float(self._count.sum())
        mean = float(self._bright.sum()) / count
        total = self._squares / count - mean**2
        used = self._count > 0
        between = float((self._bright[used].square() / self._count[used]).sum()) / count - mean**2
        return min(1.0, max(0.0, between / total)) if total > 1e-12 else 0.0
