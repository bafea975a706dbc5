from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.errors import SettingError
from ablator.plan.designs import grid, label, rows, zipped
from ablator.study.schema import Arms

_LISTS = st.dictionaries(
    st.sampled_from(["moto.n", "moto.tau", "train.lr"]),
    st.lists(st.integers(), min_size=1, max_size=4, unique=True),
)


@given(lists=_LISTS)
def test_a_grid_has_every_combination_once(lists: dict[str, list[int]]) -> None:
    points = grid({**lists, "train.epochs": 3})
    assert len(points) == math.prod(len(values) for values in lists.values())
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert all(point["train.epochs"] == 3 for point in points)
    assert all(point[key] in values for point in points for key, values in lists.items())


def test_a_grid_is_in_the_order_of_the_file() -> None:
    points = grid({"moto.n": [2, 4], "moto.partition": ["soft", "hard"]})
    assert [tuple(p.values()) for p in points] == [(2, "soft"), (2, "hard"), (4, "soft"), (4, "hard")]


@given(count=st.integers(1, 5))
def test_zip_takes_values_side_by_side(count: int) -> None:
    points = zipped({"a.x": list(range(count)), "a.y": list(range(count)), "a.z": 7}, "f")
    assert points == [{"a.x": i, "a.y": i, "a.z": 7} for i in range(count)]


def test_list_lays_points_over_the_constants() -> None:
    block = Arms(
        label="{n}/{tau}",
        design="list",
        set={"moto.n": 4, "moto.tau": 0.5},
        points=({"moto.n": 8}, {"moto": {"tau": 1}}),
    )
    assert [row.changes for row in rows(block, "f")] == [
        {"moto.tau": 0.5, "moto.n": 8},
        {"moto.n": 4, "moto.tau": 1},
    ]
    assert [row.label for row in rows(block, "f")] == ["8/0.5", "4/1"]


def test_labels_show_values_by_short_or_full_key() -> None:
    changes = {"moto.n": 2, "moto.partition": "soft", "tokenprop.weight": 1.0, "moto.blocks": None}
    assert (
        label("n = {n}, {moto.partition}, λ {weight}, {blocks}", changes, "f") == "n = 2, soft, λ 1.0, null"
    )


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Arms(label="{nn}", set={"moto.n": 2}), "{nn} is not set here (did you mean 'n'?); set here: moto.n"),
        (Arms(label="{kind}", set={"norm.kind": "layer", "x.kind": 1}), "{kind} means norm.kind and x.kind"),
        (Arms(label="a"), "'a' sets nothing"),
        (Arms(label="a", design="zip", set={"a.x": [1, 2], "a.y": [1]}), "a.x has 2, a.y has 1"),
        (Arms(label="a", design="zip", set={"a.x": 1}), "needs at least one list"),
        (Arms(label="a", design="list", set={"a.x": 1}), "design list needs `points`"),
        (
            Arms(label="a", design="grid", set={"a.x": [1]}, points=({"a.x": 1},)),
            "points belongs to design list",
        ),
        (Arms(label="a", set={"a.x": 1}, samples=5), "samples belongs to design search, not to one"),
        (Arms(label="a", design="search"), "design search needs `space`"),
    ],
)
def test_a_wrong_block_is_one_clear_error(block: Arms, text: str) -> None:
    with pytest.raises(SettingError) as caught:
        rows(block, "f")
    assert str(caught.value).startswith("f: ")
    assert text in str(caught.value)
