"""What a notebook shows of a study, its plan and its results."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from ablator.contracts.inline import inline_table
from ablator.plan.planning import plan
from ablator.report.inline import render_inline
from ablator.report.table import Table
from ablator.study.schema import Arms, Baseline, Study


class _Cells(HTMLParser):
    """The texts of a table's cells, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        self._open = tag in ("td", "th")
        if self._open:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = False


STUDY = Study(
    study="shown",
    question="Is a < b & c?",
    base={"data": {"name": "digits", "image_size": 32}},
    baseline=Baseline(label="<b>DeiT</b>"),
    arms=(Arms(label="n = {n}", design="grid", set={"moto.n": [2, 4]}),),
    seeds=2,
)


def test_texts_are_shown_as_they_are_and_never_as_markup() -> None:
    html = STUDY._repr_html_()
    assert "<b>" not in html
    assert "Is a &lt; b &amp; c?" in html
    assert _Cells(html).rows == [
        ["rows", "design", "set"],
        ["<b>DeiT</b>", "baseline", ""],
        ["n = {n}", "grid", "moto.n: [2, 4]"],
    ]


def test_a_plan_shows_its_rows_and_their_trials() -> None:
    html = plan(STUDY, fingerprint=lambda data: "f")._repr_html_()
    assert "shown · profile paper · 6 trials · seeds 0, 1" in html
    assert _Cells(html).rows[1:] == [
        ["<b>DeiT</b>", "", "", "2"],
        ["n = 2", "moto.n = 2", "<b>DeiT</b>", "2"],
        ["n = 4", "moto.n = 4", "<b>DeiT</b>", "2"],
    ]


def test_colours_are_the_notebooks_own() -> None:
    html = inline_table(("a", "b"), [("1", "2")], caption="c", notes=("n",), numeric=(True, False))
    assert not re.search(r"#[0-9a-f]{3,6}\b|background|(?<!-)color:", html)
    assert re.findall(r"text-align:(\w+);white", html) == ["right", "left"] * 2


def test_results_show_the_table_and_what_stands_below_it(full: Table) -> None:
    html = render_inline(full)
    titles, *rows = _Cells(html).rows
    assert titles[:2] == ["arm", "top1 ↑"]
    assert len(rows) == len(full.rows)
    assert "n = 8, soft" in rows[1][0]
    for note in full.footnotes:
        assert note.split("<")[0][:30] in html
    assert full.account.line() in html
