"""Build a trial without memory or time: what it would weigh, and whether it can be built at all."""

from __future__ import annotations

import dataclasses
import math

import torch
from timm.layers import set_fused_attn
from timm.layers.config import use_fused_attn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ablator.assembly.build import assemble
from ablator.assembly.operator import build_measurement, build_operator
from ablator.backbones.starting import TrialWeights
from ablator.contracts.protocols import DataInfo
from ablator.plan.spec import TrialSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """What a trial's model weighs."""

    parameters: int
    """Of the deployed model: backbone and components, with one head where heads are tried side by side."""
    training_parameters: int
    """With the decoders and further heads that only training needs."""
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


def check(spec: TrialSpec, info: DataInfo, start: TrialWeights | None = None, *, files: bool = False) -> Size:
    """Build `spec` on the meta device and count. Whether the weights fit that it starts from is checked for
    those of a trial (of `meta_start`), and with `files` for those in a file, which is read. Raises the error
    that building it would raise."""
    fused = bool(use_fused_attn())
    # The counter sees matrix products only where attention is written out.
    set_fused_attn(False)
    try:
        with torch.device("meta"):
            assembly = assemble(spec, info, start, files=files)
            side = spec.data.image_size
            image_BCHW = torch.empty(1, 3, side, side)
            counter = FlopCounterMode(display=False)
            # The counter follows gradients where there are any to follow, and meta tensors have none.
            assembly.model.eval().requires_grad_(False)
            with torch.no_grad(), counter:
                features, _ = assembly.model(image_BCHW)
                if assembly.heads is not None:
                    assembly.heads[0](features)
    finally:
        set_fused_attn(fused)
    backbone, model, heads = assembly.model.backbone, assembly.model, assembly.heads
    return Size(
        parameters=_weight(backbone) + (_weight(heads[0]) if heads is not None else 0),
        training_parameters=_weight(model) + (_weight(heads) if heads is not None else 0),
        gmacs=counter.get_total_flops() / 2e9,
        notes=assembly.notes,
    )


def meta_start(spec: TrialSpec, info: DataInfo, origin: str) -> TrialWeights:
    """Names and sizes of the weights that a trial of `spec` will have trained."""
    with torch.device("meta"):
        return TrialWeights(state=assemble(spec, info, files=False).model.state_dict(), origin=origin)


def check_operator(spec: TrialSpec) -> Size:
    """The same for a `spec` that measures an operator; operations are of the first size's map."""
    assert spec.measure is not None
    task, size = build_measurement(spec), spec.measure.sizes[0]
    counter = FlopCounterMode(display=False)
    with torch.device("meta"):
        operator = build_operator(spec).requires_grad_(False)
        with torch.no_grad(), counter:
            operator(torch.empty(task.map_shape(size)))
    weight = _weight(operator)
    return Size(
        parameters=weight,
        training_parameters=weight,
        gmacs=counter.get_total_flops() / 2e9,
        notes=(f"GFLOPs are those at {size}²",),
    )


def _weight(module: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in module.parameters())
