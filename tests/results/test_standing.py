"""What a run's driver says about itself in the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ablator.results.standing import (
    RunningTrial,
    Standing,
    own_name,
    read_standing,
    remove_standing,
    write_standing,
)
from ablator.results.store import Store


def standing(**changes: Any) -> Standing:
    host, pid = own_name()
    trial = RunningTrial(
        identity="a" * 64, label="λ = 1", seed=2, slot=0, epoch=3, epochs=8, value=71.5, seconds=12.0
    )
    times = {"started": time.time() - 60, "updated": time.time(), "elapsed": 60.0, "eta": 30.0}
    counts = {"planned": 6, "done": 2, "cached": 1, "failed": 0, "diverged": 1, "pruned": 0}
    run = {"host": host, "pid": pid, "studies": 1, "metric": "top1", "slots": 2, "joined": False}
    fields: dict[str, Any] = {**times, **counts, **run, "running": (trial,)}
    return Standing(**{**fields, **changes})


def test_what_is_said_is_read_and_the_newest_counts(store: Store) -> None:
    place = store.live("moto_n", "laptop")
    assert read_standing(place) is None
    write_standing(place, standing())
    last = standing(done=3, eta=None, running=())
    write_standing(place, last)
    assert read_standing(place) == last
    assert [path.name for path in (store.root / "live").iterdir()] == ["moto_n-laptop.json"]


def test_at_the_end_it_is_removed_but_not_what_another_run_says(store: Store) -> None:
    place = store.live("moto_n", "laptop")
    write_standing(place, standing(pid=own_name()[1] + 1))
    remove_standing(place)
    assert place.files.exists(place.name)
    write_standing(place, standing())
    remove_standing(place)
    assert not place.files.exists(place.name)
    remove_standing(place)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1, "run', b'{"format": 1}', b'{"format": 2}'])
def test_what_cannot_be_understood_is_nothing(store: Store, content: bytes) -> None:
    place = store.live("moto_n", "laptop")
    place.files.write(place.name, content)
    assert read_standing(place) is None


def test_a_store_that_takes_no_more_does_not_hurt_the_run(store: Store) -> None:
    place = store.live("moto_n", "laptop")
    (store.root / "live").write_text("a file where the folder should be")
    write_standing(place, standing())
    remove_standing(place)
    assert read_standing(place) is None


def test_silence_is_told_from_a_clock_that_is_ahead() -> None:
    assert not standing().stale()
    assert standing(updated=time.time() - 600).stale()
    assert standing(updated=time.time() + 600).age() == 0.0


def test_a_profile_of_any_name_has_a_file_in_the_folder(tmp_path: Path) -> None:
    assert str(Store(tmp_path).live("s", "my profile/2")) == str(tmp_path / "live" / "s-my_profile_2.json")
