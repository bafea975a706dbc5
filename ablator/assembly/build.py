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
from ablator.backbones.starting import StartingWeights, TrialWeights
from ablator.contracts.protocols import Change, DataInfo, Probing, Seams, Task
from ablator.errors import SeamError, SettingError
from ablator.plan.spec import TrialSpec
from ablator.registry import COMPONENTS, OBJECTIVES, TASKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """A trial's objects, fresh."""

    model: TrialModel
    """Trained on images; with `heads`, frozen, and its output are features."""
    task: Task
    notes: tuple[str, ...]
    """Footnotes from components, objectives, starting weights and the task."""
    changes: dict[str, tuple[str, ...]]
    """Component name to the seams that it changed."""
    heads: nn.ModuleList | None = None
    """Of a task that probes: trained in the model's place, on the model's features."""


def assemble(
    spec: TrialSpec, info: DataInfo, start: TrialWeights | None = None, *, files: bool = True
) -> Assembly:
    """Build the model and the task of `spec` for the data set described by `info`. `start` is what the trial
    trained that `model.weights` names, where it names one.

    Every part draws its initial weights from a stream of its own, derived from the trial's seed and
    the part's name: the backbone's weights are the same whatever is put into it. Works under
    `torch.device("meta")`, where it is known, too, whether starting weights fit; a file with some is not read
    without `files`.

    Raises SettingError, UnknownName, SeamError or WeightsError where the spec cannot be built.
    """
    task = build_task(spec, info)
    with random_stream(spec.seed, "backbone"):
        backbone, seams = build_backbone(
            spec.model, num_classes=len(info.classes), image_size=spec.data.image_size
        )
    weights = None
    if spec.model.weights is not None and (start is not None or files):
        weights = StartingWeights(spec.model, start)
        weights.fill(backbone)
    attached = _attach(spec, seams)
    notes = [note for change in attached.values() for note in change.notes]
    notes.extend(weights.finish(backbone) if weights is not None else ())
    heads = _heads(spec, task, backbone)
    if isinstance(task, Probing):
        notes.extend(["the probed backbone is random"] if spec.model.weights is None else [])
        notes.extend(task.notes)
    objectives: dict[str, nn.Module] = {}
    for name, settings in spec.objectives.items():
        with random_stream(spec.seed, name):
            objective: Any = OBJECTIVES.get(name).load()(seams, settings)
        objectives[name] = objective
        notes.extend(objective.notes)
    tap = Tap() if objectives else None
    if tap is not None:
        seams.tokenizer().append(tap)
    changes = {name: change.places for name, change in attached.items()}
    changed = {place for places in changes.values() for place in places}
    model = TrialModel(
        backbone,
        objectives=objectives,
        tap=tap,
        mean=info.mean,
        std=info.std,
        partly_unreached=any(s.name in changed and not s.reaches_head for s in seams.blocks()),
    )
    return Assembly(model=model, task=task, notes=tuple(dict.fromkeys(notes)), changes=changes, heads=heads)


def build_task(spec: TrialSpec, info: DataInfo) -> Task:
    """What the output of `spec`'s model means. Raises SettingError."""
    entry = TASKS.get(spec.task)
    own: dict[str, Any] = {}
    if entry.settings is not None:
        own = {"settings": spec.task_settings[entry.section_name], "lr": spec.train.lr}
    task: Task = entry.load()(
        num_classes=len(info.classes), label_smoothing=spec.train.label_smoothing, **own
    )
    return task


def _attach(spec: TrialSpec, seams: Seams) -> dict[str, Change]:
    """Put the components into the backbone; what each of them did."""
    done: dict[str, Change] = {}
    for name, settings in spec.components.items():
        with random_stream(spec.seed, name):
            done[name] = COMPONENTS.get(name).load()(seams, settings)
        if not done[name].places:
            raise SeamError(f"component {name!r} changed nothing in {spec.model.name!r} ({seams.family})")
    return done


def _heads(spec: TrialSpec, task: Task, backbone: nn.Module) -> nn.ModuleList | None:
    """Freeze `backbone` and take its classifier off, where the task trains heads on it."""
    if not isinstance(task, Probing):
        return None
    _check_probe(spec)
    model: Any = backbone
    features: int = model.get_classifier().in_features
    model.reset_classifier(0)
    backbone.eval().requires_grad_(False)
    with random_stream(spec.seed, "heads"):
        return task.heads(features)


def _check_probe(spec: TrialSpec) -> None:
    """Features cannot be mixed or reconstructed as images are; one clipping would tie the heads together."""
    broken = [f"{name} (it trains the backbone)" for name in spec.objectives]
    for key in ("mixup", "cutmix", "clip_grad"):
        value = getattr(spec.train, key)
        broken += [f"train.{key} {value:g}"] if value else []
    if broken:
        raise SettingError(
            f"task {spec.task} trains separate heads on features of a frozen backbone, which excludes "
            f"{', '.join(broken)}; use train.mixup 0, train.cutmix 0, train.clip_grad null and no objective"
        )


@contextmanager
def random_stream(seed: int, part: str) -> Iterator[None]:
    """Run the body in a random stream of its own and leave the surrounding one untouched."""
    digest = hashlib.sha256(f"{seed}/init/{part}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield
