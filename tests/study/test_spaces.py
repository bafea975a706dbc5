from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.errors import SettingError
from ablator.study.spaces import SearchSpace, SpaceDocument
from ablator.study.validation import validate


class Draw:
    """Answers from a seeded generator, and remembers what was asked."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.asked: list[str] = []

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked.append(name)
        return self.random.choice(choices)

    def integer(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.asked.append(name)
        return self.random.randrange(low, high + 1, step)

    def real(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        self.asked.append(name)
        return self.random.uniform(low, high)


def _space(dimensions: dict[str, Any]) -> SearchSpace:
    return SearchSpace(validate(SpaceDocument, {"dimensions": dimensions}, "f"), "f")


_SWITCH = {"kind": "categorical", "choices": ["on", "off"]}
_ALL = {
    # The child stands before its parents on purpose.
    "moto.tau": {"kind": "float", "low": 0.1, "high": 1, "when": {"moto.partition": "soft"}},
    "moto.n": {"kind": "int", "low": 2, "high": 8, "step": 2, "when": {"moto": "on"}},
    "moto.partition": {"kind": "categorical", "choices": ["soft", "hard"], "when": {"moto": "on"}},
    "moto": _SWITCH,
    "train.epochs": {"kind": "int", "low": 1, "high": 3},
}


@given(seed=st.integers())
def test_a_dimension_is_asked_for_exactly_where_its_condition_holds(seed: int) -> None:
    draw = Draw(seed)
    point = _space(_ALL).sample(draw)
    assert draw.asked == list(point)
    assert {"moto", "train.epochs"} <= point.keys()
    assert ("moto.n" in point) == (point["moto"] == "on")
    assert ("moto.tau" in point) == (point.get("moto.partition") == "soft")
    assert point.get("moto.n", 2) in (2, 4, 6, 8)


def test_cells_are_counted_where_they_are_finite() -> None:
    assert _space(_ALL).cells() is None
    finite = {key: value for key, value in _ALL.items() if key != "moto.tau"}
    # off: 1, on: 4 values of n times 2 partitions; each with 3 epochs
    assert _space(finite).cells() == (1 + 4 * 2) * 3


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_cells_without_conditions_are_the_product(sizes: list[int]) -> None:
    space = _space({f"x.k{i}": {"kind": "int", "low": 1, "high": size} for i, size in enumerate(sizes)})
    assert space.cells() == len(list(itertools.product(*(range(size) for size in sizes))))


@pytest.mark.parametrize(
    ("dimensions", "text"),
    [
        (
            {"a": {"kind": "int", "low": 1, "high": 2, "when": {"bb": 1}}, "b": _SWITCH},
            "unknown dimension 'bb'",
        ),
        ({"a": {**_SWITCH, "when": {"a": "on"}}}, "in a circle: a -> a"),
        (
            {"a": {**_SWITCH, "when": {"b": "on"}}, "b": {**_SWITCH, "when": {"a": "on"}}},
            "circle: a -> b -> a",
        ),
        ({"a": _SWITCH, "b": {**_SWITCH, "when": {"a": "no"}}}, "a is never 'no'; it can be: 'on', 'off'"),
        (
            {"a": {"kind": "float", "low": 0, "high": 1}, "b": {**_SWITCH, "when": {"a": 2}}},
            "a is never 2; it can be: 0.0 to 1.0",
        ),
        ({"a": {"kind": "categorical"}}, "needs choices"),
        ({"a": {"kind": "categorical", "choices": [1], "low": 1}}, "has choices, not low"),
        ({"a": {"kind": "categorical", "choices": [1, 1]}}, "a choice is there twice"),
        ({"a": {"kind": "int", "low": 1}}, "needs low and high"),
        ({"a": {"kind": "int", "low": 3, "high": 1}}, "low 3 is above high 1"),
        ({"a": {"kind": "int", "low": 1, "high": 2.5}}, "whole numbers"),
        ({"a": {"kind": "float", "low": 0, "high": 1, "log": True}}, "low above 0, not 0"),
        ({"a": {"kind": "int", "low": 1, "high": 8, "log": True, "step": 2}}, "cannot go with log"),
        (
            {"a": {"kind": "integer", "low": 1, "high": 8}},
            "must be 'categorical', 'int' or 'float', not 'integer'",
        ),
    ],
)
def test_a_wrong_space_is_one_clear_error(dimensions: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        _space(dimensions)
    assert text in str(caught.value)
