"""What is known to be wrong before training, and what the planner can ask without torch."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.auto_augment import rand_augment_transform

from ablator import data as room
from ablator.data.fetching import OFFLINE, fetch
from ablator.data.settings import AugmentSettings, DataSettings
from ablator.errors import DataError, SettingError


def test_the_planner_needs_no_torch() -> None:
    program = """
import sys
from ablator import data
from ablator.data.settings import AugmentSettings, DataSettings
assert "numpy" not in sys.modules, "import ablator.data is not light"
info = data.info(DataSettings())
data.check(DataSettings(), AugmentSettings())
assert info.train_size == 1438
for entry in data.DATASETS:
    entry.load()
heavy = {"torch", "torchvision", "timm", "ray", "mlflow", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)


@pytest.mark.parametrize(
    "text", ["", "rand9", "augmix-m5", "rand-m9.5", "rand-k3", "rand-m", "rand-n0", "rand-m9-", "rand_m9"]
)
def test_a_description_that_timm_would_not_understand(text: str) -> None:
    with pytest.raises(SettingError, match=r"rand-m9-mstd0\.5-inc1"):
        room.check(DataSettings(), AugmentSettings(rand_augment=text))


sections = st.lists(
    st.one_of(
        st.integers(0, 30).map("m{}".format),
        st.integers(1, 9).map("n{}".format),
        st.floats(0, 200).map("mstd{:.2f}".format),
        st.floats(0, 1).map("p{:.2f}".format),
        st.sampled_from(["inc0", "inc1", "tweights", "mmax20"]),
    ),
    max_size=4,
)


@given(sections)
@settings(max_examples=30, deadline=None)
def test_what_is_accepted_timm_understands(parts: list[str]) -> None:
    text = "-".join(["rand", *parts])
    room.check(DataSettings(), AugmentSettings(rand_augment=text))
    assert rand_augment_transform(text, {}) is not None


def test_null_switches_rand_augment_off() -> None:
    room.check(DataSettings(), AugmentSettings(rand_augment=None))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.bin").write_bytes(b"content")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_a_fetched_file_is_checked_and_never_left_half(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OFFLINE, raising=False)
    target = tmp_path / "cache" / "file.bin"
    right = "sha256:" + hashlib.sha256(b"content").hexdigest()
    with pytest.raises(DataError, match="publisher states 00"):
        fetch(f"{server}/file.bin", target, "sha256:00")
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(f"{server}/other.bin", target, right)
    assert list(target.parent.iterdir()) == []
    fetch(f"{server}/file.bin", target, right)
    assert target.read_bytes() == b"content"


def test_offline_means_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(DataError, match=OFFLINE):
        fetch("http://127.0.0.1:1/x", tmp_path / "x", "md5:00")
