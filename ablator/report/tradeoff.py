"""Accuracy against cost: every row as a point, and the rows that no other one beats in both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from ablator.report.drawing import COLOURS, short, style, svg
from ablator.report.statistics import Mode
from ablator.report.table import Row, Table

WIDTH = 3.6
NAMED = 8
"""Rows whose labels a figure can carry."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Price:
    """One kind of cost of a row."""

    key: str
    title: str
    of: Callable[[Row], float | None]
    measured: bool = False
    """Whether it is different in every run."""


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


PRICES = (
    Price(
        key="parameters",
        title="parameters (M)",
        of=lambda row: _scaled(row.size.parameters, 1e6),
    ),
    Price(key="gmacs", title="GFLOPs (as multiply-adds)", of=lambda row: row.size.gmacs),
    Price(
        key="step",
        title="median training step (ms)",
        of=lambda row: row.cost.step_ms,
        measured=True,
    ),
)


def prices(table: Table, costs: bool = True) -> list[Price]:
    """The kinds of cost in which rows with a value differ; measured ones only with `costs`."""
    rows = [row for row in table.rows if row.mean is not None]
    return [
        price
        for price in PRICES
        if (costs or not price.measured)
        and len({value for row in rows if (value := price.of(row)) is not None}) > 1
    ]


def front(points: Sequence[tuple[float, float]], mode: Mode) -> list[int]:
    """Indices of the (cost, value) that no other one beats, cheapest first: cheaper and as good, or as cheap
    and better. Of equal points the first counts."""
    sign = -1.0 if mode == "max" else 1.0
    order = sorted(range(len(points)), key=lambda index: (points[index][0], sign * points[index][1], index))
    kept: list[int] = []
    for index in order:
        if not kept or sign * points[index][1] < sign * points[kept[-1]][1]:
            kept.append(index)
    return kept


def draw(table: Table, price: Price) -> str:
    """One figure, with the front as a line; the baseline and the rows of the front have their names."""
    rows = [row for row in table.rows if row.mean is not None and price.of(row) is not None]
    points = [(price.of(row) or 0.0, row.mean or 0.0) for row in rows]
    best = front(points, table.spec.mode)
    on_front = set(best)
    with style(f"tradeoff {price.key}"):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.add_subplot()
        where = "post" if table.spec.mode == "max" else "pre"
        axes.step(
            [points[index][0] for index in best],
            [points[index][1] for index in best],
            where=where,
            color=COLOURS["good"],
            linewidth=1.2,
            zorder=1,
        )
        # A call for each kind of mark, because one for each row takes seconds where there are thousands.
        for front_row in (False, True):
            for baseline in (False, True):
                kind = [
                    point
                    for index, point in enumerate(points)
                    if (index in on_front, rows[index].is_baseline) == (front_row, baseline)
                ]
                axes.plot(
                    [x for x, _ in kind],
                    [y for _, y in kind],
                    "s" if baseline else "o",
                    color=COLOURS["good" if front_row else "muted"],
                    markersize=6 if baseline else 4.5,
                )
        _name(axes, rows, points, best, table.spec.mode)
        axes.set_xlabel(f"{price.title}, lower is better")
        axes.set_ylabel(table.spec.metric)
        axes.grid()
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", labelcolor=COLOURS["muted"])
        axes.margins(x=0.12, y=0.16)
        return svg(figure, f"{table.spec.metric} against {price.title}")


def _name(
    axes: Any, rows: Sequence[Row], points: Sequence[tuple[float, float]], best: Sequence[int], mode: Mode
) -> None:
    """Names on the side where a front has no points, towards cheaper and better; of points that stand there
    close to another one, and of the cheapest, on the other side."""
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    tall = max(y for _, y in points) - min(y for _, y in points)
    named = [index for index, row in enumerate(rows) if row.is_baseline]
    named += [index for index in reversed(best) if index not in named]
    better, worse = (4, -11) if mode == "max" else (-11, 4)
    last: tuple[float, float] | None = None
    for index in sorted(named[:NAMED], key=lambda index: points[index]):
        x, y = points[index]
        near = last is not None and x - last[0] < 0.5 * (high - low) and abs(y - last[1]) < 0.08 * tall
        cheapest = x - low < 0.25 * (high - low)
        right = near or cheapest
        last = x, y
        axes.annotate(
            short(rows[index].label, 22),
            (x, y),
            xytext=(7 if right else -6, worse if cheapest else better),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=7.5,
        )
