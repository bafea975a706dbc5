"""Where the names of points stand in a figure, so that they cover neither each other nor points and lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

_LETTER = 0.62
"""Mean width of a letter, in heights of the font; rather too wide than too narrow."""
_DOT = 7.0
"""Around a point, so that no name beside it seems to be its own."""
_LINE = 0.8
_OVER_NAME, _OVER_LINE, _OVER_DOT, _OUTSIDE = 3.0, 8.0, 2.0, 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a name stands beside its point, in points (1/72 inch)."""

    dx: float
    dy: float
    align: Literal["left", "right"]
    """Which end of the text is at `dx`."""


_ABOVE, _BELOW = 4.0, -11.0
UP_LEFT = Place(dx=-6, dy=_ABOVE, align="right")
DOWN_RIGHT = Place(dx=7, dy=_BELOW, align="left")
UP_RIGHT = Place(dx=7, dy=_ABOVE, align="left")
DOWN_LEFT = Place(dx=-6, dy=_BELOW, align="right")


def places(
    named: Sequence[tuple[Point, str]],
    dots: Sequence[Point],
    lines: Sequence[tuple[Point, Point]],
    inside: Box,
    liked: Sequence[Place],
    size: float,
) -> list[Place]:
    """A place for each of the `named` points, in order: the first of `liked` at which its text, of `size`
    points, covers no earlier name and none of `dots` and `lines` (upright or level ones, by their ends) and
    stays `inside`, else the one that covers least. All lengths are in points, from the figure's corner at the
    lower left."""
    taken: list[Box] = []
    drawn = [_around(line, _LINE) for line in lines]
    found = []
    for point, text in named:
        others = [_around((dot, dot), _DOT) for dot in dots if dot != point]
        boxes = [_box(point, text, place, size) for place in liked]
        costs = [_cost(box, taken, drawn, others, inside) for box in boxes]
        best = min(range(len(liked)), key=lambda index: (costs[index], index))
        taken.append(boxes[best])
        found.append(liked[best])
    return found


def _box(point: Point, text: str, place: Place, size: float) -> Box:
    width = _LETTER * size * len(text)
    left = point[0] + place.dx - (width if place.align == "right" else 0.0)
    bottom = point[1] + place.dy - 0.2 * size
    return left, bottom, left + width, bottom + 1.1 * size


def _around(line: tuple[Point, Point], by: float) -> Box:
    xs, ys = zip(*line, strict=True)
    return min(xs) - by, min(ys) - by, max(xs) + by, max(ys) + by


def _cost(box: Box, names: Sequence[Box], lines: Sequence[Box], dots: Sequence[Box], inside: Box) -> float:
    whole = (box[2] - box[0]) * (box[3] - box[1])
    cost = _OVER_NAME * sum(_shared(box, other) for other in names)
    cost += _OVER_LINE * sum(_shared(box, other) for other in lines)
    cost += _OVER_DOT * sum(_shared(box, other) for other in dots)
    return cost + _OUTSIDE * (whole - _shared(box, inside))


def _shared(a: Box, b: Box) -> float:
    """Area that two boxes have in common."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
