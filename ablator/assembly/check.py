"""Build a trial without memory or time: what it would weigh, and whether it can be built at all."""

from __future__ import annotations

import dataclasses
import math

import torch
from timm.layers import set_fused_attn
from timm.layers.config import use_fused_attn
from torch.utils.flop_counter import FlopCounterMode

from ablator.assembly.build import assemble
from ablator.contracts.protocols import DataInfo
from ablator.plan.spec import TrialSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """What a trial's model weighs."""

    parameters: int
    """Of the deployed model: backbone and components."""
    training_parameters: int
    """With the decoders that only training needs."""
    gmacs: float
    """Billions of multiply-adds for one image (what papers print as GFLOPs), attention included."""
    notes: tuple[str, ...] = ()
    """Footnotes from components and objectives."""

    def as_dict(self) -> dict[str, float]:
        """The numbers, as a record keeps them."""
        return {
            "parameters": self.parameters,
            "training_parameters": self.training_parameters,
            "gmacs": self.gmacs,
        }


def check(spec: TrialSpec, info: DataInfo) -> Size:
    """Build `spec` on the meta device and count. Raises the error that building it would raise."""
    fused = bool(use_fused_attn())
    # The counter sees matrix products only where attention is written out.
    set_fused_attn(False)
    try:
        with torch.device("meta"):
            assembly = assemble(spec, info)
            side = spec.data.image_size
            image_BCHW = torch.empty(1, 3, side, side)
            counter = FlopCounterMode(display=False)
            # The counter follows gradients where there are any to follow, and meta tensors have none.
            assembly.model.eval().requires_grad_(False)
            with torch.no_grad(), counter:
                assembly.model(image_BCHW)
    finally:
        set_fused_attn(fused)
    model = assembly.model
    deployed = sum(math.prod(p.shape) for p in model.backbone.parameters())
    everything = sum(math.prod(p.shape) for p in model.parameters())
    return Size(
        parameters=deployed,
        training_parameters=everything,
        gmacs=counter.get_total_flops() / 2e9,
        notes=assembly.notes,
    )
