"""cifar10: 50,000 + 10,000 colour 32×32 photographs (Krizhevsky 2009), in both published layouts."""

from __future__ import annotations

import pickle
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablator.data.fetching import fetch
from ablator.data.settings import DataSettings, place_of
from ablator.data.source import ArrayImages, Source, cache_folder, fingerprint
from ablator.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_DIGEST = "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_RECORD = 1 + 3 * 32 * 32
# Per channel, of the 50,000 training images in [0, 1].
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2470, 0.2435, 0.2616)
# All that the published pickles refer to, under the names of old and new numpy.
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


def open_cifar10(settings: DataSettings) -> Source:
    """The binary (`data_batch_1.bin`) or Python (`data_batch_1`) layout, in `settings.root` or a folder of
    the published name in it; where root is null, in the cache, or fetched into it. Raises DataError."""
    folder = _find(settings.root)
    train = _read([_path(folder, name) for name in _TRAIN], "cifar10/train")
    val = _read([_path(folder, "test_batch")], "cifar10/val")
    return Source(
        name="cifar10",
        classes=CLASSES,
        train=train,
        val=val,
        fingerprint=fingerprint([train.pixels, train.labels, val.pixels, val.labels]),
        licence="not stated by its publisher; cite Krizhevsky 2009",
        mean=_MEAN,
        std=_STD,
    )


class _Restricted(pickle.Unpickler):
    """Refuses every global except what builds a numpy array: a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no CIFAR-10 file does")
        return super().find_class(module, name)


def _read(paths: list[Path], label: str) -> ArrayImages:
    try:
        parts = [_read_binary(path) if path.suffix == ".bin" else _read_pickle(path) for path in paths]
    except OSError as error:
        raise DataError(f"{label}: cannot be read: {error}") from error
    pixels = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in parts])
    if labels.max() >= len(CLASSES):
        raise DataError(f"{label}: labels go up to {labels.max()}, CIFAR-10 has {len(CLASSES)} classes")
    return ArrayImages(pixels=np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels=labels, label=label)


def _read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if not len(content) or len(content) % _RECORD:
        raise DataError(
            f"cifar10: {path} has {len(content)} bytes, not a multiple of {_RECORD}; get it again"
        )
    records = content.reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _read_pickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with path.open("rb") as file:
            batch = _Restricted(file, encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, _RECORD - 1)
        labels = np.asarray(batch[b"labels"], np.int64).reshape(len(pixels))
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"cifar10: {path} is no batch of CIFAR-10: {error}") from error
    return pixels, labels


def _path(folder: Path, name: str) -> Path:
    binary = folder / f"{name}.bin"
    return binary if binary.exists() else folder / name


def _find(root: str | None) -> Path:
    base = place_of(root) if root else Path(cache_folder()) / "cifar10"
    looked = [base / name for name in _FOLDERS]
    for folder in looked:
        if all(_path(folder, name).exists() for name in (*_TRAIN, "test_batch")):
            return folder
    reason = ""
    if not root:
        try:
            return _fetched(base)
        except DataError as error:
            reason = f" {error}."
    raise DataError(
        f"cifar10: the six batches ({', '.join(_TRAIN)}, test_batch; with .bin in the binary layout) are in "
        f"none of {', '.join(str(folder) for folder in looked)}.{reason} Get {_URL}, unpack it and name its "
        "folder with `--set data.root=DIR`. `--profile laptop` needs no data at all"
    )


def _fetched(base: Path) -> Path:
    archive = base / "cifar-10-binary.tar.gz"
    unpacked = base / "cifar-10-batches-bin"
    fetch(_URL, archive, _DIGEST)
    # Unpacked aside and renamed: another worker on this machine must never see half a folder.
    with tempfile.TemporaryDirectory(dir=base) as aside:
        with tarfile.open(archive) as tar:
            tar.extractall(aside, filter="data")
        if not unpacked.exists():
            (Path(aside) / unpacked.name).rename(unpacked)
    return unpacked
