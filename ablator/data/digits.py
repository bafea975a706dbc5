"""digits: 1,797 grey 8×8 handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from ablator.data.settings import DataSettings
from ablator.data.source import ArrayImages, Source, fingerprint
from ablator.data.subsets import holdout
from ablator.errors import DataError, SettingError

# Of all 1,797 images in [0, 1].
_MEAN = 0.3053
_STD = 0.3759


def open_digits(settings: DataSettings) -> Source:
    """The packaged table, split by `settings.holdout`; scikit-learn itself is not imported.

    Raises DataError where scikit-learn is not installed, SettingError where `settings.root` is set.
    """
    if settings.root is not None:
        raise SettingError(
            f"data.root is {settings.root!r}, but data set 'digits' ships with scikit-learn and has no root; "
            "for images of your own set data.name to 'folder' or 'parquet' as well"
        )
    path = _packaged()
    try:
        table = np.loadtxt(gzip.decompress(path.read_bytes()).decode().splitlines(), delimiter=",")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"digits: {path} cannot be read ({error}); install scikit-learn again") from error
    # Values are counts of dark pixels, 0 to 16.
    pixels_NHW = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = table[:, 64].astype(np.int64)
    train, val = holdout(labels, settings.holdout, settings.holdout_seed, name="digits")
    return Source(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train=ArrayImages(pixels=pixels_NHW[train], labels=labels[train], label="digits/train"),
        val=ArrayImages(pixels=pixels_NHW[val], labels=labels[val], label="digits/val"),
        fingerprint=fingerprint([pixels_NHW, labels]),
        licence="BSD-3-Clause (scikit-learn)",
        mean=(_MEAN,) * 3,
        std=(_STD,) * 3,
    )


def _packaged() -> Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "digits: scikit-learn, which ships these images, is not installed; pip install scikit-learn"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
