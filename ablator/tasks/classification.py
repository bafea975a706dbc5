"""Image classification: cross-entropy, top-1, top-5.

Shape legend: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torchmetrics import Metric

from ablator.contracts.protocols import Task
from ablator.errors import SettingError

TOP_K = 5


def build(num_classes: int, label_smoothing: float) -> Task:
    """Classification into `num_classes`; `label_smoothing` is the mass spread over all classes in [0, 1).

    Smoothing applies to hard labels only: soft ones (mixup, CutMix) come with it. Raises SettingError.
    """
    if not 0 <= label_smoothing < 1:
        raise SettingError(
            f"train.label_smoothing is at least 0 and below 1 (at 1 no label counts), not {label_smoothing}"
        )
    return Classification(num_classes, label_smoothing)


class Classification:
    """One label per image."""

    metric: str = "top1"
    mode: Literal["max", "min"] = "max"

    def __init__(self, num_classes: int, label_smoothing: float) -> None:
        self.num_classes = num_classes
        self.measures: tuple[str, ...] = ("top1", "top5", "loss") if num_classes > TOP_K else ("top1", "loss")
        self._hard = LabelSmoothingCrossEntropy(smoothing=label_smoothing)
        self._soft = SoftTargetCrossEntropy()

    def loss(self, output: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        """`{"ce": scalar}` in nats and fp32, from logits (B,K) and labels (B,) or soft labels (B,K)."""
        criterion = self._soft if target.ndim == 2 else self._hard
        return {"ce": criterion(output.float(), target)}

    def metrics(self, device: Any) -> ClassificationMetrics:
        """A fresh accumulator on `device`."""
        return ClassificationMetrics(self.num_classes, device)


class ClassificationMetrics:
    """top1 and top5 in percent (top5 only where K > 5) and loss (cross-entropy without smoothing, nats):
    sums over the images of all workers, each divided by their number once."""

    def __init__(self, num_classes: int, device: Any) -> None:
        self.num_classes = num_classes
        self.device = torch.device(device)
        self._sums = _Sums().to(self.device)

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch: logits (B,K) and labels (B,). Waits for no device."""
        self._sums.update(output.float(), target)

    def compute(self) -> dict[str, float]:
        """The metrics over all workers; every worker has to call it."""
        if not self._sums.update_called:  # a worker whose share of the images is empty still takes part
            empty = torch.zeros(0, self.num_classes, device=self.device)
            self.update(empty, torch.zeros(0, dtype=torch.long, device=self.device))
        count, loss, top1, top5 = self._sums.compute().tolist()
        values = {"top1": 100 * top1 / count, "top5": 100 * top5 / count, "loss": loss / count}
        if self.num_classes <= TOP_K:
            del values["top5"]
        return values


class _Sums(Metric):  # type: ignore[misc]  # torchmetrics is read without types
    """Images, summed loss, and hits of the best 1 and the best 5, in one float64 state (4,): counts are
    exact, and one collective moves all of it."""

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, output_BK: Tensor, target_B: Tensor) -> None:
        best = output_BK.topk(min(TOP_K, output_BK.shape[1]), dim=1).indices
        hits = best == target_B[:, None]
        loss_B = nn.functional.cross_entropy(output_BK, target_B, reduction="none")
        batch = (loss_B.double().sum(), hits[:, 0].sum(), hits.sum())
        self.sums[0] += len(target_B)
        self.sums[1:] += torch.stack([value.double() for value in batch])

    def compute(self) -> Tensor:
        return self.sums
