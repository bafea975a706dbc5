"""What a job says to the program that asked for it, in lines of its log: there is one stream for all."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Literal

Kind = Literal["stdout", "files"]
KINDS: tuple[Kind, ...] = ("stdout", "files")

_MARK = "::ablator:: "
_LETTERS = 3000
"""Of a line; Ray shortens those that are much longer."""


def framed(kind: Kind, content: bytes) -> Iterator[str]:
    """Lines that carry `content`, each with its end."""
    text = base64.b64encode(content).decode("ascii")
    for start in range(0, len(text), _LETTERS):
        yield f"{_MARK}{kind} {text[start : start + _LETTERS]}\n"


class Frames:
    """Takes what `framed` made out of a log."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def take(self, line: str) -> bool:
        """Whether `line` was part of it."""
        if not line.startswith(_MARK):
            return False
        kind, _, text = line.removeprefix(_MARK).strip().partition(" ")
        self._texts.setdefault(kind, []).append(text)
        return True

    def content(self, kind: Kind) -> bytes:
        """What came as `kind`; empty where nothing did."""
        return base64.b64decode("".join(self._texts[kind]))
