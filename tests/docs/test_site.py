"""The site of mkdocs.yml: it builds without a warning, and needs nothing from a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_STYLE = r"""url\(["']?(?:https?:)?//[^)]*|@import\s+["'](?:https?:)?//[^"']*"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page).is_file()} == set()
    assert (site / "index.html").is_file()
    outside = r"(?:https?:)?//"
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        tags = re.findall(r"<(?:script|img|iframe|source|object|embed|link)[^>]*>", text)
        # A link to another page is no load; one to a style, font or icon is.
        tags = [tag for tag in tags if not re.search(r'rel="?(canonical|next|prev)', tag)]
        loaded = [tag for tag in tags if re.search(rf"""(?:src|data|href)="?{outside}""", tag)]
        loaded += re.findall(_STYLE, text)
        assert not loaded, f"{path.name}: {loaded}"
        # Material fetches its diagram library where it finds one of these.
        assert 'class="mermaid"' not in text, path
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(_STYLE, text), path


def test_links_out_of_docs_lead_to_copies(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="repository/experiments/moto_n.yaml.txt"' in index
    assert 'href="study-files.html"' in index
    copied = site / "repository" / "experiments" / "moto_n.yaml.txt"
    assert copied.read_bytes() == (ROOT / "experiments" / "moto_n.yaml").read_bytes()


def test_the_reference_has_what_ablator_offers(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    import ablator

    for name in set(ablator.__all__) - {"__version__", "Study"}:
        assert re.search(rf'id="ablator\.[\w.]*\b{name}"', page), name


def test_drawings_have_the_words_of_their_diagrams(docs: Any) -> None:
    blocks = [block for block in docs.blocks("mermaid") if block.file == "docs/architecture.md"]
    assert blocks
    for number, block in enumerate(blocks, start=1):
        drawing = (ROOT / "docs" / "images" / f"architecture-{number}.svg").read_text(encoding="utf-8")
        drawn = "".join(re.findall(r">([^<>]+)<", drawing))
        words = re.findall(r"\[\(?([^\][()]+)\)?\]|-- ([^-]+) -->", block.text)
        for word in (part for pair in words for text in pair for part in re.split(r"<br/>|\s+", text)):
            assert word in drawn, f"draw images/architecture-{number}.svg again: it lacks {word!r}"
