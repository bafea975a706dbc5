"""Figures of the page about the arms: the forest of differences, learning curves, and a search's history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ablator.report import formatting
from ablator.report.drawing import COLOURS, SERIES, WIDTH, short, style, svg
from ablator.report.search import SearchTable
from ablator.report.statistics import Mode
from ablator.report.table import Row, Table

FOREST_ROWS = 40
"""Rows of a forest plot that a page can carry."""


def forest(table: Table) -> str:
    """Δ with its interval for every arm, and the source's own Δ as a hollow diamond below it. Empty where
    no arm has a Δ. Beyond FOREST_ROWS arms, those with the largest differences are drawn."""
    arms = [row for row in table.rows if row.comparison is not None]
    if all(row.comparison is None or row.comparison.delta is None for row in arms):
        return ""
    if len(arms) > FOREST_ROWS:
        largest = sorted(arms, key=lambda row: -abs((row.comparison and row.comparison.delta) or 0.0))[
            :FOREST_ROWS
        ]
        arms = [row for row in arms if row in largest]
    with style("forest"):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.32 * len(arms)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0.0, color=COLOURS["muted"], linewidth=1)
        for position, row in enumerate(arms):
            _forest_row(axes, position, row, table.spec.metric)
        axes.set_yticks(range(len(arms)), [short(row.label) for row in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        towards = "better →" if table.spec.mode == "max" else "← better"
        against = "each row's baseline" if table.several_baselines else short(table.baseline.label)
        axes.set_xlabel(f"Δ {table.spec.metric} against {against} ({towards})")
        return svg(figure, "Difference of every arm from the baseline, with its 95 % interval")


def _forest_row(axes: Any, position: int, row: Row, metric: str) -> None:
    found = row.comparison
    assert found is not None
    reported = row.reported.get(metric)
    if reported is not None and reported.delta is not None:
        axes.plot(
            reported.delta,
            position + 0.28,
            marker="D",
            markersize=4.5,
            markerfacecolor="none",
            markeredgecolor=COLOURS["reported"],
        )
    if found.delta is None:
        axes.text(0.0, position, f" {formatting.status_text(row) or 'no pair'}", va="center", style="italic")
        return
    colour = COLOURS["good"] if found.verdict == "supported" else COLOURS["ink"]
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [position, position], color=colour, linewidth=1.6)
    hollow = found.verdict == "underpowered"
    axes.plot(
        found.delta,
        position,
        marker="o",
        markersize=6,
        markeredgecolor=colour,
        markerfacecolor="none" if hollow else colour,
    )


def drawn_rows(table: Table) -> list[Row]:
    """The rows that have curves; beyond SERIES, the first baseline and the best of the others."""
    rows = [row for row in table.rows if any(len(cell.curve) > 1 for cell in row.cells)]
    if len(rows) <= SERIES:
        return rows
    sign = -1.0 if table.spec.mode == "max" else 1.0
    arms = [row for row in rows if row is not table.baseline]
    best = sorted(arms, key=lambda row: (row.mean is None, sign * (row.mean or 0.0)))
    kept = best[: SERIES - 1]
    return [row for row in rows if row is table.baseline or row in kept]


def curves(table: Table) -> str:
    """The metric by epoch: the mean over completed seeds with the band from the lowest to the highest, and
    each diverged seed as a dashed line to where it ended. Empty where no record has two evaluations."""
    rows = drawn_rows(table)
    if not rows:
        return ""
    with style("curves"):
        columns = 1 if max(len(row.label) for row in rows) > 18 else 2
        figure = Figure(figsize=(WIDTH, 2.9 + 0.2 * math.ceil(len(rows) / columns)), layout="constrained")
        axes = figure.add_subplot()
        for index, row in enumerate(rows):
            _curve(axes, row, COLOURS[f"series-{index}"])
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel(table.spec.metric)
        axes.grid(axis="y")
        axes.tick_params(axis="y", labelcolor=COLOURS["muted"])
        axes.margins(x=0.02)
        _skip_the_steep_start(axes, rows, table.spec.mode)
        figure.legend(loc="outside lower left", ncols=columns, fontsize=8.5)
        return svg(figure, "Learning curves of the arms")


def _skip_the_steep_start(axes: Any, rows: Sequence[Row], mode: Mode) -> None:
    """Let the axis begin where the curves are after a quarter of the epochs: what differs is at the end."""
    cells = [cell for row in rows for cell in row.cells if cell.curve]
    quarter = max(cell.curve[-1][0] for cell in cells) / 4
    late = [
        value
        for cell in cells
        for epoch, value in cell.curve
        if epoch >= quarter or epoch == cell.curve[-1][0]
    ]
    margin = 0.06 * (max(late) - min(late)) or 1e-3
    if mode == "max":
        axes.set_ylim(bottom=min(late) - margin)
    else:
        axes.set_ylim(top=max(late) + margin)


def _curve(axes: Any, row: Row, colour: str) -> None:
    by_epoch: dict[float, list[float]] = {}
    for cell in row.cells:
        if cell.status == "completed":
            for epoch, value in cell.curve:
                by_epoch.setdefault(epoch, []).append(value)
    epochs = sorted(by_epoch)
    width = 2.2 if row.is_baseline else 1.5
    label = short(row.label)
    if epochs:
        means = [float(np.mean(by_epoch[epoch])) for epoch in epochs]
        axes.plot(epochs, means, color=colour, linewidth=width, label=label)
        low, high = ([end(by_epoch[epoch]) for epoch in epochs] for end in (min, max))
        axes.fill_between(epochs, low, high, color=colour, alpha=0.16, linewidth=0)
    for cell in row.cells:
        if cell.status == "diverged" and cell.curve:
            xs, ys = zip(*cell.curve, strict=True)
            name = None if epochs else f"{label} (diverged)"
            axes.plot(xs, ys, color=colour, linewidth=1, linestyle=(0, (4, 2)), label=name)
            axes.plot(xs[-1], ys[-1], marker="x", color=colour, markersize=6)
            epochs = epochs or [xs[-1]]


def search_history(search: SearchTable) -> str:
    """Every completed sample's value, and the best so far. Empty with fewer than two completed points."""
    if len(search.history) < 2:
        return ""
    with style(f"search {search.label}"):
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        axes = figure.add_subplot()
        axes.step(
            *_columns(search.history),
            where="post",
            color=COLOURS["good"],
            linewidth=1.8,
            label="best so far",
        )
        axes.plot(*_columns(search.samples_done), "o", color=COLOURS["muted"], markersize=3.5, label="sample")
        axes.set_xlabel("sample")
        axes.set_ylabel(search.metric)
        axes.grid(axis="y")
        axes.tick_params(axis="y", labelcolor=COLOURS["muted"])
        figure.legend(loc="outside lower left", ncols=2, fontsize=8.5)
        return svg(figure, "Best value of the search so far")


def _columns(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [number for number, _ in pairs], [value for _, value in pairs]
