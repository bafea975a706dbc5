"""What does not fit into memory is done in smaller parts: a step in more micro-batches, and what needs no
gradient in pieces.

Shape legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ablator.contracts.protocols import World
from ablator.contracts.train import TrainSettings

_SAID = ("CUDA out of memory", "CUDA error: out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left. That of the machine is another matter: what takes too much of it
    is ended by the system."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID)


def with_accumulate(settings: TrainSettings, accumulate: int | None) -> TrainSettings:
    """The same step in `accumulate` micro-batches; None: as the settings say."""
    return settings if accumulate is None else dataclasses.replace(settings, accumulate=accumulate)


def halved(settings: TrainSettings, world: World) -> int | None:
    """The `accumulate` of micro-batches of half the size, with which a step still sees the same images; None
    where there are none: a micro-batch of odd size, or one that mixing could not pair any more."""
    micro = settings.batch_size // (settings.accumulate * world.size)
    even = 4 if settings.mixup > 0 or settings.cutmix > 0 else 2
    return None if micro % even else 2 * settings.accumulate


def over_micro_batches(model: nn.Module, settings: TrainSettings) -> tuple[str, ...]:
    """What is drawn, or measured, over the images of a micro-batch, so that a step in other micro-batches is
    not the same step: as far as settings and torch's and timm's modules tell."""
    modules = list(model.modules())
    found = {
        "mixup and CutMix": settings.mixup > 0 or settings.cutmix > 0,
        "dropout": any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in modules),
        "drop path": any(getattr(part, "drop_prob", 0.0) for part in modules),
        "batch statistics": any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in modules),
    }
    return tuple(name for name, there in found.items() if there)


def memory_note(model: nn.Module, asked: TrainSettings, used: TrainSettings, world: World) -> str:
    """What a record says of a trial that was trained with a larger `accumulate` than asked for."""
    before, after = (s.batch_size // (s.accumulate * world.size) for s in (asked, used))
    differing = over_micro_batches(model, asked)
    if differing:
        same = f"{', '.join(differing)} differ from a run with {before} at once"
    else:
        same = "nothing that is known to depend on it is drawn or measured, so only rounding differs"
    where = " on each worker" if world.size > 1 else ""
    return (
        f"{before} images at once{where} did not fit into the GPU's memory: trained with {after} at once and "
        f"train.accumulate {used.accumulate} in place of {asked.accumulate}, the same {asked.batch_size} a "
        f"step; {same}"
    )


class Pieces:
    """Calls a function without gradients on as many images at once as fit: where memory is out, on half as
    many, and on no more than that from then on."""

    def __init__(self) -> None:
        self.at_once: int | None = None
        """The most images at once; None where all fitted so far."""

    def __call__(self, call: Callable[[Tensor], Tensor], images_BCHW: Tensor) -> Tensor:
        """`call(images_BCHW)`, whose results for pieces are joined. Raises what `call` raises where not even
        one image fits."""
        while True:
            size = min(self.at_once or len(images_BCHW), len(images_BCHW))
            try:
                if size == len(images_BCHW):
                    return call(images_BCHW)
                return torch.cat([call(piece) for piece in torch.split(images_BCHW, size)])
            except RuntimeError as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
            # Only here has the error let go of what it holds.
            self.at_once = size // 2
            torch.cuda.empty_cache()

    def notes(self, what: str) -> tuple[str, ...]:
        """A footnote, where memory was out."""
        if self.at_once is None:
            return ()
        return (f"{what} with {self.at_once} images at once, as more did not fit into the GPU's memory",)
