"""parquet: Parquet files with a column of encoded images and a column of labels, memory-mapped."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from ablator.data.settings import DataSettings, place_of
from ablator.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, UnreadableImageError, decode, fingerprint
from ablator.data.subsets import holdout
from ablator.errors import DataError, SettingError

IMAGE, LABEL = "image", "label"
_VAL = ("val", "validation", "valid", "test")
_CACHE_BYTES = 256 * 2**20
"""Decoded row groups that each process keeps, per split."""


class _RowGroups:
    """The image column by row group, with the most recently used groups kept. Files are opened on first use
    in each process: neither handles nor Arrow's threads survive a fork."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = files
        self._forget()

    def __getstate__(self) -> tuple[str, ...]:
        return self._files

    def __setstate__(self, files: tuple[str, ...]) -> None:
        self._files = files
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._open: dict[int, Any] = {}
        self._groups: collections.OrderedDict[tuple[int, int], Any] = collections.OrderedDict()

    def value(self, file: int, group: int, row: int) -> bytes | None:
        """The encoded image of one row, None where it is null. Raises OSError and ArrowException."""
        if self._process != os.getpid():
            self._forget()
        key = (file, group)
        if key not in self._groups:
            if file not in self._open:
                self._open[file] = pq.ParquetFile(self._files[file], memory_map=True)
            table = self._open[file].read_row_group(group, columns=[IMAGE], use_threads=False)
            self._groups[key] = table.column(IMAGE)
            while len(self._groups) > 1 and sum(part.nbytes for part in self._groups.values()) > _CACHE_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        value = self._groups[key][row].as_py()
        content: bytes | None = value["bytes"] if isinstance(value, dict) else value
        return content


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ParquetImages:
    """Images in Parquet files. Reading one decodes its row group, so that files with small groups (about 100
    rows) are quick in random order."""

    files: tuple[str, ...]
    groups: _RowGroups
    places: NDArray[np.int32]
    """File, row group and row in the group of each image."""
    labels: NDArray[np.int64]

    def name(self, index: int) -> str:
        """`train-0.parquet, row group 3, row 12`."""
        file, group, row = (int(part) for part in self.places[index])
        return f"{self.files[file]}, row group {group}, row {row}"

    def read(self, index: int) -> Image.Image:
        """The image as RGB; raises UnreadableImageError."""
        try:
            content = self.groups.value(*(int(part) for part in self.places[index]))
        except (OSError, pa.ArrowException) as error:
            raise UnreadableImageError(self.name(index), str(error)) from error
        if content is None:
            raise UnreadableImageError(self.name(index), "it is null")
        return decode(self.name(index), content)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rows:
    """All rows of some files, before labels are numbered."""

    files: tuple[str, ...]
    places: NDArray[np.int32]
    labels: list[int | str]
    names: tuple[str, ...] | None
    """Names of integer labels, where the file's metadata has them."""


def open_parquet(settings: DataSettings) -> Source:
    """A Parquet file, or a folder (or its `data/`) of `train*.parquet` and `val*.parquet` (or `validation*`,
    `valid*`, `test*`). Without validation files the rows are split by `settings.holdout`.

    Column `image` holds encoded bytes, or a struct with the field `bytes`; column `label` integers or
    strings, numbered in sorted order. The fingerprint is over the files' names, sizes, row counts and labels.
    Raises SettingError where root is missing, DataError where files or columns are not so.
    """
    if settings.root is None:
        raise SettingError(
            "data.root is not set; data set 'parquet' needs a Parquet file or a folder of them: "
            "--set data.root=PATH. `--profile laptop` needs no data at all"
        )
    train_files, val_files = _layout(place_of(settings.root))
    train, val = _rows(train_files), _rows(val_files) if val_files else None
    keys = sorted(set(train.labels))
    if len(keys) < 2:
        raise DataError(f"parquet: {settings.root} has a single class, {keys}; a classification needs two")
    if val and (extra := sorted(set(val.labels) - set(keys), key=str)):
        raise DataError(f"parquet: validation labels {extra[:5]} are not among the training labels")
    number = {key: index for index, key in enumerate(keys)}
    images = _images(train, number)
    if val:
        splits = (images, _images(val, number))
    else:
        parts = holdout(
            images.labels, settings.holdout, settings.holdout_seed, name=f"parquet {settings.root}"
        )
        splits = (_part(images, parts[0]), _part(images, parts[1]))
    return Source(
        name="parquet",
        classes=_class_names(keys, train.names),
        train=splits[0],
        val=splits[1],
        fingerprint=fingerprint(_identity([train] if val is None else [train, val])),
        licence="not known: the user's own files",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _layout(root: Path) -> tuple[list[Path], list[Path]]:
    if root.is_file():
        return [root], []
    for folder in (root, root / "data"):
        found = sorted(folder.glob("*.parquet"))
        train = [path for path in found if path.name.startswith("train")]
        for prefix in _VAL:
            val = [path for path in found if path.name.startswith(prefix)]
            if train and val:
                return train, val
        if found:
            return train or found, []
    raise DataError(
        f"parquet: data.root is {root}; there is no .parquet file there nor in {root / 'data'}. "
        "`--profile laptop` needs no data at all"
    )


def _rows(files: list[Path]) -> _Rows:
    places, labels, names = [], [], None
    for index, path in enumerate(files):
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                _check_columns(path, file.schema_arrow)
                names = names or _label_names(file.schema_arrow)
                column = file.read(columns=[LABEL], use_threads=False).column(LABEL)
                rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"parquet: {path} cannot be read: {error}") from error
        if column.null_count:
            raise DataError(f"parquet: {path} has {column.null_count} rows without a label")
        labels += column.to_pylist()
        for group, count in enumerate(rows):
            place = np.empty((count, 3), np.int32)
            place[:, 0], place[:, 1], place[:, 2] = index, group, np.arange(count)
            places.append(place)
    if not labels:
        raise DataError(f"parquet: no rows in {', '.join(str(path) for path in files[:5])}")
    return _Rows(
        files=tuple(str(path) for path in files), places=np.concatenate(places), labels=labels, names=names
    )


def _check_columns(path: Path, schema: Any) -> None:
    missing = [name for name in (IMAGE, LABEL) if name not in schema.names]
    if missing:
        raise DataError(
            f"parquet: {path} has no column {', '.join(missing)}; it needs {IMAGE!r} and {LABEL!r}, "
            f"and has {', '.join(schema.names)}"
        )
    image, label = schema.field(IMAGE).type, schema.field(LABEL).type
    if pa.types.is_struct(image):
        image = image.field("bytes").type if image.get_field_index("bytes") >= 0 else image
    if not (pa.types.is_binary(image) or pa.types.is_large_binary(image)):
        raise DataError(
            f"parquet: column {IMAGE!r} of {path} is {schema.field(IMAGE).type}; it is bytes, or a struct "
            "with the field 'bytes'"
        )
    if not (pa.types.is_integer(label) or pa.types.is_string(label) or pa.types.is_large_string(label)):
        raise DataError(f"parquet: column {LABEL!r} of {path} is {label}; it is an integer or a string")


def _label_names(schema: Any) -> tuple[str, ...] | None:
    """Class names as the Hugging Face `datasets` library leaves them in the schema's metadata."""
    try:
        known = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][LABEL]["names"]
        return tuple(str(name) for name in known)
    except (KeyError, TypeError, ValueError):
        return None


def _class_names(keys: list[int | str], names: tuple[str, ...] | None) -> tuple[str, ...]:
    return tuple(
        names[key] if names and isinstance(key, int) and 0 <= key < len(names) else str(key) for key in keys
    )


def _images(rows: _Rows, number: dict[int | str, int]) -> ParquetImages:
    labels = np.array([number[label] for label in rows.labels], np.int64)
    return ParquetImages(files=rows.files, groups=_RowGroups(rows.files), places=rows.places, labels=labels)


def _part(images: ParquetImages, part: NDArray[np.int64]) -> ParquetImages:
    return dataclasses.replace(images, places=images.places[part], labels=images.labels[part])


def _identity(splits: list[_Rows]) -> list[bytes]:
    parts = []
    for rows in splits:
        for path in rows.files:
            parts += [os.path.basename(path).encode(), str(os.path.getsize(path)).encode()]
        parts.append(json.dumps(rows.labels).encode())
    return parts
