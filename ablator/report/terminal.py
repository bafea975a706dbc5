"""The table in a terminal: one table where it fits the width, else results and costs below each other."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from ablator.report import formatting
from ablator.report.columns import Column, columns, interaction_columns, search_columns
from ablator.report.disturbed import disturbed_line
from ablator.report.table import Account, Table

VERDICT_STYLES = {"supported": "green", "not supported": "dim", "underpowered": "yellow"}
LAYOUTS: tuple[tuple[frozenset[str], ...], ...] = (
    (frozenset({"result", "test", "further", "size", "cost", "reported"}),),
    (frozenset({"result", "test", "further", "reported"}), frozenset({"size", "cost"})),
    (frozenset({"result", "test", "further"}), frozenset({"size", "cost", "reported"})),
    (frozenset({"result", "test"}), frozenset({"further"}), frozenset({"size", "cost", "reported"})),
    (
        frozenset({"result", "test"}),
        frozenset({"further"}),
        frozenset({"size", "cost"}),
        frozenset({"reported"}),
    ),
)
"""Ways to lay the column groups out, from wide to narrow; the first that fits is taken, else the last one,
with labels that wrap."""


def render_terminal(
    table: Table, *, width: int, costs: bool = True, account: Account | None = None
) -> RenderableType:
    """What `print_table` prints, for a terminal of `width` columns; `account` replaces the table's own, to
    tell what a run found in the ledger."""
    spec = table.spec
    shown = columns(table, costs=costs)
    parts: list[RenderableType] = [
        Text(spec.study, style="bold") + Text(f"  {spec.source} · profile {spec.profile}")
    ]
    parts += [Text(text) for text in (spec.question,) if text]
    parts += [Text(), *_tables(shown, width)]
    if table.interactions:
        lines = interaction_columns(table)
        parts += [Text("Interactions", style="bold"), *_tables(lines, width)]
    for search in table.searches:
        parts += [Text(f"Search: {search.label}", style="bold"), Text(search.summary())]
        parts += [_best_points(search_columns(search), width), Text()] if search.top else []
    parts += [Text(formatting.summary(table))]
    parts += [
        Text(f"{str(number).translate(formatting.SUPERSCRIPTS)} {note}", style="dim")
        for number, note in enumerate(table.footnotes, start=1)
    ]
    parts += [Text(f"Note: {note}", style="dim") for note in table.notes]
    if costs and table.disturbed:
        parts.append(Text(disturbed_line(table.disturbed), style="dim"))
    line = (account or table.account).line()
    parts.append(Text(line, style="" if table.complete else "bold red"))
    return Group(*parts)


def print_table(
    table: Table, console: Console | None = None, *, costs: bool = True, account: Account | None = None
) -> None:
    """Print the table to `console` (standard output where None), laid out for its width."""
    console = console or Console()
    console.print(render_terminal(table, width=console.width, costs=costs, account=account))


def _tables(shown: Sequence[Column], width: int) -> list[RenderableType]:
    made: list[RichTable] = []
    for layout in LAYOUTS:
        groups = [[column for column in shown if column.group in part] for part in layout]
        made = [_rich_table([shown[0], *part]) for part in groups if part]
        if all(_natural_width(one) <= width for one in made):
            break
    return [part for one in made for part in (one, Text())]


def _best_points(shown: Sequence[Column], width: int) -> RichTable:
    """One column for each sampled key, or, where that is too wide, each point in words."""
    made = _rich_table(shown)
    if _natural_width(made) <= width:
        return made
    rank, value, *params = shown
    points = [
        " · ".join(f"{param.key} {param.cells[row]}" for param in params if param.cells[row])
        for row in range(len(rank.cells))
    ]
    point = Column(key="label", title="point", group="arm", cells=tuple(points), numeric=False)
    return _rich_table([rank, value, point])


def _natural_width(table: RichTable) -> int:
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _rich_table(shown: Sequence[Column]) -> RichTable:
    table = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in shown:
        style = "italic cyan" if column.group == "reported" else ""
        fold = column.group == "arm"
        table.add_column(
            Text(_title(column)),
            justify="right" if column.numeric else "left",
            style=style,
            no_wrap=not fold,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(_styled(column, cell) for column, cell in zip(shown, row, strict=True)))
    return table


def _title(column: Column) -> str:
    # Two lines where the title, and not a number, would make the column wide.
    widest = max(map(len, column.cells), default=0)
    return column.title.replace(" ", "\n", 1) if len(column.title) > widest + 2 else column.title


def _styled(column: Column, cell: str) -> Text:
    if column.key == "verdict":
        return Text(cell, style=VERDICT_STYLES.get(cell, ""))
    if column.key == "value" and "(" in cell:
        return Text(cell, style="red")
    return Text(cell)
