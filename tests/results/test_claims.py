"""Claims in a place where no writing fails because something is there: never two owners of a lease."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from threading import Semaphore

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablator.results import claims
from ablator.results.claims import FolderClaims, ObjectClaims
from ablator.results.files import LocalFiles


class Turns:
    """Lets one of two threads do one thing at a time, in the order of `schedule`; when that is over, or when
    the thread whose turn it is has ended, the other one."""

    def __init__(self, schedule: Iterable[int]) -> None:
        self._schedule = iter(schedule)
        self._changed = threading.Condition()
        self._there = {0, 1}
        self._turn: int | None = None

    def wait(self, number: int) -> None:
        with self._changed:
            self._choose()
            self._changed.wait_for(lambda: self._turn == number)
            self._turn = None
            self._choose()

    def end(self, number: int) -> None:
        with self._changed:
            self._there.discard(number)
            if self._turn == number:
                self._turn = None
            self._choose()

    def _choose(self) -> None:
        if self._turn is None and self._there:
            wanted = next(self._schedule, min(self._there))
            self._turn = wanted if wanted in self._there else min(self._there)
            self._changed.notify_all()


class InTurns(LocalFiles):
    """A folder as one of two claimers sees it: every request waits for its turn."""

    def __init__(self, root: Path, turns: Turns, number: int) -> None:
        super().__init__(root)
        self._turns, self._number = turns, number

    def write(self, name: str, content: bytes, *, synced: bool = True, patience: float | None = None) -> None:
        self._turns.wait(self._number)
        super().write(name, content, synced=False)

    def names(self, folder: str = "") -> list[str]:
        self._turns.wait(self._number)
        return super().names(folder)

    def remove(self, name: str) -> None:
        self._turns.wait(self._number)
        super().remove(name)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_PAUSE", 0.0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(st.integers(0, 1), max_size=24), dead=st.booleans())
def test_two_claimers_never_both_have_a_lease(
    tmp_path_factory: pytest.TempPathFactory, no_pause: None, schedule: list[int], dead: bool
) -> None:
    root = tmp_path_factory.mktemp("claims")
    if dead:  # what an owner left that is gone is in nobody's way
        (root / "trial.gone").write_bytes(b"")
    turns = Turns(schedule)
    taken = [False, False]

    def claim(number: int) -> None:
        try:
            files = InTurns(root, turns, number)
            taken[number] = ObjectClaims(files).take("trial", f"owner{number}", lambda owner: owner != "gone")
        finally:
            turns.end(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert taken != [True, True]
    there = set(LocalFiles(root).names())
    assert there == {f"trial.owner{number}" for number in range(2) if taken[number]}, "who lost left nothing"


def test_many_owners_over_a_real_store_hold_a_lease_one_after_the_other(s3_store: str) -> None:
    from ablator.results.leases import Leases
    from ablator.results.store import Store

    holding: list[int] = []
    most: list[int] = []
    start = threading.Barrier(4)

    def go(number: int) -> None:
        with Leases(Store(s3_store)) as leases:
            start.wait()
            for _ in range(6):
                if leases.take("trial"):
                    holding.append(number)
                    most.append(len(holding))
                    holding.remove(number)
                    leases.give_back("trial")

    threads = [threading.Thread(target=go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most, "somebody got it"
    assert set(most) == {1}
    assert Store(s3_store).files.names("claims") == []


def test_one_owner_at_a_time_however_often_a_lease_changes_hands(tmp_path: Path) -> None:
    """Owners that live and others that are dead, in a folder, as fast as threads go."""
    claims, inside, most = FolderClaims(tmp_path), Semaphore(1), 150
    taken: list[int] = []
    failed: list[str] = []
    dead: set[str] = set()

    def claim(number: int) -> None:
        for count in range(most):
            owner = f"{number:02}{count:04}"
            if not claims.take("a lease", owner, lambda other: other not in dead):
                continue
            if not inside.acquire(blocking=False):
                failed.append(owner)
                return
            taken.append(number)
            inside.release()
            if count % 10 == 7:
                dead.add(owner)  # with the lease
            else:
                claims.give_back("a lease", owner)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(set(taken)) > 1, "it changed hands"


@pytest.mark.parametrize("look", [0, 1])
def test_a_lease_that_is_given_back_and_taken_while_one_looks_is_the_takers(
    tmp_path: Path, look: int
) -> None:
    other = FolderClaims(tmp_path)
    taken = []

    class Slow(FolderClaims):
        """Between its looks at the holder, and what it does then, others act."""

        looks = 0

        def holder(self, name: str) -> str | None:
            if self.looks == 0:
                other.give_back(name, "first")
            found = super().holder(name)
            if self.looks == look:
                taken.append(other.take(name, "second", lambda owner: True))
            self.looks += 1
            return found

    assert other.take("a lease", "first", lambda owner: True)
    got = Slow(tmp_path).take("a lease", "third", lambda owner: True)
    assert [got, *taken].count(True) == 1
