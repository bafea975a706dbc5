"""The design matrix: what it shows, and what it says can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ablator.plan.matrix import ABSENT, Matrix, matrix
from ablator.plan.planning import Plan

Planned = Callable[..., Plan]


def _matrix(planned: Planned, *arms: dict[str, Any], **more: Any) -> Matrix:
    return matrix(planned({"arms": list(arms), "seeds": [3, 5], **more}))


def test_rows_show_what_they_have_in_the_keys_that_vary(planned: Planned) -> None:
    found = _matrix(
        planned,
        {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4], "moto.tau": 0.5}},
        {"label": "tau", "set": {"moto.tau": 0.5}},
        {"label": "slow", "set": {"train.lr": 0.1}},
    )
    assert found.keys == ("moto.n", "moto.tau", "train.lr")
    values = {row.label: row.values for row in found.rows}
    assert values["baseline"] == (ABSENT, ABSENT, "0.0005")
    assert values["n = 2"] == ("2", "0.5", "0.0005")
    assert values["tau"] == ("8", "0.5", "0.0005")
    assert all(row.seeds == (3, 5) for row in found.rows)
    assert [row.against for row in found.rows] == [None, *["baseline"] * 4]


def test_a_full_factorial_can_tell_every_interaction(planned: Planned) -> None:
    grid = {
        "label": "{n} {partition}",
        "design": "grid",
        "set": {"moto.n": [2, 4], "moto.partition": ["soft", "hard"]},
    }
    found = _matrix(planned, grid)
    assert set(found.effects) >= {"moto.n", "moto.partition"}
    assert found.interactions == (("moto.n", "moto.partition"),)
    assert found.confounded == ()


def test_leaving_one_of_three_out_tells_effects_and_no_interaction(planned: Planned) -> None:
    parts = {"moto.n": 4, "norm.kind": "batch", "tokenprop": "on"}
    found = _matrix(planned, {"label": "{component}", "design": "loco", "set": parts})
    assert set(found.effects) == {"moto", "norm", "tokenprop"}
    assert found.interactions == ()
    pairs = _matrix(planned, {"label": "{components}", "design": "pairwise", "set": parts})
    assert set(pairs.interactions) == {("moto", "norm"), ("moto", "tokenprop"), ("norm", "tokenprop")}


def test_keys_that_change_together_are_named_unless_one_row_declares_them(planned: Planned) -> None:
    side_by_side = {"label": "{lr}", "design": "zip", "set": {"train.lr": [0.1, 0.2], "train.epochs": [5, 6]}}
    found = _matrix(planned, side_by_side)
    assert found.confounded == (
        "train.lr and train.epochs change together in rows '0.1', '0.2': their effects cannot be told apart",
    )
    assert found.effects == ()
    rows = [{"label": f"{lr}", "set": {"train.lr": lr, "train.epochs": int(50 * lr)}} for lr in (0.1, 0.2)]
    assert _matrix(planned, *rows).confounded == ()


def test_a_search_is_a_row_whose_values_are_drawn_later(planned: Planned) -> None:
    space = {"dimensions": {"moto.n": {"kind": "int", "low": 2, "high": 8}}}
    found = _matrix(
        planned,
        {"label": "two", "set": {"moto.n": 2}},
        {"label": "best", "design": "search", "space": space},
    )
    assert found.rows[-1].values == ("?",)
    assert found.rows[-1].seeds == (3, 5)
