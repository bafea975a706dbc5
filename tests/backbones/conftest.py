"""Logits that no random stream has a part in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def formula_logits() -> Callable[[nn.Module, int], Tensor]:
    """`formula_logits(model, image_size)`: the logits of one image, with weights and image from sines. Fixed
    positions stay."""

    def compute(model: nn.Module, image_size: int) -> Tensor:
        with torch.no_grad():
            for index, (name, weight) in enumerate(sorted(model.named_parameters())):
                steps = torch.arange(weight.numel(), dtype=torch.float64)
                values = 0.08 * torch.sin(steps * 0.7 + index) + 0.02 * torch.cos(steps * 0.013)
                scale_of_norm = name.endswith("weight") and weight.ndim == 1
                if name != "pos_embed":
                    weight.copy_(values.view_as(weight) + float(scale_of_norm))
            steps = torch.arange(3 * image_size**2, dtype=torch.float64)
            image_BCHW = torch.sin(steps * 0.37).float().view(1, 3, image_size, image_size)
            logits: Tensor = model.eval()(image_BCHW)[0]
        return logits

    return compute
