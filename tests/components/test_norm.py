"""The tokenizer norms of Table 6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn

from ablator.components.norm import attach_norm
from ablator.components.settings import NormSettings
from ablator.contracts.protocols import Seams
from ablator.registry import FAMILIES


@pytest.mark.parametrize(("kind", "dims"), [("layer", (1,)), ("batch", (0, 2, 3)), ("instance", (2, 3))])
@pytest.mark.parametrize("family", FAMILIES.names())
def test_normalises_the_projections_output(
    tiny: Callable[..., tuple[nn.Module, Seams]],
    family: str,
    kind: Literal["layer", "batch", "instance"],
    dims: tuple[int, ...],
) -> None:
    images_BCHW = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 3 + 1
    model, seams = tiny(family)
    model.eval()  # a tokenizer may have dropout
    plain_BCHW = seams.tokenizer().projection(images_BCHW)
    change = attach_norm(seams, NormSettings(kind=kind))
    assert change.places == (seams.tokenizer().name,)
    model.get_submodule(f"{seams.tokenizer().name}.appended").train()
    out_BCHW = seams.tokenizer().projection(images_BCHW)
    mean = plain_BCHW.mean(dims, keepdim=True)
    std = (plain_BCHW.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(out_BCHW, (plain_BCHW - mean) / std, rtol=1e-4, atol=1e-4)
    assert model(images_BCHW).shape == (4, 5)
