"""The model that a trial trains: a backbone, what components put into it, and its objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ablator.contracts.protocols import Penalised


class Tap(nn.Module):
    """Keeps what passes, in training, until it is taken once. Holds no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor | None = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map unchanged; remember it while training."""
        if self.training:
            self.value = x_BCHW
        return x_BCHW

    def take(self) -> Tensor:
        """The map of the last forward pass; a tap is emptied by taking, so that nothing outlives its step."""
        assert self.value is not None, "the tap is read after a training forward pass"
        value, self.value = self.value, None
        return value


class TrialModel(nn.Module):
    """A backbone and its objectives as one module, so that gradients of both are reduced together.

    Shapes: images (B, 3, H, W), normalised; output (B, K). In eval mode there are no terms.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        objectives: Mapping[str, nn.Module],
        tap: Tap | None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        partly_unreached: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.partly_unreached = partly_unreached
        """Whether some weights get no gradient, such as a component behind the last block of a model with
        a class token; gradient exchange between workers must know."""
        self.objectives = nn.ModuleDict(objectives)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        # Paths instead of modules: a deep copy (the weight average) then finds its own parts.
        self._tap_path = _path_of(backbone, tap)
        self._penalty_paths = [
            path for path, module in backbone.named_modules() if isinstance(module, Penalised)
        ]

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Output and extra loss terms, weights included."""
        output: Tensor = self.backbone(images_BCHW)
        if not self.training:
            return output, {}
        terms: dict[str, Tensor] = {}
        if self._tap_path is not None:
            taps = {"tokens": cast(Tap, self.backbone.get_submodule(self._tap_path)).take()}
            images_01 = (images_BCHW * self.std + self.mean).clamp(0, 1)
            for objective in self.objectives.values():
                terms.update(objective(taps, images_01))
        for path in self._penalty_paths:
            penalty = cast(Penalised, self.backbone.get_submodule(path)).penalty()
            terms["penalty"] = terms["penalty"] + penalty if "penalty" in terms else penalty
        return output, terms

    def no_weight_decay(self) -> set[str]:
        """The backbone's own exceptions from weight decay, under this module's names."""
        own = getattr(self.backbone, "no_weight_decay", None)
        return {f"backbone.{name}" for name in own()} if own is not None else set()


def _path_of(root: nn.Module, wanted: nn.Module | None) -> str | None:
    if wanted is None:
        return None
    for path, module in root.named_modules():
        if module is wanted:
            return str(path)
    raise AssertionError("the tap is part of the backbone")
