"""The command about two reports: diff."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ablator.cli import objects, output, stores
from ablator.cli import options as o
from ablator.cli.app import app, examples

if TYPE_CHECKING:
    from ablator.report.comparing import Difference, RowDifference

_REPORT = "Report: results.json, the folder that it lies in, or a store (also s3://BUCKET/PREFIX)."
First = Annotated[str, typer.Argument(metavar="A", help=_REPORT, show_default=False)]
Second = Annotated[str, typer.Argument(metavar="B", help=_REPORT, show_default=False)]


@app.command(
    epilog=examples(
        "ablator diff .ablator/reports/moto_n/laptop old/results.json",
        "ablator diff .ablator /mnt/other/.ablator --json | tail -n 1",
    ),
    short_help="Compare two reports of a study: how they were made, and what came out.",
)
def diff(first: First, second: Second, as_json: o.Json = False) -> None:
    """Compare two reports of a study: versions and machines, profiles, what rows have in their specs, values,
    and whether their intervals overlap. Of two stores, all reports that both have.

    The exit code is 0 whether they differ or not.
    """
    from ablator.report.comparing import compare_reports, sides

    found = [
        compare_reports(left, right) for left, right in sides(stores.reports(first), stores.reports(second))
    ]
    human = output.console(stderr=as_json)
    for number, difference in enumerate(found):
        if number:
            human.print()
        _print(human, difference)
    if as_json:
        objects.print_json({"reports": [dataclasses.asdict(difference) for difference in found]})


def _print(to: Console, found: Difference) -> None:
    to.print(Text(found.study, style="bold") + Text(f"  A: {found.paths[0]}"))
    to.print(Text(" " * len(found.study)) + Text(f"  B: {found.paths[1]}"))
    made = {"profile": found.profiles, "metric": found.metrics, **found.versions}
    made = {name: values for name, values in made.items() if values[0] != values[1]}
    to.print()
    if made:
        to.print(_two_columns("made with", made))
    else:
        output.say(to, "Both are made with the same profile and versions, on machines of the same kind.")
    to.print()
    if found.rows:
        to.print(_values(found))
    for row in found.rows:
        if row.spec:
            spec = {key: (_said(ours), _said(theirs)) for key, (ours, theirs) in row.spec.items()}
            to.print()
            to.print(_two_columns(f"spec of {row.label}", spec))
    for name, labels in zip("AB", found.only, strict=True):
        if labels:
            output.say(to, f"only in {name}: {', '.join(labels)}", "yellow")


def _said(value: object) -> str:
    from ablator.study.overlay import value_text

    return "–" if value is None else value_text(value)


def _table() -> RichTable:
    return RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0)
    )


def _two_columns(title: str, values: dict[str, tuple[str, str]]) -> RichTable:
    table = _table()
    for head in (title, "A", "B"):
        table.add_column(Text(head), overflow="fold")
    for name, (ours, theirs) in values.items():
        table.add_row(Text(name), Text(ours or "–"), Text(theirs or "–"))
    return table


def _values(found: Difference) -> RichTable:
    from ablator.report.formatting import decimals_of, number, signed

    means = [mean for row in found.rows for mean in row.means]
    digits = decimals_of(means)
    table = _table()
    table.add_column("arm", overflow="fold")
    for head in (f"{found.metric} A", "n", f"{found.metric} B", "n", "B − A", "Δ A", "Δ B"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    table.add_column("95 % intervals", overflow="fold")
    for row in found.rows:
        cells = [row.label, number(row.means[0], digits), str(row.seeds[0])]
        cells += [number(row.means[1], digits), str(row.seeds[1]), signed(row.change, digits)]
        cells += [signed(row.deltas[0], digits), signed(row.deltas[1], digits)]
        table.add_row(*map(Text, cells), _overlap(row))
    return table


def _overlap(row: RowDifference) -> Text:
    if row.overlap is None:
        return Text("too few seeds", style="dim")
    return Text("overlap", style="dim") if row.overlap else Text("apart", style="bold yellow")
