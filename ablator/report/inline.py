"""The table in a notebook: what the terminal shows, as HTML without the reports' page around it."""

from __future__ import annotations

from ablator.contracts.inline import inline_table
from ablator.report import formatting
from ablator.report.columns import columns
from ablator.report.table import Table


def render_inline(table: Table) -> str:
    """The rows with results, tests, sizes and costs, and every footnote."""
    shown = columns(table)
    footnotes = [
        f"{str(number).translate(formatting.SUPERSCRIPTS)} {note}"
        for number, note in enumerate(table.footnotes, start=1)
    ]
    spec = table.spec
    return inline_table(
        [column.title for column in shown],
        list(zip(*(column.cells for column in shown), strict=True)),
        numeric=[column.numeric for column in shown],
        caption=" · ".join(part for part in (spec.study, spec.profile, spec.question) if part),
        notes=[*footnotes, *table.notes, formatting.summary(table), f"{table.account.line()}."],
    )
