"""Linear probe: linear heads on the features of a frozen backbone, one for each learning rate.

The protocol of MoCo v3 (Chen et al., arXiv 2104.02057): the backbone keeps its weights, in eval mode, and a
linear classifier with a swept learning rate is trained on its pooled features. Here classifiers that differ
in nothing but their learning rate are trained side by side; none of them feels the others.

Shape legend: B batch, D features, R heads (one per learning rate), K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ablator.errors import SettingError
from ablator.tasks import classification
from ablator.tasks.settings import ProbeSettings

INITIAL_DEVIATION = 0.01
"""Of a fresh head's weights; its biases are 0 (as in the protocol's code)."""


def build(
    num_classes: int, label_smoothing: float, settings: ProbeSettings | None = None, lr: float = 1.0
) -> LinearProbe:
    """The probe into `num_classes`; `lr` is train.lr, of which `settings.lr_factors` are multiples.

    Raises SettingError for a smoothing outside [0, 1) and for two factors that come to the same rate.
    """
    settings = settings or ProbeSettings()
    rates = [f"{lr * factor:g}" for factor in settings.lr_factors]
    twice = sorted({rate for rate in rates if rates.count(rate) > 1})
    if twice:
        raise SettingError(
            f"probe.lr_factors {list(settings.lr_factors)} come to the learning rate {', '.join(twice)} more "
            "than once; each factor is there once"
        )
    return LinearProbe(classification.Classification(num_classes, label_smoothing), settings, rates)


class LinearProbe:
    """Classification by the best of R heads; outputs are the heads' logits side by side, (B, R·K)."""

    metric: str = "top1"
    mode: Literal["max", "min"] = "max"

    def __init__(
        self, single: classification.Classification, settings: ProbeSettings, rates: Sequence[str]
    ) -> None:
        self._single, self._factors, self._rates = single, settings.lr_factors, tuple(rates)
        own = ("best_lr", *(f"top1_lr_{rate}" for rate in rates))
        self.measures: tuple[str, ...] = (*single.measures, *own)

    @property
    def notes(self) -> tuple[str, ...]:
        """Footnotes for the table."""
        if len(self._rates) == 1:
            return ()
        return (
            f"linear probe: the best of the learning rates {', '.join(self._rates)} on the validation "
            "images, which are also those of the result, as is the protocol's practice",
        )

    def heads(self, features: int) -> LinearHeads:
        """Fresh heads on `features` channels, all with the same weights from torch's random state."""
        return LinearHeads(features, self._single.num_classes, self._factors)

    def loss(self, output: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        """`{"ce_lr_<rate>": scalar}` of every head: classification's loss on its logits."""
        return {
            f"ce_lr_{rate}": self._single.loss(logits_BK, target)["ce"]
            for rate, logits_BK in zip(self._rates, self._split(output), strict=True)
        }

    def metrics(self, device: Any) -> ProbeMetrics:
        """A fresh accumulator on `device`."""
        return ProbeMetrics([self._single.metrics(device) for _ in self._rates], self._rates)

    def _split(self, output: Tensor) -> Sequence[Tensor]:
        return output.chunk(len(self._rates), dim=1)


class ProbeMetrics:
    """What classification measures, of the head with the highest top1 (the lowest loss among equals);
    `best_lr`, that head's learning rate; and every head's `top1_lr_<rate>`."""

    def __init__(self, heads: Sequence[classification.ClassificationMetrics], rates: Sequence[str]) -> None:
        self._heads, self._rates = heads, rates

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch: the heads' logits (B, R·K) and labels (B,)."""
        for head, logits_BK in zip(self._heads, output.chunk(len(self._heads), dim=1), strict=True):
            head.update(logits_BK, target)

    def compute(self) -> dict[str, float]:
        """The metrics over all workers; every worker has to call it."""
        found = [head.compute() for head in self._heads]
        best = max(range(len(found)), key=lambda head: (found[head]["top1"], -found[head]["loss"]))
        every = {f"top1_lr_{rate}": values["top1"] for rate, values in zip(self._rates, found, strict=True)}
        return {**found[best], "best_lr": float(self._rates[best]), **every}


class Head(nn.Linear):
    """One linear classifier, trained at `lr_scale` times the learning rate."""

    def __init__(self, features: int, classes: int, lr_scale: float) -> None:
        super().__init__(features, classes)
        self.lr_scale = lr_scale


class LinearHeads(nn.ModuleList):
    """R heads over the same features. Separate matrix products instead of a wide one, so that the numbers of
    a head are the same whatever stands beside it."""

    def __init__(self, features: int, classes: int, lr_scales: Sequence[float]) -> None:
        # Drawn before torch gives each head weights of its own, and so the same however many there are.
        weight_KD = INITIAL_DEVIATION * torch.randn(classes, features)
        super().__init__(Head(features, classes, scale) for scale in lr_scales)
        with torch.no_grad():
            for head in self:
                assert isinstance(head, Head)
                head.weight.copy_(weight_KD)
                head.bias.zero_()

    def forward(self, features_BD: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits side by side (B, R·K), and no extra terms."""
        return torch.cat([head(features_BD) for head in self], dim=1), {}
