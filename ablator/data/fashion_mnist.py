"""fashion_mnist: 60,000 + 10,000 grey 28×28 product photographs (Xiao et al., arXiv 1708.07747)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablator.data.fetching import fetch
from ablator.data.settings import DataSettings, place_of
from ablator.data.source import ArrayImages, Source, cache_folder, fingerprint
from ablator.errors import DataError

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_PUBLISHER = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
# MD5 as in the publisher's README.
_FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
# Of the 60,000 training images in [0, 1].
_MEAN = 0.2860
_STD = 0.3530


def open_fashion_mnist(settings: DataSettings) -> Source:
    """The four idx files (gzipped or not) of `settings.root`; where that is null, of the Debian package, of
    the cache, or fetched into the cache. Raises DataError, which says where it looked and what to do."""
    folder = _find(settings.root)
    splits = {}
    for split, prefix in (("train", "train"), ("val", "t10k")):
        pixels_NHW = read_idx(_existing(folder, f"{prefix}-images-idx3-ubyte"), dimensions=3)
        labels = read_idx(_existing(folder, f"{prefix}-labels-idx1-ubyte"), dimensions=1).astype(np.int64)
        if len(pixels_NHW) != len(labels) or not len(labels) or labels.max() >= len(CLASSES):
            raise DataError(
                f"fashion_mnist: {folder} holds {len(pixels_NHW)} images and {len(labels)} labels for "
                f"{prefix}; they must be as many, and labels below {len(CLASSES)}"
            )
        splits[split] = ArrayImages(pixels=pixels_NHW, labels=labels, label=f"fashion_mnist/{split}")
    train, val = splits["train"], splits["val"]
    return Source(
        name="fashion_mnist",
        classes=CLASSES,
        train=train,
        val=val,
        fingerprint=fingerprint([train.pixels, train.labels, val.pixels, val.labels]),
        licence="MIT (Zalando SE)",
        mean=(_MEAN,) * 3,
        std=(_STD,) * 3,
    )


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes with so many dimensions, gzipped if its name ends in .gz.

    The format: two zero bytes, the type (8), the number of dimensions, each size as a big-endian
    32-bit number, the bytes. Raises DataError for anything else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"fashion_mnist: {path} cannot be read ({error}); get it again") from error
    header = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < header:
        raise DataError(f"fashion_mnist: {path} is no idx file of bytes with {dimensions} dimensions")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    if len(content) - header != int(np.prod(shape)):
        raise DataError(
            f"fashion_mnist: {path} states the shape {shape} but holds {len(content) - header} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _existing(folder: Path, stem: str) -> Path:
    zipped = folder / f"{stem}.gz"
    return zipped if zipped.exists() else folder / stem


def _complete(folder: Path) -> bool:
    return all(_existing(folder, name.removesuffix(".gz")).exists() for name in _FILES)


def _find(root: str | None) -> Path:
    cache = Path(cache_folder()) / "fashion_mnist"
    given = place_of(root) if root else None
    # torchvision keeps the files under FashionMNIST/raw.
    looked = [given, given / "FashionMNIST" / "raw"] if given else [_DEBIAN, cache]
    for folder in looked:
        if _complete(folder):
            return folder
    reason = ""
    if not given:
        try:
            for name, digest in _FILES.items():
                if not (cache / name).exists():
                    fetch(_PUBLISHER + name, cache / name, digest)
            return cache
        except DataError as error:
            reason = f" {error}."
    raise DataError(
        f"fashion_mnist: the four idx files ({', '.join(_FILES)}) are in none of "
        f"{', '.join(str(folder) for folder in looked)}.{reason} "
        "Get them with `apt-get install dataset-fashion-mnist`; or, without root, `apt-get download "
        "dataset-fashion-mnist`, `dpkg-deb -x dataset-fashion-mnist*.deb DIR` and "
        "`--set data.root=DIR/usr/share/datasets/fashion-mnist`. `--profile laptop` needs no data at all"
    )
