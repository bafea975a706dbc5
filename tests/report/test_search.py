"""A search's best points, repeats and history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.report.columns import search_columns
from ablator.report.search import TOP, SearchPoint, build_search


def points(values: list[float | None]) -> list[SearchPoint]:
    return [
        SearchPoint(
            params={"moto.n": index},
            value=value,
            status="diverged" if value is None else "completed",
            identity=f"{index}",
        )
        for index, value in enumerate(values)
    ]


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=30), st.sampled_from(["max", "min"]))
def test_best_top_and_history(values: list[float | None], mode: str) -> None:
    search = build_search("s", "top1", mode, points(values))  # type: ignore[arg-type]
    done = [value for value in values if value is not None]
    better = max if mode == "max" else min
    assert [point.value for point in search.top] == sorted(done, reverse=mode == "max")[:TOP]
    assert (search.best.value if search.best else None) == (better(done) if done else None)
    assert [value for _, value in search.history] == [better(done[: k + 1]) for k in range(len(done))]


def test_repeats_are_one_point_and_are_counted() -> None:
    one, two = points([80.0, 81.0])
    search = build_search("s", "top1", "max", [one, two, one, two, one])
    assert (search.samples, len(search.points), len(search.top)) == (5, 2, 2)
    assert (
        search.summary() == "5 samples, 2 distinct points: 2 completed; repeats answered without training: 3"
    )


def test_conditional_dimensions_leave_an_empty_cell() -> None:
    on = SearchPoint(params={"moto": "on", "moto.n": 8}, value=81.0, status="completed", identity="a")
    off = SearchPoint(params={"moto": "off"}, value=80.0, status="completed", identity="b")
    shown = {
        column.title: column.cells for column in search_columns(build_search("s", "top1", "max", [off, on]))
    }
    assert shown["moto"] == ("on", "off")
    assert shown["moto.n"] == ("8", "")


def test_a_point_that_did_not_complete_has_no_value() -> None:
    with pytest.raises(ValueError, match="diverged point has the value"):
        build_search("s", "top1", "max", [SearchPoint(params={}, value=1.0, status="diverged", identity="a")])
