"""What a user can get wrong: one message, exit code 2, no traceback, and nothing spent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that is not found ends here, and not in a cluster that starts."""

    def starts(*arguments: object, **options: object) -> None:
        raise AssertionError("the mistake was not found before Ray was started")

    monkeypatch.setattr("ray.init", starts)
    # Not a cluster that somebody else runs on this machine.
    monkeypatch.setenv("RAY_ADDRESS", "local")


@pytest.fixture
def refused() -> Callable[..., None]:
    """`refused(result, *said)`: one error in one line, with these words in it."""

    def check(result: Result, *said: str) -> None:
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("error: "), result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert "None" not in result.stderr
        for text in said:
            assert text in result.stderr, result.stderr

    return check


@pytest.fixture
def rewrite() -> Callable[[Path, str, str], None]:
    """`rewrite(study, old, new)`: put other words into a study file."""

    def change(study: Path, old: str, new: str) -> None:
        text = study.read_text(encoding="utf-8")
        assert old in text
        study.write_text(text.replace(old, new), encoding="utf-8")

    return change


@pytest.fixture
def kept() -> Callable[[Path], int]:
    """`kept(store)`: how many final records there are."""
    return lambda store: len(list((store / "ledger").glob("??/*.json")))


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """`flip(path)`: damage one bit of a file."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))

    return damage


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """`unused_port()`: one that nobody listens on."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])

    return find
