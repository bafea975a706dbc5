"""Accuracy against cost: every row as a point, and the rows that no other one beats in both."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from ablator.report.drawing import COLOURS, short, style, svg
from ablator.report.labelling import DOWN_LEFT, DOWN_RIGHT, UP_LEFT, UP_RIGHT, Place, Point, places
from ablator.report.statistics import Mode
from ablator.report.table import Row, Table

WIDTH = 3.6
NAMED = 8
"""Rows whose labels a figure can carry."""
_SIZE = 7.5
_LIKED: dict[Mode, tuple[Place, ...]] = {
    "max": (UP_LEFT, DOWN_RIGHT, UP_RIGHT, DOWN_LEFT),
    "min": (DOWN_LEFT, UP_RIGHT, DOWN_RIGHT, UP_LEFT),
}
"""Sides of a point for its name, the preferred one first."""


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
        axes.set_xlabel(f"{price.title}, lower is better")
        axes.set_ylabel(table.spec.metric)
        axes.grid()
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", labelcolor=COLOURS["muted"])
        axes.margins(x=0.12, y=0.16)
        _name(axes, rows, points, best, table.spec.mode)
        return svg(figure, f"{table.spec.metric} against {price.title}")


def _name(
    axes: Any, rows: Sequence[Row], points: Sequence[tuple[float, float]], best: Sequence[int], mode: Mode
) -> None:
    """Names of baselines and of the front's best rows, where there is room: rather on the side where a front
    has no points, towards cheaper and better."""
    named = [index for index, row in enumerate(rows) if row.is_baseline]
    named += [index for index in reversed(best) if index not in named]
    named = sorted(named[:NAMED], key=lambda index: points[index])
    texts = [short(rows[index].label, 22) for index in named]
    axes.figure.draw_without_rendering()  # Only then it is known where in the figure a value lies.
    scale = 72.0 / axes.figure.dpi
    dots = [(scale * x, scale * y) for x, y in axes.transData.transform(points)]
    box = [scale * end for end in axes.bbox.extents]
    chosen = places(
        [(dots[index], text) for index, text in zip(named, texts, strict=True)],
        dots,
        _steps([dots[index] for index in best], mode),
        (box[0], box[1], box[2], box[3]),
        _LIKED[mode],
        _SIZE,
    )
    for index, text, place in zip(named, texts, chosen, strict=True):
        axes.annotate(
            text,
            points[index],
            xytext=(place.dx, place.dy),
            textcoords="offset points",
            ha=place.align,
            fontsize=_SIZE,
        )


def _steps(corners: Sequence[Point], mode: Mode) -> list[tuple[Point, Point]]:
    """The pieces of the front's line: level from one point to where the next one is, then upright, or the
    other way round."""
    pieces: list[tuple[Point, Point]] = []
    for (x, y), (then_x, then_y) in itertools.pairwise(corners):
        turn = (then_x, y) if mode == "max" else (x, then_y)
        pieces += [((x, y), turn), (turn, (then_x, then_y))]
    return pieces
