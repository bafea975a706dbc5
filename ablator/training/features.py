"""Batches of features: what a frozen encoder makes of another loader's images, computed once where they stay.

Shape legend: N images of this worker in one view, B micro-batch, C H W of an image, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from ablator.contracts.protocols import Batches
from ablator.training.memory import Pieces
from ablator.training.randomness import derive
from ablator.training.step import autocast

_SMALLEST_PASS, _LARGEST_PASS = 64, 256
"""Images that the encoder sees at once."""

_TYPES = {"fp32": torch.float32, "fp16": torch.float16}


class FeatureBatches:
    """Implements `contracts.protocols.Batches` with features (B, D) in the place of images.

    With `views` V, view v holds the features of epoch v of `passes`, in its order. Epoch e trains on view
    e mod V: in that order as long as the view is new, so that V = epochs is the same as no cache at all, and
    later in a permutation that follows from (seed, e). Without views every epoch is encoded as it comes.
    Validation images are encoded once. Everything is computed when it is first asked for; after a resume it
    is computed again, to the same values. Each of several workers keeps the features of its own share, so
    that the order beyond the first V epochs depends on their number.
    """

    def __init__(
        self,
        encoder: nn.Module,
        batches: Batches,
        passes: Batches,
        *,
        views: int | None,
        batch_size: int,
        pass_size: int,
        seed: int,
        device: torch.device,
        precision: Literal["fp32", "bf16"] = "fp32",
        cache: Literal["fp32", "fp16"] = "fp32",
    ) -> None:
        """`encoder` maps images (B, C, H, W) to features (B, D). `batches` gives micro-batches of
        `batch_size` images, `passes` the same positions in batches of `pass_size` (see `pass_size_of`)."""
        self.info = batches.info
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        self._batches, self._passes, self._views = batches, passes, views
        self._batch_size, self._pass_size, self._seed = batch_size, pass_size, seed
        self._device, self._precision, self._type = device, precision, _TYPES[cache]
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._validation: list[tuple[Tensor, Tensor]] | None = None
        self._pieces = Pieces()

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches per epoch for this worker."""
        if self._views is None:
            return self._batches.steps_per_epoch
        images: int = self._passes.steps_per_epoch * self._pass_size
        return images // self._batch_size

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Micro-batches `start`.. of the epoch: float32 features (B, D), labels (B,)."""
        if self._views is None:
            for images_BCHW, labels_B in self._batches.train(epoch, start):
                yield self._encode(images_BCHW), labels_B
            return
        features_ND, labels_N = self._view(epoch % self._views)
        order_N = torch.arange(len(labels_N))
        if epoch >= self._views:
            draw = torch.Generator().manual_seed(derive(self._seed, "features", epoch))
            order_N = torch.randperm(len(labels_N), generator=draw)
        for step in range(start, self.steps_per_epoch):
            chosen_B = order_N[step * self._batch_size : (step + 1) * self._batch_size]
            yield features_ND[chosen_B].float(), labels_N[chosen_B]

    def evaluate(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This worker's share of the validation images as float32 features, in order."""
        if self._validation is None:
            self._validation = [
                (self._encode(images_BCHW).to("cpu", self._type), labels_B)
                for images_BCHW, labels_B in self._batches.evaluate()
            ]
        for features_BD, labels_B in self._validation:
            yield features_BD.float(), labels_B

    def notes(self) -> tuple[str, ...]:
        """Footnotes of the images' loaders, how many views are kept, and whether memory was out."""
        notes = dict.fromkeys((*self._batches.notes(), *self._passes.notes(), *self._pieces.notes("encoded")))
        if self._views is not None and self._views > 1:
            notes[f"every training image is seen in {self._views} fixed augmented views"] = None
        return tuple(notes)

    def _view(self, view: int) -> tuple[Tensor, Tensor]:
        if view not in self._kept:
            count = self._passes.steps_per_epoch * self._pass_size
            features_ND, labels_N = torch.empty(0), torch.empty(count, dtype=torch.long)
            at = 0
            for images_BCHW, labels_B in self._passes.train(view):
                features_BD = self._encode(images_BCHW)
                if (
                    not at
                ):  # the width is known now; one block for all, since joining parts takes twice the memory
                    features_ND = torch.empty(count, features_BD.shape[1], dtype=self._type)
                features_ND[at : at + len(labels_B)] = features_BD.to("cpu", self._type)
                labels_N[at : at + len(labels_B)] = labels_B
                at += len(labels_B)
            assert at == count, f"a pass gave {at} of {count} images"
            self._kept[view] = (features_ND, labels_N)
        return self._kept[view]

    def _encode(self, images_BCHW: Tensor) -> Tensor:
        return self._pieces(self._encode_piece, images_BCHW)

    @torch.no_grad()
    def _encode_piece(self, images_BCHW: Tensor) -> Tensor:
        with autocast(self._device, self._precision):
            features_BD: Tensor = self._encoder(images_BCHW.to(self._device, non_blocking=True))
        return features_BD.float()


def pass_size_of(images: int, batch_size: int) -> int:
    """The batch in which a worker's share of `images` is encoded: 64 to 256, or the heads' own `batch_size`,
    such that the fewest images are left over at the end, which would never be seen."""
    sizes = [*range(min(_SMALLEST_PASS, images), min(_LARGEST_PASS, images) + 1), batch_size]
    size: int = min(sizes, key=lambda size: (images % size, abs(size - _LARGEST_PASS)))
    return size
