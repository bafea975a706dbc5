"""Search spaces: dimensions, some of which exist only where another one has certain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from annotated_types import MinLen

from ablator.contracts.settings import settings
from ablator.errors import SettingError, nearest

MOST_POINTS = 100_000
"""Most rows that a block of arms may make."""
_MOST_CHOICES = 2_000
_SHOWN = 50
MOST_VALUES = 1_000_000
"""Most values of a dimension that is not continuous."""


def too_many_text(most: int) -> str:
    """What is wrong with a grid beyond that."""
    return (
        f"it comes to more than {most:,} rows, the most that a block may have; give its keys fewer values, "
        "or draw from them with design: search"
    )


@settings
class Dimension:
    """One key of the spec that a search varies."""

    kind: Literal["categorical", "int", "float"]
    """categorical: one of `choices`; int or float: between low and high, both included."""
    choices: tuple[str | int | float | bool | None, ...] = ()
    """categorical: the values."""
    low: float | None = None
    """int, float: the smallest value."""
    high: float | None = None
    """int, float: the largest value."""
    step: float | None = None
    """int: distance between values, 1 unless said; float: distance between values, none unless said."""
    log: bool = False
    """int, float: draw evenly on a logarithmic scale."""
    when: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The dimension exists only where every one of these others has the value, or one of the list."""


@settings
class SpaceDocument:
    """A file of search_spaces/."""

    about: str = ""
    """One line: what the space covers."""
    dimensions: Annotated[dict[str, Dimension], MinLen(1)]
    """Dotted key of the spec to its dimension; a section's own name with choices [on, off] is a switch."""


class Ask(Protocol):
    """Where values come from: Optuna's trial, a random generator, or a list of given points."""

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        ...

    def integer(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number from low to high, both included."""
        ...

    def real(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number from low to high."""
        ...


class SearchSpace:
    """A checked search space, ready to be asked for points. Raises SettingError at construction."""

    def __init__(self, document: SpaceDocument, where: str) -> None:
        self.document = document
        self.where = where
        for key, dimension in document.dimensions.items():
            _check_range(dimension, f"{where}: {key}")
        self._order = self._sorted()
        for key in self._order:
            self._check_when(key)

    @property
    def dimensions(self) -> Mapping[str, Dimension]:
        """Dotted key to dimension, each after those that it depends on."""
        return {key: self.document.dimensions[key] for key in self._order}

    def sample(self, ask: Ask) -> dict[str, Any]:
        """One point: the dimensions that exist in it, as dotted key to value (an overlay)."""
        point: dict[str, Any] = {}
        for key in self._order:
            dimension = self.document.dimensions[key]
            if not exists(dimension, point):
                continue
            if dimension.kind == "categorical":
                point[key] = ask.categorical(key, dimension.choices)
            elif dimension.kind == "int":
                low, high, step = (
                    int(v) for v in (dimension.low or 0, dimension.high or 0, dimension.step or 1)
                )
                point[key] = ask.integer(key, low, high, step=step, log=dimension.log)
            else:
                low_, high_ = float(dimension.low or 0.0), float(dimension.high or 0.0)
                point[key] = ask.real(key, low_, high_, step=dimension.step, log=dimension.log)
        return point

    def points(self) -> list[dict[str, Any]]:
        """Every different point, the last dimension varying fastest; no dimension may be continuous."""
        found: list[dict[str, Any]] = [{}]
        for key in self._order:
            dimension = self.document.dimensions[key]
            if len(found) * (len(_values(dimension)) if dimension.kind == "categorical" else 1) > MOST_POINTS:
                raise SettingError(f"{self.where}: {too_many_text(MOST_POINTS)}")
            found = [
                {**point, key: value} if there else point
                for point in found
                for there in (exists(dimension, point),)
                for value in (_values(dimension) if there else (None,))
            ]
        return found

    def cells(self) -> int | None:
        """Number of different points; None where a dimension is continuous, or too much hangs on conditions
        to count it."""
        if any(d.kind == "float" and d.step is None for d in self.document.dimensions.values()):
            return None
        parents = {name for d in self.document.dimensions.values() for name in d.when}
        if math.prod(len(_values(self.document.dimensions[name])) for name in parents) > MOST_POINTS:
            return None
        return self._count(0, {}, parents)

    def _count(self, position: int, point: dict[str, Any], parents: set[str]) -> int:
        if position == len(self._order):
            return 1
        key = self._order[position]
        dimension = self.document.dimensions[key]
        if not exists(dimension, point):
            return self._count(position + 1, point, parents)
        values = _values(dimension)
        if key not in parents:
            return len(values) * self._count(position + 1, point, parents)
        return sum(self._count(position + 1, {**point, key: value}, parents) for value in values)

    def _sorted(self) -> tuple[str, ...]:
        """Depth first, so that a dimension comes after those in its `when`; a cycle is an error."""
        dimensions = self.document.dimensions
        order: list[str] = []

        def visit(key: str, above: tuple[str, ...]) -> None:
            if key in above:
                circle = " -> ".join((*above[above.index(key) :], key))
                raise SettingError(f"{self.where}: dimensions depend on each other in a circle: {circle}")
            if key in order:
                return
            for name in dimensions[key].when:
                if name not in dimensions:
                    raise SettingError(
                        f"{self.where}: {key}: when: unknown dimension {name!r}{nearest(name, dimensions)}; "
                        f"known: {', '.join(dimensions)}"
                    )
                visit(name, (*above, key))
            order.append(key)

        for key in dimensions:
            visit(key, ())
        return tuple(order)

    def _check_when(self, key: str) -> None:
        for name, wanted in self.document.dimensions[key].when.items():
            parent = self.document.dimensions[name]
            for value in _listed(wanted):
                if parent.kind == "float" and parent.step is None:
                    number = isinstance(value, (int, float)) and not isinstance(value, bool)
                    fits = number and (parent.low or 0.0) <= value <= (parent.high or 0.0)
                    possible = f"{parent.low} to {parent.high}"
                else:
                    fits = any(_same(value, v) for v in _values(parent))
                    possible = ", ".join(repr(v) for v in _values(parent)[:_SHOWN])
                    possible += ", …" if len(_values(parent)) > _SHOWN else ""
                if not fits:
                    raise SettingError(
                        f"{self.where}: {key}: when: {name} is never {value!r}; it can be: {possible}"
                    )


def _check_range(dimension: Dimension, where: str) -> None:
    given = {name for name in ("low", "high", "step") if getattr(dimension, name) is not None}
    if dimension.kind == "categorical":
        if not dimension.choices:
            raise SettingError(f"{where}: a categorical dimension needs choices")
        if given or dimension.log:
            raise SettingError(
                f"{where}: a categorical dimension has choices, not {', '.join(sorted(given)) or 'log'}"
            )
        if len(dimension.choices) > _MOST_CHOICES:
            raise SettingError(
                f"{where}: {len(dimension.choices):,} choices are more than {_MOST_CHOICES:,}, the most that "
                "a dimension may have"
            )
        if any(_same(a, b) for i, a in enumerate(dimension.choices) for b in dimension.choices[:i]):
            raise SettingError(f"{where}: a choice is there twice: {list(dimension.choices)}")
        return
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.choices or low is None or high is None:
        raise SettingError(
            f"{where}: a dimension of kind {dimension.kind} needs low and high, and no choices"
        )
    if low > high:
        raise SettingError(f"{where}: low {low:g} is above high {high:g}")
    if dimension.log and low <= 0:
        raise SettingError(f"{where}: a logarithmic dimension needs low above 0, not {low:g}")
    if step is not None and (step <= 0 or dimension.log):
        raise SettingError(f"{where}: step must be above 0 and cannot go with log, not {step:g}")
    count = (high - low) / (step or 1) + 1 if dimension.kind == "int" or step is not None else 0
    if count > MOST_VALUES:
        raise SettingError(
            f"{where}: from {low:g} to {high:g} in steps of {step or 1:g} there are more than "
            f"{MOST_VALUES:,} values, the most that a dimension may have; take a larger "
            "step, or kind: float without one"
        )
    if dimension.kind == "int" and any(v is not None and v != int(v) for v in (low, high, step)):
        raise SettingError(f"{where}: low, high and step of an int dimension are whole numbers")


def exists(dimension: Dimension, point: Mapping[str, Any]) -> bool:
    """Whether the values of a point allow the dimension."""
    return all(
        name in point and any(_same(point[name], value) for value in _listed(wanted))
        for name, wanted in dimension.when.items()
    )


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _same(a: Any, b: Any) -> bool:
    """Equality in which true is not 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _values(dimension: Dimension) -> Sequence[Any]:
    """Every value of a dimension that is not continuous."""
    if dimension.kind == "categorical":
        return dimension.choices
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "int":
        return range(int(dimension.low), int(dimension.high) + 1, int(dimension.step or 1))
    assert dimension.step is not None
    # A hair's breadth for the rounding of (0.3 - 0.1) / 0.1.
    return [
        dimension.low + i * dimension.step
        for i in range(int((dimension.high - dimension.low) / dimension.step + 1e-9) + 1)
    ]
