"""Commands that make a table, or one row of it, again: what a shell makes of them is what was meant."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shlex
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from ablator.report import csv, markdown, page
from ablator.report.reproducing import Reproduction
from ablator.report.table import RowSpec, Table

Build = Callable[..., Table]


def row(label: str, **more: int) -> RowSpec:
    return RowSpec(label=label, changes={}, identities=(), **more)  # type: ignore[arg-type]


@given(
    file=st.text(min_size=1),
    label=st.text(min_size=1),
    override=st.text(min_size=1),
    chosen=st.lists(st.text(min_size=1)),
)
def test_a_shell_reads_what_was_said(file: str, label: str, override: str, chosen: list[str]) -> None:
    again = Reproduction(file=file, study="s", profile="laptop", overrides=[override], chosen=chosen)
    common = ["ablator", "run", file, "--profile", "laptop", "--set", override]
    assert shlex.split(again.table()) == common + [word for one in chosen for word in ("--row", one)]
    (made,) = again.rows([row(label)], mark=" (best)")
    assert shlex.split(made.command) == [*common, "--row", label]


def test_plain_words_stay_as_they_are() -> None:
    again = Reproduction(file="experiments/moto_n.yaml", study="moto_n", profile=None, overrides=["a=[1, 2]"])
    assert again.table() == "ablator run experiments/moto_n.yaml --set 'a=[1, 2]'"
    nameless = Reproduction(file=None, study="built", profile="laptop", overrides=[])
    assert nameless.table() == "ablator run <built> --profile laptop", "a place for a file to be named"


def test_the_best_row_comes_of_its_search() -> None:
    again = Reproduction(file="s.yaml", study="s", profile=None, overrides=[])
    declared, best = again.rows([row("kept (best)")], [row("found (best)", chosen_from=9)], mark=" (best)")
    assert declared.command == "ablator run s.yaml --row 'kept (best)'"
    assert best.command == "ablator run s.yaml --row found"


def commanded(table: Table) -> Table:
    """The table with the commands that a run gives it."""
    again = Reproduction(file="a b.yaml", study="demo", profile="laptop", overrides=["train.lr=[1,  2]"])
    spec = dataclasses.replace(
        table.spec, rows=again.rows(table.spec.rows, mark=" (best)"), command=again.table()
    )
    return dataclasses.replace(table, spec=spec)


def test_page_and_json_say_the_command_of_every_row(build: Build) -> None:
    label = "it's <n> = 2 & more"
    table = commanded(build({"base": [80.0, 81.0], label: [82.0, 83.5]}))
    common = ["ablator", "run", "a b.yaml", "--profile", "laptop", "--set", "train.lr=[1,  2]"]
    expected = [common, [*common, "--row", "base"], [*common, "--row", label]]
    shown = re.findall(r'<pre class="command">(.*?)</pre>', page.render_page(table), flags=re.DOTALL)
    assert [shlex.split(html.unescape(text)) for text in shown] == expected
    document = json.loads(csv.render_json(table))
    said = [document["study"]["command"], *(one["command"] for one in document["rows"])]
    assert [shlex.split(text) for text in said] == expected
    text = markdown.render_markdown(table)
    assert "    ablator run 'a b.yaml' --profile laptop --set 'train.lr=[1,  2]'\n" in text
    assert "--row" not in text, "Markdown has one command for the whole table"


def test_rows_without_a_command_show_none(build: Build) -> None:
    assert "<details" not in page.render_page(build({"base": [80.0], "arm": [81.0]}))
