"""folder: any tree with one folder a class, as ImageNet lies on disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablator.data.settings import DataSettings, place_of
from ablator.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, decode, fingerprint
from ablator.data.subsets import holdout
from ablator.errors import DataError, SettingError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")
_TRAIN = ("train", "training")
_VAL = ("val", "validation", "valid", "test")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FileImages:
    """Image files. The paths lie in one block of bytes: a list of 1.3 million strings would be copied into
    every loader process as soon as its reference counts are touched."""

    root: str
    block: bytes
    ends: NDArray[np.int64]
    """Where each path ends in `block`, (N,)."""
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, root: str, paths: list[bytes], labels: NDArray[np.int64]) -> FileImages:
        """Images of `paths`, relative to `root`."""
        ends = np.cumsum([len(path) for path in paths], dtype=np.int64)
        return cls(root=root, block=b"".join(paths), ends=ends, labels=labels)

    def name(self, index: int) -> str:
        """The file's path."""
        start = int(self.ends[index - 1]) if index else 0
        return os.path.join(self.root, os.fsdecode(self.block[start : int(self.ends[index])]))

    def read(self, index: int) -> Image.Image:
        """The file as RGB; raises UnreadableImageError."""
        return decode(self.name(index), self.name(index))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tree:
    """What lies below one folder of class folders: paths relative to it, sorted, and their sizes."""

    root: str
    files: dict[str, list[tuple[bytes, int]]]
    """Class to (path, bytes); every class folder is a key, even when it is empty."""


def open_folder(settings: DataSettings) -> Source:
    """The tree at `settings.root`: `train/` beside `val/` (or `validation/`, `valid/`, `test/`), each with
    one folder a class; or one tree of class folders, split by `settings.holdout`.

    Folders and files may be links; files are found at any depth below a class. The fingerprint is over every
    relative path and size, not over the pixels: one directory scan, about 7 s for ImageNet on a local disk.
    Raises SettingError where root is missing, DataError where the tree is not one of these.
    """
    if settings.root is None:
        raise SettingError(
            "data.root is not set; data set 'folder' needs the path of a tree with one folder a class: "
            "--set data.root=DIR. `--profile laptop` needs no data at all"
        )
    root = place_of(settings.root)
    train_dir, val_dir = _layout(root)
    train = _scan(train_dir)
    classes = tuple(sorted(train.files))
    _check_classes(train, classes)
    val = _scan(val_dir) if val_dir else None
    splits = _given(train, val, classes) if val else _held_out(train, classes, settings)
    trees = [train] if val is None else [train, val]
    return Source(
        name="folder",
        classes=classes,
        train=splits[0],
        val=splits[1],
        fingerprint=fingerprint(_identity(trees)),
        licence="not known: the user's own files",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _layout(root: Path) -> tuple[Path, Path | None]:
    if not root.is_dir():
        raise DataError(
            f"folder: data.root is {root}, which is {'no folder' if root.exists() else 'not there'}; it is a "
            "folder with train/ and val/, or with one folder a class. `--profile laptop` needs no data at all"
        )
    train = next((root / name for name in _TRAIN if _has_folders(root / name)), None)
    if train is None:
        return root, None
    return train, next((root / name for name in _VAL if _has_folders(root / name)), None)


def _has_folders(path: Path) -> bool:
    return path.is_dir() and any(
        entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir()
    )


def _scan(root: Path) -> _Tree:
    files = {}
    try:
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                files[entry.name] = sorted(
                    _files(entry.path, os.fsencode(entry.name), (os.path.realpath(root),))
                )
    except OSError as error:
        raise DataError(f"folder: {root} cannot be listed: {error}") from error
    return _Tree(root=str(root), files=files)


def _files(path: str, relative: bytes, above: tuple[str, ...]) -> Iterator[tuple[bytes, int]]:
    real = os.path.realpath(path)
    if real in above:  # a link to a folder that it lies in
        return
    with os.scandir(path) as entries:
        for entry in entries:
            name = relative + b"/" + os.fsencode(entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(entry.path, name, (*above, real))
            elif entry.name.lower().endswith(SUFFIXES):
                yield name, _size(entry)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # a link that leads nowhere: an unreadable image when its turn comes
        return -1


def _check_classes(tree: _Tree, classes: tuple[str, ...]) -> None:
    if not classes:
        raise DataError(
            f"folder: {tree.root} has no class folders; it is a tree like {tree.root}/cat/1.jpg, "
            "or has train/ and val/"
        )
    if len(classes) == 1:
        raise DataError(f"folder: {tree.root} has a single class, {classes[0]!r}; a classification needs two")
    empty = [name for name in classes if not tree.files[name]]
    if empty:
        raise DataError(
            f"folder: no images in the class folder(s) {', '.join(empty[:5])} of {tree.root}; "
            f"images end in {', '.join(SUFFIXES)}"
        )


def _images(tree: _Tree, classes: tuple[str, ...]) -> FileImages:
    paths = [path for name in classes for path, _ in tree.files.get(name, [])]
    counts = [len(tree.files.get(name, [])) for name in classes]
    return FileImages.of(tree.root, paths, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def _given(train: _Tree, val: _Tree, classes: tuple[str, ...]) -> tuple[FileImages, FileImages]:
    extra = [name for name in val.files if name not in train.files]
    if extra:
        raise DataError(
            f"folder: class(es) {', '.join(extra[:5])} of {val.root} are not in {train.root}; "
            "every validation class is a training class"
        )
    if not any(val.files.values()):
        raise DataError(f"folder: no images in {val.root}; images end in {', '.join(SUFFIXES)}")
    return _images(train, classes), _images(val, classes)


def _held_out(tree: _Tree, classes: tuple[str, ...], settings: DataSettings) -> tuple[FileImages, FileImages]:
    labels = _images(tree, classes).labels
    paths = [path for name in classes for path, _ in tree.files[name]]
    parts = holdout(labels, settings.holdout, settings.holdout_seed, name=f"folder {tree.root}")
    made = [FileImages.of(tree.root, [paths[i] for i in part], labels[part]) for part in parts]
    return made[0], made[1]


def _identity(trees: list[_Tree]) -> Iterator[bytes]:
    for tree in trees:
        yield b"tree"
        for name in sorted(tree.files):
            for path, size in tree.files[name]:
                yield path
                yield str(size).encode()
