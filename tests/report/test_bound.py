"""Many tables as one page and one Markdown file."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from ablator.report.markdown import bind_markdown
from ablator.report.page import render_bound, render_page
from ablator.report.table import Table
from ablator.report.writing import write_bound

Build = Callable[..., Table]


class Links(HTMLParser):
    """Anchors, ids, and how often each element begins."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.ids: set[str] = set()
        self.repeated: set[str] = set()
        self.counts: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        found = dict(attrs)
        if identity := found.get("id"):
            self.repeated |= self.ids & {identity}
            self.ids.add(identity)
        if tag == "a" and found.get("href"):
            self.hrefs.append(str(found["href"]))


def test_every_study_is_linked_and_there_with_all_that_its_own_page_shows(full: Table, build: Build) -> None:
    other = build({"base": [1.0, 2.0], "arm": [2.0, None]}, study="other", question="And <this>?")
    text = render_bound([full, other])
    links = Links(text)
    assert {href[1:] for href in links.hrefs} <= links.ids
    assert {"#demo", "#other", "#demo-seeds", "#other-seeds"} <= set(links.hrefs)
    assert links.counts["h1"] == links.counts["main"] == text.count("<!doctype html>") == 1
    assert "2 studies, " in text, "one of them has a hole, and the title says so"
    assert "3/4" in text
    assert "And &lt;this&gt;?" in text
    for table in (full, other):
        cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", render_page(table))
        assert len(cells) > 10
        assert all(f">{cell}</t" in text for cell in cells)


def test_no_id_is_there_twice_and_figures_find_their_own_parts(full: Table) -> None:
    for text in (render_bound([full, full]), render_page(full)):
        links = Links(text)
        assert not links.repeated
        used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
        assert used <= links.ids


def test_shared_trials_are_told(full: Table) -> None:
    assert "14 trials are shared between studies" in render_bound([full, full])
    assert "shared between studies" not in render_bound([full])


def test_the_bound_page_asks_for_nothing(full: Table) -> None:
    text = render_bound([full, full])
    assert not re.search(r"<script[^>]|src=|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_headings_of_the_markdown_are_below_its_title(full: Table, build: Build) -> None:
    text = bind_markdown([full, build({"base": [1.0], "arm": [2.0]}, study="other")])
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads[0].startswith("# 2 studies")
    assert all(head.startswith("##") for head in heads[1:])
    assert "## other" in heads
    assert "[other](#other)" in text


def test_both_files_are_written(full: Table, tmp_path: Path) -> None:
    files = write_bound([full, full], tmp_path / "all")
    assert {name: path.name for name, path in files.items()} == {
        "page.html": "page.html",
        "tables.md": "tables.md",
    }
    assert all(path.stat().st_size > 500 for path in files.values())
