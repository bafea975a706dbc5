"""Stratified parts of a labelled set: a fraction of the training images, and a held-out part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ablator.data import draws
from ablator.errors import DataError


def fraction(labels: NDArray[np.int64], part: float, seed: int) -> NDArray[np.int64]:
    """Sorted indices of `part` (0 < part <= 1) of every class, at least one image of each.

    For one seed, a smaller part is a subset of a larger one: each class is ordered once, and the part is
    a prefix of that order.
    """
    if part == 1:
        return np.arange(len(labels))
    chosen = []
    for label, members in _by_class(labels):
        count = max(1, round(part * len(members)))
        chosen.append(members[draws.permutation(len(members), "fraction", seed, label)[:count]])
    return np.sort(np.concatenate(chosen))


def holdout(
    labels: NDArray[np.int64], part: float, seed: int, *, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices of (training, validation): `part` of every class is held out.

    A class of two or more images has at least one on either side; a class of one image is only trained
    on. Raises DataError where nothing can be held out, naming the data set `name`.
    """
    train, val = [], []
    for label, members in _by_class(labels):
        order = members[draws.permutation(len(members), "holdout", seed, label)]
        count = min(max(1, round(part * len(members))), len(members) - 1)
        val.append(order[:count])
        train.append(order[count:])
    held = np.sort(np.concatenate(val))
    if not len(held):
        raise DataError(
            f"{name}: every class has a single image, so none can be held out for validation; "
            "give a validation set, or more images"
        )
    return np.sort(np.concatenate(train)), held


def _by_class(labels: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each class with the indices of its images, ascending."""
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    yield from zip(classes.tolist(), np.split(order, starts[1:]), strict=True)
