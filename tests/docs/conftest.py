from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablator.registry import REGISTRIES

_FENCE = re.compile(
    r"(?:^Save this as `(?P<path>[^`\n]+)`:\n\n)?"
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file."""

    file: str
    language: str
    text: str
    path: str = ""
    """What the page says to save it as."""


class Docs:
    """The Markdown files that a reader is shown."""

    root = Path(__file__).parents[2]

    def __init__(self) -> None:
        paths = [self.root / "README.md", *sorted((self.root / "docs").rglob("*.md"))]
        self.texts = {str(path.relative_to(self.root)): path.read_text(encoding="utf-8") for path in paths}

    def blocks(self, *languages: str) -> list[Block]:
        """Every fenced block in one of the languages."""
        return [
            Block(file, match["language"], textwrap.dedent(match["text"]), match["path"] or "")
            for file, text in self.texts.items()
            for match in _FENCE.finditer(text)
            if match["language"] in languages
        ]


@pytest.fixture(scope="session")
def docs() -> Docs:
    return Docs()


@pytest.fixture
def no_traces() -> Iterator[None]:
    """Registries belong to the process: plug-ins of one test are gone for the next."""
    yield
    for origin in {entry.origin for registry in REGISTRIES for entry in registry if entry.origin}:
        for registry in REGISTRIES:
            registry.drop(origin)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout to a study in its experiments/."""
    for name in ("experiments", "recipes", "search_spaces"):
        (tmp_path / name).mkdir()
        for path in (Docs.root / name).glob("*.yaml"):
            (tmp_path / name / path.name).symlink_to(path)
    return tmp_path
