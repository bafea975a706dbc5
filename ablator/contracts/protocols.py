"""What the rooms expect of each other. Torch is only needed for the types.

Shape legend: B batch, C channels, H W height and width of a map, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

Layout = Literal["NCHW", "NHWC", "BNC"]
"""How a seam's output lies in memory: a map, a map with channels last, or a sequence of tokens."""


# ---- backbones ------------------------------------------------------------------------------


class Seam(Protocol):
    """One place of a backbone where something can be put. Whatever is put there takes and gives NCHW;
    the seam converts from and to the layout around it and leaves prefix (class) tokens alone."""

    name: str
    """Dotted path of the module in the backbone, for messages."""
    channels: int
    """C of the map that passes here."""
    layout: Layout
    """The layout around the seam."""
    reaches_head: bool
    """Whether the classifier's output depends on this map; a head on the class token leaves the last
    block's map unused."""

    def append(self, module: nn.Module) -> None:
        """Run `module` (NCHW to NCHW, same shape) on what passes here, after what was appended before."""
        ...


class TokenizerSeam(Seam, Protocol):
    """The first embedding: from image to map of tokens."""

    in_channels: int
    """Channels of the image."""
    stride: int
    """Image pixels per token along one axis."""

    @property
    def projection(self) -> nn.Module:
        """The module that turns the image (NCHW) into the map (NCHW)."""
        ...

    def replace(self, module: nn.Module) -> None:
        """Put another projection there: image NCHW to map NCHW with `channels` channels and the same grid."""
        ...


class Seams(Protocol):
    """Every seam of one built backbone. Asking for one that the family does not have raises
    `errors.SeamError`, which names the family, the seam, and what there is instead."""

    family: str
    model: nn.Module
    image_size: tuple[int, int]

    def tokenizer(self) -> TokenizerSeam:
        """The first embedding."""
        ...

    def embeddings(self) -> Sequence[Seam]:
        """Outputs of every stage's embedding, the first one included (one for plain ViTs)."""
        ...

    def blocks(self) -> Sequence[Seam]:
        """Outputs of the transformer blocks in order of depth, over all stages."""
        ...


class Family(Protocol):
    """One backbone family. Registered in `registry.FAMILIES`; the module-level object of its file."""

    name: str

    def covers(self, model_name: str) -> bool:
        """Whether `model_name` belongs to this family."""
        ...

    def build(
        self,
        model_name: str,
        *,
        num_classes: int,
        image_size: int,
        drop_path: float,
        options: Mapping[str, Any],
    ) -> nn.Module:
        """A fresh model from torch's current random state; `options` go to timm.create_model."""
        ...

    def seams(self, model: nn.Module, image_size: int) -> Seams:
        """The seams of a model that `build` made."""
        ...


# ---- components -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """What a component did to a model. `places` empty is an error: the component had no effect."""

    places: tuple[str, ...]
    """Names of the seams that were changed."""
    notes: tuple[str, ...] = ()
    """Footnotes for the table."""
    incidents: tuple[str, ...] = ()
    """What happened and changes no number."""


class Component(Protocol):
    """Registered in `registry.COMPONENTS`: a function that changes a freshly built backbone in place.
    It runs in its own random stream, so that shared weights do not depend on it."""

    def __call__(self, seams: Seams, settings: Any) -> Change: ...


@runtime_checkable
class Penalised(Protocol):
    """A module anywhere in the model that adds a term to the loss, such as an orthogonality penalty."""

    def penalty(self) -> Tensor:
        """A scalar, weight included."""
        ...


# ---- objectives -----------------------------------------------------------------------------


class Objective(Protocol):
    """An extra loss. `registry.OBJECTIVES` holds functions
    `build(seams: Seams, settings) -> nn.Module` that make one; the module also has this attribute
    and its forward this signature."""

    notes: tuple[str, ...]
    """Footnotes for the table, such as which feature network stands in for another."""

    def __call__(self, taps: Mapping[str, Tensor], images_BCHW: Tensor) -> Mapping[str, Tensor]:
        """Named scalar terms, weights included. `taps["tokens"]` is the tokenizer's output map (NCHW);
        `images_BCHW` are the images that the model saw, in [0, 1]."""
        ...


# ---- data -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a data set before its images are read."""

    name: str
    classes: tuple[str, ...]
    train_size: int
    """Images after taking the fraction."""
    val_size: int
    fingerprint: str
    """Hash of the content (or, for trees of files, of every relative path and size)."""
    licence: str
    mean: tuple[float, float, float]
    """Per channel, of images in [0, 1]: what the batches were normalised with."""
    std: tuple[float, float, float]


class Batches(Protocol):
    """Batches of one data set for one worker. Images are float32 NCHW with 3 channels, normalised."""

    info: DataInfo

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches per epoch for this worker (the last short one is dropped), at least 1."""
        ...

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Micro-batches `start`.. of the epoch: images (B,3,H,W), labels (B,) int64. Which images, their
        order and their augmentation depend on (seed, epoch, position) alone: never on what ran before,
        on the number of loader processes, or on the arm."""
        ...

    def evaluate(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This worker's share of the validation images, in order, each exactly once over all workers."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Footnotes, such as how many corrupt images were skipped and which."""
        ...


# ---- tasks ----------------------------------------------------------------------------------


class Metrics(Protocol):
    """Accumulates over one evaluation, over all workers."""

    def update(self, output: Tensor, target: Tensor) -> None: ...

    def compute(self) -> dict[str, float]:
        """Metric name to value, already reduced over workers (a collective call)."""
        ...


class Task(Protocol):
    """What the model's output means. Registered in `registry.TASKS` as `build(...) -> Task`."""

    metric: str
    """The main metric's name."""
    mode: Literal["max", "min"]
    """Whether more is better."""
    measures: tuple[str, ...]
    """Names of all that `metrics` computes."""

    def loss(self, output: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        """Named scalar training losses; the target is labels (B,) or soft labels (B, K)."""
        ...

    def metrics(self, device: Any) -> Metrics:
        """A fresh accumulator on `device`."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A task that leaves the backbone frozen and trains heads of its own on the backbone's features."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Footnotes for the table."""
        ...

    def heads(self, features: int) -> nn.ModuleList:
        """Fresh heads from torch's current random state: features (B, D) in; out as a TrainedModel. The
        first of them is what would be deployed, for counting."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What a measuring task found."""

    metrics: dict[str, float]
    unmeasured: dict[str, str]
    """Metric to the word that stands in its place, such as OOM."""
    notes: tuple[str, ...]
    seconds: float


@runtime_checkable
class Measuring(Protocol):
    """A task that measures an operator instead of training a model."""

    measures: tuple[str, ...]
    """Names of all that it measures."""

    def map_shape(self, size: int) -> tuple[int, int, int, int]:
        """Shape (B, C, H, W) of the map of an image of `size`² pixels."""
        ...

    def measure(self, operator: nn.Module, *, seed: int, device: Any) -> Measured:
        """Measure `operator` (NCHW to NCHW) on `device`; what does not fit into memory is a result."""
        ...


# ---- training -------------------------------------------------------------------------------


class TrainedModel(Protocol):
    """The model that the loop trains: a backbone with its objectives."""

    def __call__(self, images_BCHW: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Output, and extra loss terms (weights included; empty in eval mode)."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Sent after every epoch."""

    epoch: int
    """Epochs done."""
    epochs: int
    metrics: Mapping[str, float]
    """The curve's row: train_loss, lr, and the evaluation's metrics where there was one."""
    step: int
    """Optimiser steps done."""


OnStart = Callable[[int], None]
"""Called on every worker before the first step with the epochs that a checkpoint had finished."""
OnProgress = Callable[[Progress], bool]
"""Called after every epoch on every worker; False ends the trial (pruned or abandoned)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Where this worker stands among the workers of its trial."""

    rank: int = 0
    size: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the loop returns."""

    status: Literal["completed", "diverged", "stopped"]
    """stopped: `on_progress` said so."""
    metrics: dict[str, float]
    curves: tuple[dict[str, float], ...]
    cost: dict[str, float]
    error: str | None = None
    """Where it diverged."""
    notes: tuple[str, ...] = ()
    """Footnotes for the table."""
    incidents: tuple[str, ...] = ()
    """What happened and changes no number."""
