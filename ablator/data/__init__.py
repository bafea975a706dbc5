"""Data sets to batches. `info` and `check` need no torch; `loading.load` does.

A data set is a function `open_x(settings: DataSettings) -> Source`, registered under the name that the
study file uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablator.registry import DATASETS

if TYPE_CHECKING:
    from ablator.contracts.protocols import DataInfo
    from ablator.data.settings import AugmentSettings, DataSettings

DATASETS.add("digits", "ablator.data.digits:open_digits", summary="1,797 grey 8×8 digits of scikit-learn")
DATASETS.add(
    "fashion_mnist",
    "ablator.data.fashion_mnist:open_fashion_mnist",
    summary="70,000 grey 28×28 product photographs, from a folder, the Debian package or the publisher",
)
DATASETS.add("cifar10", "ablator.data.cifar10:open_cifar10", summary="60,000 colour 32×32 photographs")
DATASETS.add("folder", "ablator.data.folder:open_folder", summary="any tree with one folder a class")
DATASETS.add(
    "parquet", "ablator.data.parquet:open_parquet", summary="Parquet files of image bytes and labels"
)


def info(data: DataSettings) -> DataInfo:
    """What is known of the data before its images are read. Raises DataError or UnknownName."""
    from ablator.data import catalog

    return catalog.info(data)


def check(data: DataSettings, augment: AugmentSettings) -> None:
    """Raise SettingError, UnknownName or DataError for what can be known to be wrong before training."""
    from ablator.data import catalog

    catalog.check(data, augment)
