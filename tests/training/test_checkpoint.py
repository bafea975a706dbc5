"""Checkpoint files: what a damaged or foreign one says, and what a killed writer leaves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablator.errors import StoreError
from ablator.training.checkpoint import load, save

STATE = {"epoch": 3, "rows": [{"epoch": 1, "lr": 0.1}], "weights": torch.arange(200.0)}


def write(folder: Path) -> Path:
    path = folder / "trial" / "checkpoint.pt"
    save(path, "trial a", STATE)
    return path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    found = load(write(tmp_path), "trial a")
    assert found is not None
    assert (found["epoch"], found["rows"]) == (3, STATE["rows"])
    assert torch.equal(found["weights"], torch.arange(200.0))


def test_there_is_none_yet(tmp_path: Path) -> None:
    assert load(tmp_path / "none.pt", "trial a") is None


def test_another_trials_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(
        StoreError, match=r"checkpoint\.pt belongs to another trial .*'trial a', not 'trial b'.*delete it"
    ):
        load(path, "trial b")


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_anywhere_is_found(where: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder))
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= 1 << bit
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"checkpoint\.pt is damaged .*delete it"):
            load(path, "trial a")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_cut_file_is_damaged(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(StoreError, match=r"checkpoint\.pt is damaged .*delete it"):
        load(path, "trial a")


def test_files_of_another_kind_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    for content in ([1, 2], {"other": 1}, {"format": 1, "tag": "trial a"}):
        torch.save(content, path)
        with pytest.raises(StoreError, match="is damaged"):
            load(path, "trial a")


def test_a_writer_killed_half_way_leaves_the_old_state(tmp_path: Path) -> None:
    path = write(tmp_path)
    left = path.with_name(f"{path.name}.4711.tmp")
    left.write_bytes(path.read_bytes()[:300])
    found = load(path, "trial a")
    assert found is not None
    assert found["epoch"] == 3
    assert not left.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"c\.pt cannot be written"):
        save(tmp_path / "file" / "c.pt", "trial a", STATE)


def test_a_checkpoint_of_another_model_does_not_fit(toy: Any, tmp_path: Path) -> None:
    toy.run(checkpoint=tmp_path / "c.pt")
    with pytest.raises(StoreError, match=r"c\.pt does not fit this model .*delete it"):
        toy.run(checkpoint=tmp_path / "c.pt", model=lambda: toy.Model(batch_norm=True))


def test_nothing_but_the_checkpoint_stays_in_its_folder(toy: Any, tmp_path: Path) -> None:
    toy.run(checkpoint=tmp_path / "c.pt", checkpoint_seconds=0)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
