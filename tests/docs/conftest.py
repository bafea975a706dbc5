from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file."""

    file: str
    language: str
    text: str


class Docs:
    """The Markdown files that a reader is shown."""

    root = Path(__file__).parents[2]

    def __init__(self) -> None:
        paths = [self.root / "README.md", *sorted((self.root / "docs").glob("*.md"))]
        self.texts = {str(path.relative_to(self.root)): path.read_text(encoding="utf-8") for path in paths}

    def blocks(self, *languages: str) -> list[Block]:
        """Every fenced block in one of the languages."""
        return [
            Block(file, match["language"], textwrap.dedent(match["text"]))
            for file, text in self.texts.items()
            for match in _FENCE.finditer(text)
            if match["language"] in languages
        ]


@pytest.fixture(scope="session")
def docs() -> Docs:
    return Docs()
