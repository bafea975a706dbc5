"""How a run is shown while it goes on: its slots, its counts, and the table as it fills, in the height that
there is. `ablator run` and `ablator status` show the same."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ablator.report.filling import Filling, FillingRow, FillingSearch
from ablator.report.formatting import decimals_of, mean_std, number, signed, words_text
from ablator.results.standing import RunningTrial, Standing

STATUS_STYLES = {"failed": "red", "diverged": "yellow", "pruned": "dim"}
_MANY_SLOTS = 16
"""With more of them idle slots are not listed."""
_HEAD = 2
"""Lines of a table's heading."""
_MARK, _LABEL, _NUMERIC = 0, 1, (2, 4)
"""Columns of the table."""
_Line = FillingRow | FillingSearch
_SHORTEST_LABEL = 12


def region(
    standing: Standing | None,
    filling: Filling | None,
    *,
    width: int,
    height: int | None,
    named: bool = False,
    idle: bool = True,
) -> RenderableType:
    """Slots, counts and table on `width` columns and at most `height` lines (None: as many as it takes).
    Slots and counts stay in sight; of the table as many rows are shown as fit. `named`: with the study's
    name; `idle`: a slot without a trial is idle, and not one whose trial is another study's."""
    parts: list[RenderableType] = []
    left = height
    if standing is not None:
        counted = counts(standing)
        below = cell_len(counted.plain) // width + 1
        slots, lines = _slots(standing, None if left is None else left - below, idle=idle)
        parts += [slots, counted]
        left = None if left is None else left - below - lines
    if filling is not None:
        head = [*([Text()] if parts else []), *([Text(filling.name, style="bold")] if named else [])]
        table = filling_table(filling, width, None if left is None else left - len(head))
        parts += [] if table is None else [*head, table]
    return Group(*parts)


# ---- slots


def _slots(standing: Standing, height: int | None, *, idle: bool) -> tuple[RenderableType, int]:
    """The slots with their trials, and how many lines that takes."""
    if not standing.slots:
        return Text("waiting for Ray and its workers …", "dim"), 1
    on = {trial.slot: trial for trial in standing.running}
    busy = sorted(on)
    if not (idle or busy):
        return Text("no trial of this study runs at the moment", "dim"), 1
    # On a large cluster the counts must stay in sight, so that idle slots are not listed there.
    listed = sorted({*range(standing.slots), *busy}) if idle and standing.slots <= _MANY_SLOTS else busy
    room = len(listed) if height is None else max(1, height - _HEAD)
    shown = listed
    if len(listed) > room:
        shown = sorted([*busy, *(slot for slot in listed if slot not in on)][: room - 1])
    table = _rich_table(expand=True)
    table.add_column("slot", justify="right", no_wrap=True)
    table.add_column("trial", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("", ratio=1, no_wrap=True)
    table.add_column(standing.metric, justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for slot in shown:
        cells = _trial(on[slot]) if slot in on else [Text("idle", style="dim")]
        table.add_row(str(slot) if slot >= 0 else "", *cells)
    if len(listed) > len(shown):
        table.add_row("", Text(f"… and {len(listed) - len(shown)} more slots", style="dim"))
    return table, _HEAD + table.row_count


def _trial(trial: RunningTrial) -> list[Text]:
    part = trial.epoch / trial.epochs if trial.epochs else 0.0
    return [
        Text(f"{trial.label} · seed {trial.seed}"),
        Text(f"{trial.epoch}/{trial.epochs}" if trial.epochs else "…"),
        Text(bar(part, 10), style="cyan"),
        Text(number(trial.value, 2)),
        Text(clock_text(trial.seconds)),
    ]


def counts(standing: Standing) -> Text:
    """How many trials are done, how they ended, and how long it takes."""
    text = Text(f"{standing.done}/{standing.planned} done", style="bold")
    if standing.cached:
        text.append(f" ({standing.cached} cached)", style="not bold dim")
    for status, count in (
        ("failed", standing.failed),
        ("diverged", standing.diverged),
        ("pruned", standing.pruned),
    ):
        if count:
            text.append(f" · {count} {status}", style=f"not bold {STATUS_STYLES[status]}")
    text.append(f" · {clock_text(standing.elapsed)} elapsed", style="not bold")
    left = f" · about {clock_text(standing.eta)} left" if standing.eta else ""
    return text.append(left, style="not bold")


# ---- the table


def filling_table(filling: Filling, width: int, height: int | None) -> RenderableType | None:
    """The table as it fills; None where `height` lines are too few for any of it. Where they are too few for
    all of it, the rows that run come first, then those that were finished last."""
    lines: list[_Line] = [*filling.rows(), *filling.searches()]
    room = len(lines) if height is None else height - _HEAD
    more = 0
    if len(lines) > room:
        if room < 2:
            return None
        more = len(lines) - (room - 1)
        lines = _most_wanted(lines, room - 1)
    table = _lines_table(filling, lines, width)
    if more:
        table.add_row("", Text(f"… and {more} more rows", style="dim"))
    return table


def _lines_table(filling: Filling, lines: Sequence[_Line], width: int) -> RichTable:
    """One line each, whatever the width: labels give way."""
    titles = ["", "", "done", filling.metric, "Δ", "against", ""]
    shown = [c for c, title in enumerate(titles) if title != "against" or filling.several_baselines]
    cells = _cells(filling, lines)
    widths = {c: max(1, cell_len(titles[c]), *(cell_len(row[c].plain) for row in cells)) for c in shown}
    # Between two columns there are two spaces.
    room = width - sum(widths[c] + 2 for c in shown if c != _LABEL)
    table = _rich_table(expand=False)
    for column in shown:
        table.add_column(
            titles[column],
            justify="right" if column in _NUMERIC else "left",
            no_wrap=True,
            overflow="ellipsis",
            # The table must not jump when the first trial starts.
            min_width=1 if column == _MARK else None,
            max_width=max(room, _SHORTEST_LABEL) if column == _LABEL else None,
        )
    for row in cells:
        table.add_row(*(row[column] for column in shown))
    return table


def _most_wanted(lines: Sequence[_Line], count: int) -> list[_Line]:
    """The `count` lines that tell most of what goes on, in their own order."""
    order = sorted(range(len(lines)), key=lambda i: (not lines[i].running, -lines[i].latest, i))
    return [lines[index] for index in sorted(order[:count])]


def _cells(filling: Filling, lines: Sequence[_Line]) -> list[list[Text]]:
    """Mark, label, done, value, Δ, against, remarks; of every line."""
    values = [line.mean if isinstance(line, FillingRow) else line.best for line in lines]
    digits = decimals_of(values)
    # Means stand one under the other, with and without a deviation.
    widest = max(cell_len(number(value, digits)) for value in values)
    cells = []
    for line, value in zip(lines, values, strict=True):
        shown, delta, against = number(value, digits), "", ""
        if isinstance(line, FillingRow):
            shown = " " * (widest - cell_len(shown)) + mean_std(value, line.std, digits)
            delta, against = signed(line.delta, digits), line.against or ""
        elif shown:
            shown = f"best {shown}"
        cells.append(
            [
                Text("▸" if line.running else "", style="cyan"),
                Text(" ".join(line.label.split()), style="bold" if line.running else ""),
                Text(f"{line.done}/{line.planned}", style="" if line.done else "dim"),
                Text(shown),
                Text(delta),
                Text(against, style="dim"),
                _remarks(line),
            ]
        )
    return cells


def _remarks(line: _Line) -> Text:
    """What went wrong, and over how many seeds Δ is where the row has more than these."""
    parts = [
        Text(f"{line.counts[status]} {status}", style=style)
        for status, style in STATUS_STYLES.items()
        if line.counts[status]
    ]
    if isinstance(line, FillingRow):
        parts += [Text(word) for word in words_text(line.words, line.planned)]
        if 0 < line.pairs < line.values:
            parts.append(Text(f"Δ over {line.pairs} of {line.values} seeds", style="dim"))
    return Text(", ").join(parts)


def _rich_table(*, expand: bool) -> RichTable:
    return RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=expand
    )


# ---- words


def clock_text(seconds: float) -> str:
    """`4:05`, or `1:02:03` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar(part: float, width: int) -> str:
    """A bar of `width` characters of which `part` (0 to 1) is drawn."""
    full = round(min(max(part, 0.0), 1.0) * width)
    return "━" * full + " " * (width - full)
