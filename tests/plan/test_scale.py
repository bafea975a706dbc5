from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ablator.errors import SettingError
from ablator.plan.planning import Plan

Planned = Callable[..., Plan]
_SCALES = {"label": "{scale}²", "design": "grid", "set": {"tokenprop.scale": [64, 128]}}
_N = {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}}


def _study(arms: list[dict[str, Any]], **small: Any) -> dict[str, Any]:
    return {"arms": arms, "profiles": {"small": small}}


def test_a_profile_holds_for_every_row_and_brings_its_seeds(planned: Planned) -> None:
    made = planned(
        _study([_N], set={"train.epochs": 3, "data": {"image_size": 32}}, seeds=1), profile="small"
    )
    assert made.profile == "small"
    assert made.seeds == (0,)
    assert all(t.spec.train.epochs == 3 and t.spec.data.image_size == 32 for t in made.trials)


def test_the_published_recipe_is_the_default_profile(planned: Planned) -> None:
    document = _study([_N], set={"train.epochs": 3})
    assert planned(document).profile == "paper"
    assert planned(document).unique().keys() == planned(document, profile="paper").unique().keys()
    assert planned(document).trials[0].spec.train.epochs == 300


def test_a_map_translates_declared_values_and_defaults_and_says_so(planned: Planned) -> None:
    arms = [_SCALES, {"label": "L1", "set": {"tokenprop.loss": "l1"}}]
    made = planned(_study(arms, map={"tokenprop.scale": {"64": 8, "128": 16}}), profile="small")
    assert [arm.label for arm in made.arms] == ["baseline", "64²", "128²", "L1"]
    assert [made.of(arm)[0].spec.objectives["tokenprop"].scale for arm in made.arms[1:]] == [8, 16, 8]
    assert made.arms[2].changes == {"tokenprop.scale": 16}
    assert made.arms[2].declared == {"tokenprop.scale": 128}
    assert made.trials[0].spec.objectives == {}
    assert made.notes == ("profile small: tokenprop.scale 64 stands for 8, 128 stands for 16",)


def test_keys_of_a_component_hold_where_it_is_on(planned: Planned) -> None:
    made = planned(
        _study([_N], set={"moto.tau": 0.5}), profile="small", overrides=["moto.statistics=literal"]
    )
    assert made.trials[0].spec.components == {}
    for trial in made.trials[3:]:
        assert trial.spec.components["moto"].tau == 0.5
        assert trial.spec.components["moto"].statistics == "literal"


def test_an_override_of_a_component_that_no_row_has_switches_it_on(planned: Planned) -> None:
    made = planned({"set": {"tokenprop": None}, "arms": [_N]}, overrides=["tokenprop.scale=32"])
    assert all(t.spec.objectives["tokenprop"].scale == 32 for t in made.trials)


def test_overrides_come_last(planned: Planned) -> None:
    made = planned(
        _study([_N], set={"train.epochs": 3}, seeds=1),
        profile="small",
        overrides=["train.epochs=2", "train.lr=1e-2", "data.root=/x", "seeds=[7, 8]"],
    )
    assert made.seeds == (7, 8)
    assert {(t.spec.train.epochs, t.spec.train.lr, t.spec.data.root) for t in made.trials} == {
        (2, 0.01, "/x")
    }


def test_an_override_may_repeat_what_every_row_that_declares_it_says(planned: Planned) -> None:
    arms = [{"label": "a", "set": {"moto.n": 8}}]
    plain = planned({"arms": arms})
    assert planned({"arms": arms}, overrides=["moto.n=8"]).unique().keys() == plain.unique().keys()


@pytest.mark.parametrize(
    ("small", "options", "text"),
    [
        (
            {},
            {"profile": "smal"},
            "unknown profile 'smal' (did you mean 'small'?); known: gpu, laptop, paper, small",
        ),
        (
            {"set": {"moto.n": 3}},
            {"profile": "small"},
            "conflicting profile small: it sets moto.n, and the row 'n = 2'",
        ),
        ({"set": {"moto": "off"}}, {"profile": "small"}, "conflicting profile small: it sets moto, and"),
        ({"set": {"train.epoch": 3}}, {"profile": "small"}, "profile small: set: train.epoch: unknown key"),
        ({"set": {"seed": 3}}, {"profile": "small"}, "say seeds"),
        (
            {"map": {"moto.nn": {"2": 1}}},
            {"profile": "small"},
            "map: unknown key 'moto.nn' (did you mean 'n'?)",
        ),
        ({"map": {"moto.n": {"2": 1, "4": 1}}}, {"profile": "small"}, "moto.n sends two values to one"),
        (
            {"map": {"moto.n": {"2": 0}}},
            {"profile": "small"},
            "profile small: moto.n: must be greater than or equal",
        ),
        (
            {},
            {"overrides": ["moto.n=4"]},
            "--set moto.n=4 conflicts with the row 'n = 2', which declares moto.n = 2",
        ),
        ({}, {"overrides": ["moto=off"]}, "conflicts with the row 'n = 2'"),
        ({}, {"overrides": ["train.epochs"]}, "--set train.epochs: write --set key=value"),
        (
            {},
            {"overrides": ["train.epochs=ten"]},
            "--set train.epochs=ten: train.epochs: must be a whole number",
        ),
        ({}, {"overrides": ["trian.epochs=1"]}, "--set trian.epochs=1: unknown section 'trian'"),
        ({}, {"overrides": ["train.epochs=[1"]}, "--set train.epochs=[1: not valid YAML"),
        ({}, {"overrides": ["seed=1"]}, "say seeds"),
        (
            {},
            {"overrides": ["seeds=x"]},
            "--set: seeds: must be a whole number or a list or a mapping, not 'x'",
        ),
    ],
)
def test_what_lies_over_a_study_may_not_change_its_question(
    planned: Planned, small: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(SettingError) as caught:
        planned(_study([_N], **small), **options)
    assert text in str(caught.value)
