from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from ablator.errors import SettingError
from ablator.plan.planning import Plan

Planned = Callable[..., Plan]
_SWITCH = {"kind": "categorical", "choices": ["on", "off"]}
_SPACE: dict[str, Any] = {
    "moto": _SWITCH,
    "moto.n": {"kind": "int", "low": 1, "high": 3, "when": {"moto": "on"}},
    "tokenprop.scale": {"kind": "categorical", "choices": [64, 128]},
}


def _arm(dimensions: dict[str, Any] = _SPACE, **more: Any) -> dict[str, Any]:
    return {"label": "best", "design": "search", "space": {"dimensions": dimensions}, **more}


def test_a_search_is_planned_beside_the_baseline(planned: Planned) -> None:
    made = planned({"arms": [_arm(samples=24, sampler="random")], "seeds": 2, "stop": "asha"})
    assert [arm.kind for arm in made.arms] == ["baseline", "search"]
    assert len(made.trials) == 2
    (search,) = made.searches
    assert (search.arm, search.samples, search.sampler, search.seeds) == (1, 24, "random", (0, 1))
    assert search.stop is not None
    assert search.stop.kind == "asha"
    assert search.space.cells() == (1 + 3) * 2


def test_a_point_is_a_trial_like_any_other(planned: Planned) -> None:
    made = planned({"arms": [_arm(set={"train.lr": 0.1})]})
    by_hand = planned(
        {"arms": [{"label": "x", "set": {"train.lr": 0.1, "moto.n": 2, "tokenprop.scale": 64}}]}
    )
    trial = made.searches[0].trial({"moto": "on", "moto.n": 2, "tokenprop.scale": 64}, seed=1)
    assert trial.identity in by_hand.unique()
    assert trial.seed == trial.spec.seed == 1
    off = made.searches[0].trial({"moto": "off", "tokenprop.scale": 64}, seed=0)
    assert off.spec.components == {}


def test_profiles_and_overrides_hold_in_every_point(planned: Planned) -> None:
    small = {"set": {"train.epochs": 3}, "map": {"tokenprop.scale": {"64": 8, "128": 16}}, "samples": 4}
    document = {"arms": [_arm()], "profiles": {"small": small}}
    (search,) = planned(document, profile="small", overrides=["moto.tau=0.7", "samples=5"]).searches
    assert search.samples == 5
    trial = search.trial({"moto": "on", "moto.n": 1, "tokenprop.scale": 128}, 0)
    assert trial.spec.train.epochs == 3
    assert trial.spec.components["moto"].tau == 0.7
    assert trial.spec.objectives["tokenprop"].scale == 16
    assert trial.changes["tokenprop.scale"] == 16
    assert search.trial({"moto": "off", "tokenprop.scale": 64}, 0).spec.components == {}


def test_the_id_names_the_search_and_outlives_more_samples(planned: Planned) -> None:
    def name(document: dict[str, Any], **options: Any) -> str:
        return planned(document, **options).searches[0].id

    plain = name({"arms": [_arm()]})
    assert name({"arms": [_arm(samples=99)]}) == plain
    assert name({"study": "other", "arms": [{**_arm(), "label": "other"}]}) == plain
    changed = [
        name({"arms": [_arm(sampler="random")]}),
        name({"arms": [_arm(sampler_seed=1)]}),
        name({"arms": [_arm()], "seeds": 1}),
        name({"arms": [_arm()]}, overrides=["train.epochs=3"]),
        name({"arms": [_arm({"moto.n": _SPACE["moto.n"] | {"when": {}}})]}),
    ]
    assert all(a != b for a, b in itertools.combinations([plain, *changed], 2))


@pytest.mark.parametrize(
    ("arm", "options", "text"),
    [
        (_arm({"moto.nn": _SWITCH}), {}, "'best': space: moto.nn: unknown key (did you mean 'n'?)"),
        (
            _arm({"moto.n": {"kind": "int", "low": 0, "high": 3}}),
            {},
            "moto.n: must be greater than or equal to 1, not 0",
        ),
        (
            _arm({"moto.n": {"kind": "float", "low": 1, "high": 3}}),
            {},
            "moto.n: must be a whole number, not 1.0",
        ),
        (_arm({"moto.partition": _SWITCH}), {}, "moto.partition: must be 'soft' or 'hard', not 'on'"),
        (_arm({"moto": {"kind": "categorical", "choices": ["yes", "no"]}}), {}, "choices [on, off]"),
        (
            _arm({**_SPACE, "moto.n": {"kind": "int", "low": 1, "high": 3}}),
            {},
            "moto.n: needs `when: {moto: on}`",
        ),
        (_arm(set={"moto.n": 4}), {}, "holds moto.n fixed"),
        (_arm(), {"overrides": ["moto.n=2"]}, "--set moto.n=2 conflicts with the row 'best'"),
        (_arm(samples=0), {}, "samples: must be greater than or equal to 1, not 0"),
        (_arm(sampler="grid"), {}, "sampler: must be 'tpe', 'random', 'qmc', 'gp' or 'nsga2', not 'grid'"),
    ],
)
def test_a_wrong_search_is_one_clear_error(
    planned: Planned, arm: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(SettingError) as caught:
        planned({"arms": [arm]}, **options)
    assert text in str(caught.value)


def test_a_point_from_elsewhere_is_refused(planned: Planned) -> None:
    (search,) = planned({"arms": [_arm()]}).searches
    with pytest.raises(
        SettingError, match=r"has no dimension 'moto\.tau'.*it has: moto, moto\.n, tokenprop\.scale"
    ):
        search.trial({"moto.tau": 0.1}, 0)
