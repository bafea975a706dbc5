"""A trained model and what passes inside it: the tokenizer's maps and MoTo's layouts.

Shape legend: B batch, C channels, H W height and width of an image or a map, E entities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ablator.assembly.build import assemble
from ablator.assembly.model import TrialModel
from ablator.backbones.families import build as build_backbone
from ablator.backbones.starting import TrialWeights
from ablator.components.moto import MoTo
from ablator.contracts.protocols import World
from ablator.data.loading import Loader, load
from ablator.data.settings import AugmentSettings
from ablator.plan.spec import TrialSpec
from ablator.training.kept import kept_weights

_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """One batch on its way through the model."""

    images: Tensor
    """(B,3,H,W) in [0, 1]."""
    labels: Tensor
    """(B,) int64."""
    tokens: Tensor
    """(B,C,H,W): the tokenizer's output with all that is put behind it, before positions are added."""
    layouts: dict[str, Tensor]
    """By place: (B,E,H,W), the share of every entity at every position."""


class Trained:
    """A trial's model with the weights that its run kept, in eval mode."""

    def __init__(self, model: TrialModel, images: Loader, spec: TrialSpec, device: torch.device) -> None:
        self.info = images.info
        self._images, self._device = images, device
        self._model = model.to(device).eval().requires_grad_(False)
        path = _tokenizer_path(spec, len(images.info.classes))
        self._tokenizer = model.backbone.get_submodule(path)
        self._tokenizer.register_forward_hook(self._record_tokens)
        self._tokens = torch.empty(0)
        self._layouts: dict[str, Tensor] = {}
        motos = {name: part for name, part in model.backbone.named_modules() if isinstance(part, MoTo)}
        for name, moto in motos.items():
            self._record_layout(_place(name), moto)
        self._called: nn.Module = (
            self._tokenizer if all(name.startswith(f"{path}.") for name in motos) else self._model
        )

    @torch.no_grad()
    def validation(self) -> Iterator[Seen]:
        """All validation images, in order."""
        for images_BCHW, labels_B in self._images.evaluate():
            yield self._look(self._called, images_BCHW, labels_B)

    @torch.no_grad()
    def training(self, epoch: int) -> Iterator[Seen]:
        """The training images of `epoch`, not augmented; of the layouts, the tokenizer's alone."""
        for images_BCHW, labels_B in self._images.train(epoch):
            yield self._look(self._tokenizer, images_BCHW, labels_B)

    def _look(self, part: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> Seen:
        images_BCHW = images_BCHW.to(self._device)
        part(images_BCHW)
        images_B3HW = (images_BCHW * self._model.std + self._model.mean).clamp(0, 1)
        return Seen(
            images=images_B3HW,
            labels=labels_B,
            tokens=self._tokens.float(),
            layouts=dict(self._layouts),
        )

    def _record_tokens(self, part: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        assert output.ndim == 4, "a tokenizer makes a map"
        self._tokens = output

    def _record_layout(self, place: str, module: MoTo) -> None:
        def record(moto: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            assert isinstance(moto, MoTo)
            self._layouts[place] = moto.layout(arguments[0]).float()

        module.register_forward_pre_hook(record)


def load_trained(spec: TrialSpec, weights: Path, identity: str, metric: str, device: torch.device) -> Trained:
    """The model that `metric` of the trial was measured with. Raises StoreError where its kept weights are
    damaged, and FileNotFoundError where there are none."""
    state = kept_weights(weights, identity, metric)
    if state is None:
        raise FileNotFoundError(weights)
    # Its starting weights would be overwritten at once.
    model, images = _built(dataclasses.replace(spec, model=dataclasses.replace(spec.model, weights=None)))
    model.load_state_dict(state)
    return Trained(model, images, spec, device)


def load_untrained(spec: TrialSpec, device: torch.device, start: TrialWeights | None = None) -> Trained:
    """The model that the trial's training began from; `start` is what the trial trained that it starts from,
    if any. Raises WeightsError without its starting weights."""
    return Trained(*_built(spec, start), spec, device)


def _built(spec: TrialSpec, start: TrialWeights | None = None) -> tuple[TrialModel, Loader]:
    images = load(
        spec.data,
        _plain(spec.augment),
        seed=spec.seed,
        batch_size=min(_BATCH, spec.train.batch_size),
        world=World(),
    )
    return assemble(spec, images.info, start).model, images


def _plain(augment: AugmentSettings) -> AugmentSettings:
    return dataclasses.replace(
        augment, crop="none", flip=0.0, rand_augment=None, color_jitter=0.0, erase=0.0, repeats=1
    )


def _tokenizer_path(spec: TrialSpec, classes: int) -> str:
    """Where the tokenizer is in the backbone: as in a fresh one, because seams can be asked for only before
    components are put into them."""
    with torch.device("meta"):
        _, seams = build_backbone(spec.model, num_classes=classes, image_size=spec.data.image_size)
    return seams.tokenizer().name


def _place(path: str) -> str:
    """`blocks.0.appended.0` sits behind `blocks.0`, `patch_embed.proj.moto` in `patch_embed.proj`."""
    return path.split(".appended.")[0].removesuffix(".moto")
