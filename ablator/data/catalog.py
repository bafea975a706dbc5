"""Settings to an opened data set, once per process; and what is told of it. No torch here."""

from __future__ import annotations

import dataclasses
import functools
import re

from ablator.contracts.protocols import DataInfo
from ablator.data import subsets
from ablator.data.settings import AugmentSettings, DataSettings
from ablator.data.source import Source
from ablator.errors import SettingError
from ablator.registry import DATASETS

# What timm 1.0 parses; it skips or asserts on anything else.
_SECTION = r"(m\d+|n[1-9]\d*|mstd\d+(\.\d+)?|mmax\d+|p\d+(\.\d+)?|inc[01]|tweights)"
_RAND_AUGMENT = re.compile(rf"rand(-{_SECTION})*")


def open_source(data: DataSettings) -> Source:
    """The data set that `data` names. Opened once per process and location: fraction, image size and the like
    do not open it again. Raises UnknownName, SettingError and DataError."""
    defaults = DataSettings()
    return _opened(
        dataclasses.replace(
            data,
            image_size=defaults.image_size,
            fraction=defaults.fraction,
            fraction_seed=defaults.fraction_seed,
            max_corrupt=defaults.max_corrupt,
        ),
        DATASETS.get(data.name).origin,
    )


@functools.lru_cache(maxsize=4)
def _opened(data: DataSettings, origin: str) -> Source:
    source: Source = DATASETS.get(data.name).load()(data)
    return source


def info(data: DataSettings) -> DataInfo:
    """What is known of the data before its images are read. Raises what `open_source` raises."""
    return describe(open_source(data), data)


def describe(source: Source, data: DataSettings) -> DataInfo:
    """`info` of a source that is open already."""
    return DataInfo(
        name=source.name,
        classes=source.classes,
        train_size=len(subsets.fraction(source.train.labels, data.fraction, data.fraction_seed)),
        val_size=len(source.val.labels),
        fingerprint=source.fingerprint,
        licence=source.licence,
        mean=source.mean,
        std=source.std,
    )


def check(data: DataSettings, augment: AugmentSettings) -> None:
    """Raise for what is wrong with the two sections, without reading images: SettingError, UnknownName, and
    DataError where the data is not there."""
    check_augment(augment)
    open_source(data)


def check_augment(augment: AugmentSettings) -> None:
    """Raise SettingError for a RandAugment description that timm would not understand."""
    text = augment.rand_augment
    if text is not None and not _RAND_AUGMENT.fullmatch(text):
        raise SettingError(
            f"augment.rand_augment is {text!r}, which is no RandAugment description of timm; it is 'rand', "
            "then any of -m<magnitude>, -n<operations>, -mstd<deviation>, -mmax<limit>, -p<chance>, "
            "-inc<0|1>, -tweights, such as 'rand-m9-mstd0.5-inc1'; null switches it off"
        )
