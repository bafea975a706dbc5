"""The outputs: they agree with each other, repeat to the byte, and no label can break them."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ablator.errors import StoreError
from ablator.report import columns, csv, formatting, latex, markdown, page, terminal
from ablator.report.search import SearchPoint, build_search
from ablator.report.table import Table
from ablator.report.writing import RENDERERS, write_report

Build = Callable[..., Table]
HOSTILE = [
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "{{ 7 * 7 }} {% raw %}",
    "a | b\nc",
    "[x](javascript:alert(1)) _y_ *z* `q`",
    "[bold red]n = 2[/]",
    r"\input{/etc/passwd} $x^2$ 50% #1 a_b & ~",
    '=cmd, "quoted"',
    "</svg></style>",
]


PROSE = [
    "a",
    "body",
    "code",
    "h3",
    "nav",
    "script",
    "main",
    "header",
    "section",
    "div",
    "h1",
    "h2",
    "p",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "pre",
    "span",
]
GRAPHICS = ["figure", "figcaption", "svg", "defs", "g", "path", "rect", "clippath", "text", "use"]
TABLES = ["table", "thead", "tbody", "tr", "th", "td"]
TAGS = {"html", "head", "meta", "link", "title", "style", *PROSE, *GRAPHICS, *TABLES}
"""What the page is made of."""


class Page(HTMLParser):
    """Tags, attributes and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


def printed(table: Table, width: int, **options: bool) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    terminal.print_table(table, console, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(table: Table) -> list[list[str]]:
    made = columns.columns(table)
    return [
        [column.title for column in made],
        *(list(row) for row in zip(*(c.cells for c in made), strict=True)),
    ]


def test_markdown_parses_back_to_the_shown_cells(full: Table) -> None:
    text = markdown.render_markdown(full)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    parsed = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    plain = [[re.sub(r"\\(.)", r"\1", cell) for cell in row] for row in parsed]
    assert [plain[0], *plain[2:]] == shown(full)


def test_page_parses_back_to_the_shown_cells(full: Table) -> None:
    rows = Page(page.render_page(full)).rows
    expected = shown(full)
    assert rows[2 : 1 + len(expected)] == expected[1:]


def test_csv_keeps_every_bit_and_agrees_with_the_page(full: Table) -> None:
    frame = pd.read_csv(io.StringIO(csv.render_csv(full)))
    for row, line in zip(full.rows, frame.to_dict("records"), strict=True):
        assert line["arm"] == row.label
        assert (None if pd.isna(line["mean"]) else line["mean"]) == row.mean
        if row.comparison and row.comparison.low is not None:
            assert (line["delta"], line["low"], line["p"]) == (
                row.comparison.delta,
                row.comparison.low,
                row.comparison.p,
            )
        assert line["n"] == row.n
    assert frame["reported_top1"].tolist()[3] == "diverged"
    assert frame.loc[1, "seed_0"] == 81.5
    assert pd.isna(frame.loc[2, "seed_1"])


def test_json_is_strict_and_keeps_measurements_apart(full: Table) -> None:
    document = json.loads(csv.render_json(full), parse_constant=pytest.fail)
    assert document["rows"][1]["mean"] == full.rows[1].mean
    assert document["rows"][3]["mean"] is None
    assert document["account"]["planned"] == 15
    assert "cost" not in document["rows"][0]
    assert document["costs"]["rows"][1]["overhead_percent"] == pytest.approx(10.0)
    bare = json.loads(csv.render_json(full, costs=False))
    assert {key: value for key, value in document.items() if key in bare} == bare


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_terminal_fits_and_says_everything(full: Table, width: int) -> None:
    text = printed(full, width)
    assert max(map(len, text.splitlines())) <= width
    for row in shown(full)[1:]:
        for cell in row[1:]:
            assert cell in text, cell
    assert "15 planned = 10 completed + 1 failed + 3 diverged + 0 pruned + 1 missing" in text


def test_terminal_wraps_a_long_label_and_loses_no_number(build: Build) -> None:
    label = "tokenizer with a very long description of what has been changed in it, twice over"
    table = build({"base": [80.0, 81.0, 80.5], label: [81.5, 82.4, 82.1]})
    text = printed(table, 80)
    assert max(map(len, text.splitlines())) <= 80
    for cell in ("82.00 ± 0.46", "+1.50", "supported"):
        assert cell in text


def test_empty_columns_are_hidden(build: Build) -> None:
    keys = [column.key for column in columns.columns(build({"base": [80.0], "arm": [81.0]}))]
    assert keys == ["label", "value", "n", "delta", "verdict"]


def test_without_costs_nothing_measured_is_left(full: Table) -> None:
    slower = dataclasses.replace(
        full,
        seconds=1.0,
        versions={"torch": ("9",)},
        rows=tuple(dataclasses.replace(row, cost=full.rows[0].cost) for row in full.rows),
    )
    for render in RENDERERS.values():
        assert render(full, costs=False) == render(slower, costs=False)
        assert render(full) != render(slower)


def test_outputs_repeat_to_the_byte(full: Table, tmp_path: Path) -> None:
    first = {name: path.read_bytes() for name, path in write_report(full, tmp_path / "a").items()}
    second = {name: path.read_bytes() for name, path in write_report(full, tmp_path / "b").items()}
    assert first == second
    assert set(first) == {"table.md", "table.tex", "table.csv", "page.html", "results.json"}


def test_writing_replaces_whole_files_and_leaves_nothing_beside(full: Table, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")
    paths = write_report(full, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    assert paths["page.html"].read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_directory_that_cannot_be_made_is_named(full: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written to .*file"):
        write_report(full, tmp_path / "file")


@pytest.mark.parametrize("label", HOSTILE)
def test_no_text_of_a_study_can_become_markup(build: Build, label: str) -> None:
    curves = ({"epoch": 1.0, "top1": 1.0}, {"epoch": 2.0, "top1": 2.0})
    point = SearchPoint(params={label: label}, value=1.0, status="completed", identity="a")
    table = build(
        {"base": [80.0, 81.0], label: [81.0, 82.5], "lost": ["diverged", "failed"]},
        more={label: {"curves": curves, "notes": (label,), "versions": {label: label}}},
        reported={label: {"top1": 1.0, label: 2.0}},
        searches=[build_search(label, "top1", "max", [point, dataclasses.replace(point, identity="b")])],
        question=label,
        source=label,
        command=label,
        notes=(label,),
    )
    text = page.render_page(table)
    parsed = Page(text)
    assert set(parsed.tags) <= TAGS
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name in ("src", "srcdoc")]
    assert parsed.tags.count("script") == 1, "the page's own, which the policy names by its hash"
    assert not [value for _, value in parsed.attributes if value and "javascript:" in value]
    assert any(" ".join(label.split()) in cell for row in parsed.rows for cell in row)
    rows = [line for line in markdown.render_markdown(table).splitlines() if line.startswith("|")]
    assert "<img" not in "".join(rows)
    assert "](" not in "".join(rows).replace("\\](", "")
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:5]}
    assert len(widths) == 1
    assert " ".join(label.split()) in " ".join(printed(table, 400).split())
    assert csv.to_frame(table)["arm"].tolist()[1] == label


def test_best_points_are_readable_whole_in_any_width(build: Build) -> None:
    params = {"moto": "on", **{f"moto.dimension_{i}": i for i in range(12)}}
    on = SearchPoint(params=params, value=81.0, status="completed", identity="a")
    off = SearchPoint(params={"moto": "off"}, value=80.0, status="completed", identity="b")
    search = build_search("best", "top1", "max", [on, off])
    table = build({"base": [80.0], "best": [81.0]}, searches=[search])
    wide, narrow = printed(table, 400), printed(table, 80)
    assert "moto.dimension_11" in next(line for line in wide.splitlines() if line.startswith("rank"))
    for index in range(12):
        assert f"moto.dimension_{index} {index} " in " ".join(narrow.split()) + " "
    assert max(map(len, narrow.splitlines())) <= 80
    assert "moto off" in narrow, "dimensions that do not apply are left out"


def test_the_page_asks_for_nothing(full: Table) -> None:
    parsed = Page(page.render_page(full))
    assert not {"iframe", "img", "object", "embed", "form"} & set(parsed.tags)
    assert "src" not in dict(parsed.attributes)
    links = [value for name, value in parsed.attributes if name in ("href", "src", "xlink:href") and value]
    assert all(link.startswith(("#", "data:")) for link in links)
    policies = [value for _, value in parsed.attributes if value and value.startswith("default-src 'none'")]
    assert len(policies) == 1
    assert "connect-src" not in policies[0]
    assert "script-src 'sha256-" in policies[0]


def test_figures_follow_the_page_and_are_drawn_once(full: Table) -> None:
    text = page.render_page(full)
    figures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(figures) == 5, "the forest, the curves, and the values against three kinds of cost"
    for figure in figures:
        assert "var(--ink)" in figure or "var(--series-0)" in figure
        assert not re.findall(r"#0[1-6]0\d0\d", figure)
        assert "<metadata" not in figure
    assert "diverged (3/3)" in figures[0]
    assert "λ = 1.0 (diverged)" in figures[1]


def test_a_large_table_draws_a_part_and_says_so(build: Build) -> None:
    curves = ({"epoch": 1.0, "top1": 1.0}, {"epoch": 2.0, "top1": 2.0})
    arms = {f"arm {index}": [80.0 + index, 81.0 + index * 1.1] for index in range(45)}
    table = build(arms, more={label: {"curves": curves} for label in arms})
    text = page.render_page(table)
    assert "Shown: 8 of 45 rows." in text
    forest = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)[0]
    assert "arm 44" in forest
    assert "arm 1<" not in forest


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_keeps_braces_balanced_and_specials_escaped(text: str) -> None:
    escaped = latex.escape(text)
    bare = re.sub(r"\\[\\{}$&#%_]", "", escaped)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[&#%_~^]", re.sub(r"\\[a-z]+", "", bare))
    assert r"\input" not in escaped


def test_latex_has_one_cell_for_each_column(full: Table) -> None:
    text = latex.render_latex(full)
    for part in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        rows = [line for line in part[1].splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len(rows) == 1 + len(full.rows)
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(part[0])}
    assert r"$\lambda$ = 1.0\textsuperscript" in text
    assert r"n = 32\_hard" in text


@given(st.floats(-1e4, 1e4), st.integers(0, 4))
def test_signed_numbers_read_back(value: float, decimals: int) -> None:
    text = formatting.signed(value, decimals)
    back = float(text.replace("−", "-"))
    assert back == pytest.approx(value, abs=0.5000001 * 10**-decimals)
    assert (text[0] in "+−") == (back != 0)


def test_reported_values_are_shown_as_printed(full: Table) -> None:
    shown_columns = {column.key: column.cells for column in columns.columns(full)}
    assert shown_columns["reported_top1"] == ("79.8", "81.6", "", "diverged", "")
    assert shown_columns["reported_delta"] == ("", "+1.8", "", "", "")
    assert shown_columns["reported_training_overhead"][1] == "4.1"
