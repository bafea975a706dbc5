"""Settings of the tasks: the sections `probe` and `measure`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from ablator.contracts.settings import settings


@settings
class ProbeSettings:
    """How features of a frozen backbone are probed. Only with task linear_probe, which always has it."""

    lr_factors: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1.0,)
    """One linear head is trained for each of these learning rates, as multiples of train.lr; the best head
    on the validation set is the result."""
    views: Annotated[int, Ge(1)] | None = None
    """Augmented views of every image whose features are computed once and kept: epoch e trains on view e mod
    views. Null: a new view every epoch, and none is kept. Where augmentation changes nothing it is 1."""
    cache: Literal["fp32", "fp16"] = "fp32"
    """Type of the features that are kept in memory, images · views · channels of them."""


@settings
class MeasureSettings:
    """Which operator is timed, and on which maps. Only with task inference_time, which always has it."""

    operator: Literal["self_attention", "moto"] = "self_attention"
    """self_attention: between all positions, softmax(QKᵀ)V written out; moto: as the section moto says."""
    sizes: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (224, 384, 512, 1024)
    """Sides of the square image, in pixels; each is measured by itself."""
    stride: Annotated[int, Ge(1)] = 2
    """Image pixels per position of the map along one axis."""
    channels: Annotated[int, Ge(1)] = 16
    """Channels of the map."""
    batch: Annotated[int, Ge(1)] = 1
    """Maps at once."""
    warmup: Annotated[int, Ge(0)] = 10
    """Passes before the first that counts."""
    repeats: Annotated[int, Ge(1)] = 50
    """Passes that count; the result is their median."""
    threads: Annotated[int, Ge(1)] = 1
    """Threads of a processor; a GPU ignores them."""
    memory_gb: Annotated[float, Gt(0)] | None = None
    """Memory that a pass may take, in units of 2^30 bytes. One that needs more is not started, and its result
    is OOM. Null: what is free on a processor; a GPU tries."""
    device: str | None = None
    """Name of the processor or GPU that is measured, which is part of the trial's identity. Null: this
    machine's."""


def kept_views(probe: ProbeSettings, epochs: int, *, fixed: bool) -> int | None:
    """How many views of every image are encoded once and kept; None where each epoch encodes a view of its
    own, which is used once and needs no memory. `fixed`: augmentation changes nothing, so that all views are
    equal and one is enough."""
    if fixed:
        return 1
    return probe.views if probe.views is not None and probe.views < epochs else None
