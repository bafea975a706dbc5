"""Markdown, LaTeX, CSV and the page say the same, whatever became of the trials."""

from __future__ import annotations

import dataclasses
import html
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pandas as pd
import pytest

from ablator.report import csv, latex, markdown, page
from ablator.report.columns import columns
from ablator.report.table import Cell, Table

Build = Callable[..., Table]
Grid = list[list[str]]


@pytest.fixture
def table(build: Build) -> Table:
    """One row for every state that all trials, or some of them, can be in."""
    made = build(
        {
            "base": [80.0, 81.0, 80.5],
            "better": [82.0, 83.1, 82.4],
            "diverged": ["diverged", "diverged", "diverged"],
            "failed": ["failed", "failed", "failed"],
            "pruned": ["pruned", "pruned", "pruned"],
            "missing": [None, None, None],
            "mixed": [79.0, "failed", None],
            "OOM": [0.0, 0.0, 0.0],
        },
        reported={"base": {"top1": 79.8}, "better": {"top1": 81.6}},
    )
    out = made.rows[-1]
    cells: tuple[Cell, ...] = tuple(dataclasses.replace(cell, value=None, word="OOM") for cell in out.cells)
    lost = dataclasses.replace(out, cells=cells, n=0, mean=None, std=None, comparison=None)
    return dataclasses.replace(made, rows=(*made.rows[:-1], lost))


def from_markdown(text: str) -> Grid:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [[html.unescape(re.sub(r"\\(.)", r"\1", cell)) for cell in row] for row in [cells[0], *cells[2:]]]


def from_latex(text: str) -> Grid:
    """All parts side by side; every part begins with the arm."""
    parts = []
    for body in re.findall(r"\\begin\{tabular\}.*?\n(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r" \\") and "multicolumn" not in line]
        parts.append([[_plain(cell) for cell in line.removesuffix(r" \\").split(" & ")] for line in lines])
    return [[rows[0][0], *(cell for row in rows for cell in row[1:])] for rows in zip(*parts, strict=True)]


def _plain(cell: str) -> str:
    for written, meant in {"$-$": "−", r"$\pm$": "±", r"$\uparrow$": "↑", r"\%": "%", "$<$": "<"}.items():
        cell = cell.replace(written, meant)
    cell = re.sub(r"\\textsuperscript\{(\d)\}", lambda found: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(found[1])], cell)
    return re.sub(r"^\{(.*)\}$", r"\1", cell)


class Rows(HTMLParser):
    """Texts of the cells of the first table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: Grid = []
        self.inside = self.done = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.done:
            return
        if tag == "tr":
            self.rows.append([])
        self.inside = self.inside or tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.done = self.done or tag == "table"
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside and not self.done:
            self.rows[-1][-1] += data


def test_all_formats_show_the_same_cells(table: Table) -> None:
    shown = columns(table)
    expected = [list(row) for row in zip(*(column.cells for column in shown), strict=True)]
    assert from_markdown(markdown.render_markdown(table))[1:] == expected
    assert Rows(page.render_page(table)).rows[2:] == expected
    groups = ("result", "test"), ("further",)
    order = [c for group in groups for c in shown[1:] if c.group in group]
    order = [shown[0], *order, *(c for c in shown[1:] if c not in order)]
    rows = [list(row) for row in zip(*(column.cells for column in order), strict=True)]
    assert from_latex(latex.render_latex(table))[1:] == rows


def test_no_row_without_a_value_has_a_number(table: Table) -> None:
    cells = {
        row[0].rstrip("¹²³⁴⁵⁶⁷⁸⁹,"): row[1] for row in from_markdown(markdown.render_markdown(table))[1:]
    }
    assert cells["diverged"] == "diverged (3/3)"
    assert cells["failed"] == "failed (3/3)"
    assert cells["pruned"] == "pruned (3/3)"
    assert cells["missing"] == "missing (3/3)"
    assert cells["OOM"] == "OOM"
    assert cells["mixed"] == "79.00"
    frame = pd.read_csv(io.StringIO(csv.render_csv(table)), index_col="arm")
    for label in ("diverged", "failed", "pruned", "missing", "OOM"):
        assert pd.isna(frame.loc[label, "mean"])
    assert frame.loc["OOM", "seed_0"] == "OOM"
