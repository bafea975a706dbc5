"""What every place of a store promises, of a folder and of an object store alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.results.files import Files, Firsts, LocalFiles
from ablator.results.locating import locate


@pytest.fixture(params=["folder", "object store"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(tmp_path / "place")
    return locate(request.getfixturevalue("s3_store")).files


@pytest.fixture(params=["folder", "no hard links", "object store"])
def make_firsts(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Firsts]:
    """Makes another reader and writer of the same place, as another process has."""
    if request.param != "object store":
        return lambda: LocalFiles(tmp_path / "place", hard_links=request.param == "folder")
    address = request.getfixturevalue("s3_store")

    def make() -> Firsts:
        bucket = locate(address).bucket
        assert bucket is not None
        return bucket.firsts("records", tmp_path / f"cache-{time.monotonic_ns()}")

    return make


def test_a_file_is_written_read_listed_moved_and_removed(files: Files) -> None:
    files.open()
    assert files.names() == []
    files.write("a/one.json", b"1")
    files.write("a/b/two.json", b"22")
    files.write("three", b"", synced=False)
    assert (files.read("a/one.json"), files.read("three")) == (b"1", b"")
    assert sorted(files.names()) == ["a/b/two.json", "a/one.json", "three"]
    assert files.sizes("a") == {"a/one.json": 1, "a/b/two.json": 2}
    assert files.names("nowhere") == []

    files.write("a/one.json", b"new")
    files.move("a/one.json", "aside/one.json")
    assert not files.exists("a/one.json")
    assert files.read("aside/one.json") == b"new"
    files.remove("aside/one.json")
    files.remove("aside/one.json")
    assert not files.exists("aside/one.json")


def test_what_is_not_there_or_too_large_is_told_apart(files: Files) -> None:
    files.write("large", b"12345")
    files.write("small", b"1")
    with pytest.raises(FileNotFoundError):
        files.read("missing")
    with pytest.raises(FileNotFoundError):
        files.move("missing", "anywhere")
    with pytest.raises(OSError, match="larger than"):
        files.read("large", most=4)
    found = list(files.read_all(["small", "missing", "large"], most=4))
    assert [name for name, _ in found] == ["small", "large"]
    assert found[0][1] == b"1"
    assert isinstance(found[1][1], OSError)


def test_a_large_file_goes_there_and_back(files: Files, tmp_path: Path) -> None:
    here, back = tmp_path / "here.bin", tmp_path / "far" / "back.bin"
    # More than one part of an upload.
    here.write_bytes(bytes(range(256)) * 2**16)
    files.publish(here, "weights/x.pt")
    assert files.bring("weights/x.pt", back)
    assert back.read_bytes() == here.read_bytes()
    assert not files.bring("weights/y.pt", back)
    here.write_bytes(b"")
    files.publish(here, "weights/x.pt")
    assert files.bring("weights/x.pt", back)
    assert back.read_bytes() == b""
    assert [path.name for path in back.parent.iterdir()] == ["back.bin"]


def test_the_first_stays_for_every_reader(make_firsts: Callable[[], Firsts]) -> None:
    one, other = make_firsts(), make_firsts()
    assert one.create("3f/x.json", b"first")
    assert not other.create("3f/x.json", b"second")
    assert not one.create("3f/x.json", b"third")
    assert other.exists("3f/x.json")
    assert not other.exists("3f/y.json")
    for _ in range(2):
        assert list(other.read_all(["3f/y.json", "3f/x.json"])) == [("3f/x.json", b"first")]
    assert other.names() == ["3f/x.json"]
    one.move("3f/x.json", "quarantine/x.1.json")
    assert not other.exists("3f/x.json")
    assert other.create("3f/x.json", b"again")
    assert list(one.read_all(["3f/x.json", "quarantine/x.1.json"])) == [
        ("3f/x.json", b"again"),
        ("quarantine/x.1.json", b"first"),
    ]
    one.remove("3f/x.json")
    assert not other.exists("3f/x.json")


def test_of_writers_at_one_moment_one_is_first_and_all_readers_agree(
    make_firsts: Callable[[], Firsts],
) -> None:
    writers = [make_firsts() for _ in range(6)]
    start = threading.Barrier(len(writers))
    kept: list[tuple[str, bytes]] = []

    def write(number: int) -> None:
        for round_ in range(5):
            start.wait()
            name, content = f"3f/{round_}.json", str(number).encode()
            if writers[number].create(name, content):
                kept.append((name, content))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [f"3f/{round_}.json" for round_ in range(5)]
    said = [dict(firsts.read_all(names)) for firsts in (*writers, make_firsts())]
    assert all(one == said[0] for one in said)
    assert set(said[0]) == set(names)
    assert set(said[0].items()) <= set(kept), "whoever was first was told so"
