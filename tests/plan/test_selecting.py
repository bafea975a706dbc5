"""Chosen rows of a plan: their trials are the whole plan's, and what they are compared with is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablator.errors import SettingError
from ablator.plan.explaining import explanation
from ablator.plan.matrix import matrix
from ablator.plan.planning import Plan
from ablator.plan.selecting import only, only_all, part_name

Planned = Callable[..., Plan]

_PARTS = {"moto.n": 8, "tokenprop.loss": "l2", "tokenizer.kind": "intra"}
_STUDY: dict[str, Any] = {
    "baseline": {"label": "base"},
    "seeds": 2,
    "arms": [
        {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}},
        {"label": "without {component}", "design": "loco", "full": "all", "set": _PARTS},
        {
            "label": "+ {component}",
            "design": "add_one",
            "cumulative": True,
            "full": "all of them",
            "set": {"moto.n": 16, "tokenprop.weight": 0.5},
        },
        {
            "label": "{components}",
            "design": "pairwise",
            "set": {"moto.tau": 0.5, "norm.kind": "batch"},
        },
        {"label": "slow", "baseline": True, "set": {"train.lr": 0.0001}},
        {"label": "slow, n = 2", "against": "slow", "set": {"moto.n": 2}},
        {
            "label": "best",
            "design": "search",
            "samples": 4,
            "space": {"dimensions": {"moto.n": {"kind": "categorical", "choices": [2, 4, 16]}}},
        },
    ],
    "report": {"reported": {"baseline": 79.8, "n = 2": 80.8}},
}


@pytest.fixture(scope="module")
def whole(planned: Planned) -> Plan:
    """A study with every design, with rows against rows, a further baseline and a search."""
    return planned(_STUDY)


def labels_of(plan: Plan) -> list[str]:
    return [arm.label for arm in plan.arms]


@settings(max_examples=60)
@given(data=st.data())
def test_a_part_has_the_trials_and_partners_of_the_whole(whole: Plan, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(labels_of(whole)), min_size=1, max_size=4))
    part = only(whole, asked)
    labels = labels_of(part)
    assert set(asked) <= set(labels)
    assert labels == [label for label in labels_of(whole) if label in labels], "in the study's order"
    assert [arm.index for arm in part.arms] == list(range(len(labels)))
    assert part.arms[0].against is None
    needed = set(asked)
    old = {arm.label: arm for arm in whole.arms}
    for arm in part.arms:
        assert arm.against is None or arm.against in labels[: arm.index]
        if arm.against is not None:
            needed.add(arm.against)
        known, now = ([t.identity for t in plan.of(a)] for plan, a in ((whole, old[arm.label]), (part, arm)))
        assert known == now
        assert all(trial.arm == arm.index and trial.label == arm.label for trial in part.of(arm))
    assert needed == set(labels), "and no other row"
    shown = [one for one in whole.interactions if {label for _, label in one.terms} <= set(labels)]
    assert list(part.interactions) == shown
    assert only(part, asked) == part, "once more changes nothing"
    assert only(whole, list(reversed(asked))) == part, "nor does the order"
    assert [row.label for row in matrix(part).rows] == labels


def test_rows_bring_all_that_stands_above_them(whole: Plan) -> None:
    assert labels_of(only(whole, ["without moto"])) == [
        "base",
        "all",
        "without moto",
    ]
    chain = labels_of(only(whole, ["all of them"]))
    assert chain == ["base", "+ moto", "all of them"], "cumulative rows are compared with the row above"
    assert labels_of(only(whole, ["slow, n = 2"])) == ["slow", "slow, n = 2"], "not the first baseline"
    assert labels_of(only(whole, ["base"])) == ["base"]


def test_an_interaction_needs_all_its_rows(whole: Plan) -> None:
    assert [one.label for one in whole.interactions] == ["moto × norm"]
    assert only(whole, ["moto + norm"]).interactions == ()
    assert "1 interaction needs rows that are not shown" in only(whole, ["moto + norm"]).notes[0]
    assert only(whole, ["moto", "norm", "moto + norm"]).interactions == whole.interactions


def test_a_search_draws_the_same_points_in_a_part(whole: Plan) -> None:
    part = only(whole, ["best (best)"])
    assert labels_of(part) == ["base", "best"]
    (search,), (original,) = part.searches, whole.searches
    assert search.id == original.id, "the journal is the same"
    for point in original.covering():
        mine, other = search.trial(point, 1), original.trial(point, 1)
        assert (mine.identity, mine.label, mine.arm) == (other.identity, "best", 1)
    assert explanation(part, search, {"moto.n": 4}, drawn=4, seeds=2).arms
    assert only(whole, ["n = 2"]).searches == ()


def test_the_note_says_what_is_missing(whole: Plan) -> None:
    part = only(whole, ["n = 4", "n = 2"])
    assert part.notes[0] == (
        f"Only 3 of the study's {len(whole.arms)} rows: 'n = 2', 'n = 4', and what they are compared with; p "
        "is adjusted over the rows shown; 1 interaction needs rows that are not shown."
    )
    assert part.chosen == ("n = 2", "n = 4")
    assert set(part.reported) == {"base", "n = 2"}
    assert whole.notes == part.notes[1:]


def test_every_row_is_the_whole_study(whole: Plan) -> None:
    assert only(whole, labels_of(whole)) is whole
    assert only(whole, []) is whole


def test_a_label_that_no_row_has(whole: Plan) -> None:
    with pytest.raises(
        SettingError, match=r"no row of study 's' is called 'n = 22' \(did you mean 'n = 2'\?\)"
    ):
        only(whole, ["n = 4", "n = 22"])
    with pytest.raises(SettingError, match="rows: 'base', 'n = 2', 'n = 4', 'all'"):
        only(whole, ["x"])


def test_a_long_list_of_rows_is_cut(planned: Planned) -> None:
    many = planned(
        {"arms": [{"label": "{lr}", "design": "grid", "set": {"train.lr": [i / 1e3 for i in range(1, 60)]}}]}
    )
    with pytest.raises(SettingError, match=r"and 20 more$"):
        only(many, ["x"])


def test_of_several_studies_those_without_the_rows_are_left_out(planned: Planned) -> None:
    def study(name: str, *values: int) -> Plan:
        arms = [{"label": "n = {n}", "design": "grid", "set": {"moto.n": list(values)}}]
        return planned({"study": name, "baseline": {"label": "base"}, "arms": arms})

    plans = [study("a", 2, 4), study("b", 2, 8), study("c", 16, 32)]
    found = only_all(plans, ["n = 2", "n = 8"])
    assert [(plan.study.study, labels_of(plan)) for plan in found] == [
        ("a", ["base", "n = 2"]),
        ("b", ["base", "n = 2", "n = 8"]),
    ]
    assert found[1] is plans[1]
    assert only_all(plans, []) == plans
    with pytest.raises(
        SettingError, match=r"no row of the 3 studies is called 'n = 3'.*rows: 'base', 'n = 2'"
    ):
        only_all(plans, ["n = 2", "n = 3"])


def test_parts_have_files_of_their_own() -> None:
    names = {
        part_name(labels)
        for labels in (["n = 8, soft"], ["n = 8", "soft"], ["n = 8 soft"], ["λ"], ["a" * 300])
    }
    assert len(names) == 5
    assert all(name.startswith("rows-") and len(name) < 60 and name.isascii() for name in names)
    assert part_name(["n = 8, soft"]).startswith("rows-n-8-soft-")
