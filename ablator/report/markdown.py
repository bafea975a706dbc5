"""The table as Markdown (GitHub's tables)."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence

from ablator.report import formatting
from ablator.report.columns import Column, columns, interaction_columns, search_columns
from ablator.report.disturbed import disturbed_line
from ablator.report.interactions import RULE
from ablator.report.table import Table


def escape(text: str) -> str:
    """`text` on one line, such that Markdown and HTML show it as it is."""
    plain = html.escape(" ".join(text.split()), quote=False)
    # An underscore inside a word and a bracket that starts no link mean nothing to Markdown.
    return re.sub(r"([\\`*|~]|\b_\B|\B_|\](?=[(\[:]))", r"\\\1", plain)


def render_markdown(table: Table, costs: bool = True) -> str:
    """The whole report; with `costs=False` only what the same records always give, to the byte."""
    spec = table.spec
    origin = " · ".join(part for part in (spec.source, f"profile {spec.profile}") if part)
    parts = [f"# {escape(spec.study)}", escape(origin)]
    parts += [escape(spec.question)] if spec.question else []
    parts += [_grid(columns(table, costs=costs)), formatting.summary(table)]
    if table.interactions:
        parts += ["## Interactions", _grid(interaction_columns(table)), escape(RULE)]
    for search in table.searches:
        parts += [f"## Search: {escape(search.label)}", escape(search.summary())]
        parts += [_grid(search_columns(search))] if search.top else []
    notes = [
        f"{str(number).translate(formatting.SUPERSCRIPTS)} {escape(note)}"
        for number, note in _numbered(table)
    ]
    parts += ["  \n".join(notes)] if notes else []
    parts += [escape(note) for note in table.notes]
    parts += [escape(formatting.rule(spec)), f"{table.account.line()}."]
    if costs and table.disturbed:
        parts.append(escape(disturbed_line(table.disturbed)))
    if costs and table.seconds:
        parts.append(f"Training and evaluation took {formatting.duration(table.seconds)} in all.")
    if spec.command:
        # Every space counts in a quoted word.
        parts.append("To reproduce:\n\n" + textwrap.indent(spec.command, "    ", lambda _: True))
    return "\n\n".join(parts) + "\n"


def bind_markdown(tables: Sequence[Table], costs: bool = True) -> str:
    """All reports below each other, after a list of them."""
    lines = [
        f"- [{escape(table.spec.study)}](#{table.spec.study}) ({formatting.results_text(table)}): "
        + escape(table.spec.question)
        for table in tables
    ]
    # One heading above those of the studies.
    reports = [
        re.sub(r"^(#+) ", r"#\1 ", render_markdown(table, costs), flags=re.MULTILINE) for table in tables
    ]
    return "\n".join([f"# {formatting.studies_text(tables)}\n", *lines, "", *reports])


def _numbered(table: Table) -> list[tuple[int, str]]:
    return list(enumerate(table.footnotes, start=1))


def _grid(shown: Sequence[Column]) -> str:
    lines = [
        [escape(column.title) for column in shown],
        ["--:" if column.numeric else ":--" for column in shown],
        *([escape(cell) for cell in row] for row in zip(*(column.cells for column in shown), strict=True)),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
