"""The only place where names become objects."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ablator.assembly.model import Tap, TrialModel
from ablator.backbones.families import build as build_backbone
from ablator.contracts.protocols import DataInfo, Task
from ablator.errors import SeamError
from ablator.plan.spec import TrialSpec
from ablator.registry import COMPONENTS, OBJECTIVES, TASKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """A trial's objects, fresh."""

    model: TrialModel
    task: Task
    notes: tuple[str, ...]
    """Footnotes from components and objectives."""
    changes: dict[str, tuple[str, ...]]
    """Component name to the seams that it changed."""


def assemble(spec: TrialSpec, info: DataInfo) -> Assembly:
    """Build the model and the task of `spec` for the data set described by `info`.

    Every part draws its initial weights from a stream of its own, derived from the trial's seed and
    the part's name: the backbone's weights are the same whatever is put into it. Works under
    `torch.device("meta")`.

    Raises SettingError, UnknownName or SeamError where the spec cannot be built.
    """
    with _stream(spec.seed, "backbone"):
        backbone, seams = build_backbone(
            spec.model, num_classes=len(info.classes), image_size=spec.data.image_size
        )
    notes: list[str] = []
    changes: dict[str, tuple[str, ...]] = {}
    for name, settings in spec.components.items():
        with _stream(spec.seed, name):
            change = COMPONENTS.get(name).load()(seams, settings)
        if not change.places:
            raise SeamError(f"component {name!r} changed nothing in {spec.model.name!r} ({seams.family})")
        changes[name] = change.places
        notes.extend(change.notes)
    objectives: dict[str, nn.Module] = {}
    for name, settings in spec.objectives.items():
        with _stream(spec.seed, name):
            objective: Any = OBJECTIVES.get(name).load()(seams, settings)
        objectives[name] = objective
        notes.extend(objective.notes)
    tap = Tap() if objectives else None
    if tap is not None:
        seams.tokenizer().append(tap)
    changed = {place for places in changes.values() for place in places}
    model = TrialModel(
        backbone,
        objectives=objectives,
        tap=tap,
        mean=info.mean,
        std=info.std,
        partly_unreached=any(s.name in changed and not s.reaches_head for s in seams.blocks()),
    )
    return Assembly(
        model=model, task=build_task(spec, info), notes=tuple(dict.fromkeys(notes)), changes=changes
    )


def build_task(spec: TrialSpec, info: DataInfo) -> Task:
    """What the output of `spec`'s model means. Raises SettingError."""
    task: Task = TASKS.get(spec.task).load()(
        num_classes=len(info.classes), label_smoothing=spec.train.label_smoothing
    )
    return task


@contextmanager
def _stream(seed: int, part: str) -> Iterator[None]:
    """Run the body in a random stream of its own and leave the surrounding one untouched."""
    digest = hashlib.sha256(f"{seed}/init/{part}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield
