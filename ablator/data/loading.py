"""Batches of one data set for one worker, each a function of (seed, epoch, position) alone.

An epoch is a list of positions 0, 1, 2, ... over all workers together; position p shows image
order[p // repeats] of the training set with the draws of p. Micro-batch s holds positions
s·B·W .. (s+1)·B·W - 1, and worker r of W takes r, r+W, r+2W, ... of them. So a step sees the same images and
draws however many workers share it, and repeated views of one image go to different workers, as in DeiT's
sampler (Touvron et al., arXiv 2012.12877; Hoffer et al., arXiv 1901.09335).

Shape legend: B micro-batch of one worker, W workers, H = W image side (in tensor names).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ablator.contracts.protocols import World
from ablator.data import catalog, draws, fast, subsets
from ablator.data.augment import (
    Transform,
    drawn_from,
    evaluation_interpolation,
    evaluation_transform,
    training_transform,
)
from ablator.data.settings import AugmentSettings, DataSettings
from ablator.data.source import ArrayImages, Images, Source, UnreadableImageError
from ablator.errors import DataError, SettingError

Problems = tuple[tuple[str, str], ...]
"""Name and reason of each image that could not be read."""
_NAMED = 10
_CPU = torch.device("cpu")


def load(
    data: DataSettings,
    augment: AugmentSettings,
    *,
    seed: int,
    batch_size: int,
    world: World,
    workers: int = 0,
    source: Source | None = None,
    device: torch.device = _CPU,
) -> Loader:
    """A loader of micro-batches of `batch_size` images for this worker of `world`.

    `workers` processes decode images ahead (0: in this one; sets that lie in memory never need them).
    `source` is an opened data set; by default the one that `data` names, opened once per process.
    Sets that lie in memory and want light augmentation are kept on `device`, and batches of them, equal bit
    for bit on every device, are made there; all other batches are on the CPU.
    Raises SettingError, UnknownName or DataError; SettingError where one batch is larger than the set.
    """
    catalog.check_augment(augment)
    return Loader(
        data,
        augment,
        seed=seed,
        batch_size=batch_size,
        world=world,
        workers=workers,
        source=source,
        device=device,
    )


class Loader:
    """Implements `contracts.protocols.Batches`; made by `load`."""

    def __init__(
        self,
        data: DataSettings,
        augment: AugmentSettings,
        *,
        seed: int,
        batch_size: int,
        world: World,
        workers: int,
        source: Source | None,
        device: torch.device,
    ) -> None:
        self._source = source or catalog.open_source(data)
        self.info = catalog.describe(self._source, data)
        self._data, self._augment, self._device = data, augment, device
        self._seed, self._batch_size, self._world, self._workers = seed, batch_size, world, workers
        self._chosen = subsets.fraction(self._source.train.labels, data.fraction, data.fraction_seed)
        self._problems: dict[str, str] = {}
        if not self.steps_per_epoch:
            raise SettingError(
                f"the training set of {self.info.name!r} has {len(self._chosen)} images (data.fraction "
                f"{data.fraction}), which is less than one batch of {batch_size * world.size} ({batch_size} "
                f"on each of {world.size} worker(s)); lower train.batch_size or raise data.fraction"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches per epoch for this worker."""
        return len(self._chosen) // (self._batch_size * self._world.size)

    def place(self) -> int:
        """Put the images that whole batches are made of on the device now, instead of when the first batch is
        asked for. Returns how many bytes of images this process keeps there, for other trials too; 0 on CPU,
        where they were all along."""
        if self._device.type == "cpu":
            return 0
        self._training_images(), self._evaluation_images()
        return fast.held_bytes(self._device)

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.train`. Raises DataError where more images are unreadable than `max_corrupt`."""
        held = self._training_images()
        if held is not None:
            yield from self._whole_batches(held, epoch, start)
            return
        transform = training_transform(self._augment, self._data.image_size, self.info.mean, self.info.std)
        samples = _TrainingSamples(
            self._source.train, self._chosen, transform, self._key(epoch), self._data.max_corrupt
        )
        for images_BCHW, labels_B in self._decoded(samples, _Pairs(self._plan(epoch, start))):
            if len(labels_B) < self._batch_size:
                raise DataError(f"no training image of {self.info.name!r} can be read: {self._named()}")
            yield images_BCHW, labels_B

    def evaluate(self) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.evaluate`. An unreadable image is left out and counted; raises DataError where there
        are more of them than `max_corrupt`."""
        images, size, world = self._source.val, self._data.image_size, self._world
        held = self._evaluation_images()
        if held is not None:
            normalise = fast.Normalise(self.info.mean, self.info.std, self._device)
            mine_NCHW = held.images[world.rank :: world.size]
            labels_N = held.labels[world.rank :: world.size]
            for at in range(0, len(labels_N), self._batch_size):
                part = slice(at, at + self._batch_size)
                yield normalise(mine_NCHW[part]), labels_N[part]
            return
        mine = np.arange(world.rank, len(images.labels), world.size)
        parts = [mine[at : at + self._batch_size] for at in range(0, len(mine), self._batch_size)]
        transform = evaluation_transform(self._augment, size, self.info.mean, self.info.std)
        samples = _EvaluationSamples(images, transform)
        for images_BCHW, labels_B in self._decoded(samples, _Pairs([(part, part) for part in parts])):
            if len(labels_B):
                yield images_BCHW, labels_B

    def notes(self) -> tuple[str, ...]:
        """One footnote with the number and the names of the unreadable images that were met, if any."""
        if not self._problems:
            return ()
        return (f"{len(self._problems)} unreadable image(s) skipped: {self._named()}",)

    def _key(self, epoch: int) -> tuple[draws.Purpose, int, int]:
        return ("augmentation", self._seed, epoch)

    def _plan(self, epoch: int, start: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Positions, and places in the training set, of each micro-batch of this worker from `start` on."""
        order = draws.permutation(len(self._chosen), "order", self._seed, epoch)
        step = self._batch_size * self._world.size
        for index in range(start, self.steps_per_epoch):
            positions = np.arange(index * step + self._world.rank, (index + 1) * step, self._world.size)
            yield positions, order[positions // self._augment.repeats]

    def _training_images(self) -> fast.Held | None:
        """What whole training batches are made of; None where images go one by one."""
        images, size = self._source.train, self._data.image_size
        if not isinstance(images, ArrayImages) or not fits_training(images, self._data, self._augment):
            return None
        return fast.training_images(images, size, self._augment.interpolation, self._device)

    def _evaluation_images(self) -> fast.Held | None:
        """The same of evaluation."""
        images, size = self._source.val, self._data.image_size
        if not isinstance(images, ArrayImages) or not fast.fits(images, size):
            return None
        interpolation = evaluation_interpolation(self._augment)
        return fast.evaluation_images(images, size, self._augment.eval_crop, interpolation, self._device)

    def _whole_batches(self, held: fast.Held, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches of images that lie on the device. All draws are made and moved before the first:
        a copy for every batch would wait for the device, and leave it waiting."""
        plan = list(self._plan(epoch, start))
        if not plan:
            return
        step = self._batch_size * self._world.size
        words_M4 = draws.words(start * step, len(plan) * step, *self._key(epoch))
        chosen_M = self._chosen[np.concatenate([places for _, places in plan])]
        mine_M4 = words_M4[self._world.rank :: self._world.size]
        shown = fast.views(chosen_M, mine_M4, self._augment, self._data.image_size).to(self._device)
        labels_M = held.labels[shown.chosen]
        normalise = fast.Normalise(self.info.mean, self.info.std, self._device)
        for at in range(0, len(labels_M), self._batch_size):
            stop = at + self._batch_size
            yield normalise(fast.train_batch(held.images, shown.part(at, stop))), labels_M[at:stop]

    def _decoded(self, samples: _Samples, batches: _Pairs) -> Iterator[tuple[Tensor, Tensor]]:
        loader: DataLoader[_Sample] = DataLoader(
            samples,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            # DataLoader draws a base seed for its processes; without this, from the trial's own random state.
            generator=torch.Generator(),
        )
        for images_BCHW, labels_B, problems in loader:
            self._count(problems)
            yield images_BCHW, labels_B

    def _count(self, problems: Problems) -> None:
        self._problems.update(problems)
        if len(self._problems) > self._data.max_corrupt:
            raise DataError(
                f"{len(self._problems)} image(s) of {self.info.name!r} cannot be read, data.max_corrupt "
                f"allows {self._data.max_corrupt}: {self._named()}"
            )

    def _named(self) -> str:
        shown = [f"{name} ({reason})" for name, reason in sorted(self._problems.items())[:_NAMED]]
        rest = len(self._problems) - len(shown)
        return "; ".join(shown) + (f"; and {rest} more" if rest else "")


def fits_training(images: Images, data: DataSettings, augment: AugmentSettings) -> bool:
    """Whether whole training batches can be made at once instead of image by image."""
    return fast.covers(augment) and fast.fits(images, data.image_size)


@dataclasses.dataclass(frozen=True)
class _Sample:
    image: Tensor | None
    """None where it (and, in training, what could replace it) cannot be read."""
    label: int
    problems: Problems


class _Pairs:
    """The plan in the form that DataLoader hands out: a list of (position, place) for each batch."""

    def __init__(self, plan: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for positions, places in self._plan:
            yield list(zip(positions.tolist(), places.tolist(), strict=True))


class _Samples(Dataset[_Sample]):
    """Samples by (position, place)."""

    def __getitem__(self, index: tuple[int, int]) -> _Sample:
        raise NotImplementedError


class _TrainingSamples(_Samples):
    """Augmented training images. In place of an unreadable one comes the next readable one of the set, with
    the draws of the same position."""

    def __init__(
        self,
        images: Images,
        chosen: NDArray[np.int64],
        transform: Transform,
        key: tuple[draws.Purpose, int, int],
        max_corrupt: int,
    ) -> None:
        self._images, self._chosen, self._transform, self._key = images, chosen, transform, key
        self._tries = min(len(chosen), max_corrupt + 1)

    def __getitem__(self, index: tuple[int, int]) -> _Sample:
        position, place = index
        problems: list[tuple[str, str]] = []
        for offset in range(self._tries):
            at = int(self._chosen[(place + offset) % len(self._chosen)])
            try:
                image = self._images.read(at)
            except UnreadableImageError as error:
                problems.append((error.name, error.reason))
                continue
            with drawn_from(draws.words(position, 1, *self._key)[0]):
                return _Sample(self._transform(image), int(self._images.labels[at]), tuple(problems))
        return _Sample(None, 0, tuple(problems))


class _EvaluationSamples(_Samples):
    """Validation images; an unreadable one has no replacement."""

    def __init__(self, images: Images, transform: Transform) -> None:
        self._images, self._transform = images, transform

    def __getitem__(self, index: tuple[int, int]) -> _Sample:
        _, place = index
        try:
            image = self._images.read(place)
        except UnreadableImageError as error:
            return _Sample(None, 0, ((error.name, error.reason),))
        return _Sample(self._transform(image), int(self._images.labels[place]), ())


def _collate(samples: list[_Sample]) -> tuple[Tensor, Tensor, Problems]:
    readable = [(sample.image, sample.label) for sample in samples if sample.image is not None]
    images_BCHW = torch.stack([image for image, _ in readable]) if readable else torch.empty(0)
    labels_B = torch.tensor([label for _, label in readable], dtype=torch.int64)
    return images_BCHW, labels_B, tuple(problem for sample in samples for problem in sample.problems)
