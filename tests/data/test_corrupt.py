"""Unreadable images are named, counted and skipped up to the limit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ablator.contracts.protocols import World
from ablator.data.loading import Loader, load
from ablator.data.settings import AugmentSettings, DataSettings
from ablator.errors import DataError

PROCESSES = min(2, len(os.sched_getaffinity(0)))


def _loader(root: Path, max_corrupt: int, augment: AugmentSettings, workers: int = 0) -> Loader:
    data = DataSettings(name="folder", root=str(root), image_size=16, max_corrupt=max_corrupt)
    return load(data, augment, seed=0, batch_size=4, world=World(), workers=workers)


def _damage(path: Path, way: str) -> None:
    content = path.read_bytes()
    if way == "link":
        path.unlink()
        path.symlink_to(path.parent / "nowhere.png")
    else:
        path.write_bytes({"empty": b"", "text": b"<html>", "short": content[: len(content) // 2]}[way])


@pytest.mark.parametrize("way", ["empty", "text", "short", "link"])
def test_the_first_one_fails_the_trial_by_name(
    tree: Callable[..., Path], plain: AugmentSettings, way: str
) -> None:
    root = tree()
    _damage(root / "train/bee/3.png", way)
    with pytest.raises(
        DataError, match=r"(?s)1 image\(s\) of 'folder'.*max_corrupt allows 0.*train/bee/3\.png"
    ):
        list(_loader(root, 0, plain).train(0))


@pytest.mark.parametrize("workers", [0, PROCESSES])
def test_it_is_replaced_and_counted_up_to_the_limit(
    tree: Callable[..., Path], plain: AugmentSettings, workers: int
) -> None:
    root = tree()
    before = list(_loader(root, 2, plain).train(0))
    for name in ("train/bee/3.png", "train/bee/4.png"):
        _damage(root / name, "short")
    loader = _loader(root, 2, plain, workers)
    after = list(loader.train(0))
    assert [len(labels) for _, labels in after] == [4, 4, 4]
    changed = sum(
        not torch.equal(x, u)
        for (xs, _), (us, _) in zip(before, after, strict=True)
        for x, u in zip(xs, us, strict=True)
    )
    assert changed == 2
    (note,) = loader.notes()
    assert note.startswith("2 unreadable image(s) skipped")
    assert "bee/3.png" in note
    assert "bee/4.png" in note
    list(loader.train(1))
    assert loader.notes()[0].startswith("2 unreadable")
    _damage(root / "train/ant/0.png", "text")
    with pytest.raises(DataError, match=r"3 image\(s\).*ant/0\.png"):
        list(loader.train(2))


def test_a_validation_image_is_left_out(tree: Callable[..., Path], plain: AugmentSettings) -> None:
    root = tree()
    _damage(root / "val/ant/0.png", "short")
    loader = _loader(root, 1, plain)
    assert loader.notes() == ()
    assert sum(len(labels) for _, labels in loader.evaluate()) == 11
    assert "val/ant/0.png" in loader.notes()[0]
    with pytest.raises(DataError, match="val/ant/0"):
        list(_loader(root, 0, plain).evaluate())


def test_nothing_readable_at_all_ends(tree: Callable[..., Path], plain: AugmentSettings) -> None:
    root = tree()
    for path in root.glob("train/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="train"):
        list(_loader(root, 1000, plain).train(0))


def test_parquet_names_file_group_and_row(tmp_path: Path, plain: AugmentSettings) -> None:
    table = pa.table({"image": [b"no image", None] * 4, "label": [0, 1, 1, 0] * 2})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    data = DataSettings(name="parquet", root=str(tmp_path), image_size=16)
    with pytest.raises(DataError, match=r"a\.parquet, row group \d, row \d"):
        list(load(data, plain, seed=0, batch_size=2, world=World()).train(0))
