from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ablator.data.settings import DataSettings
from ablator.errors import DataError, SettingError
from ablator.plan.differences import differences
from ablator.plan.planning import Plan, plan
from ablator.study.overlay import overlaps
from ablator.study.schema import Arms, Baseline, Profile, Study

Planned = Callable[..., Plan]
_N = {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}}


def test_arms_times_seeds_in_the_order_of_the_table(planned: Planned) -> None:
    made = planned({"arms": [_N, {"label": "norm", "set": {"norm.kind": "batch"}}], "seeds": [5, 1]})
    assert [arm.label for arm in made.arms] == ["baseline", "n = 2", "n = 4", "norm"]
    assert [arm.kind for arm in made.arms] == ["baseline", "arm", "arm", "arm"]
    assert [(t.arm, t.seed) for t in made.trials] == [(a, s) for a in range(4) for s in (5, 1)]
    assert [t.seed for t in made.of(made.arms[2])] == [5, 1]
    assert all(t.spec.seed == t.seed for t in made.trials)
    assert len(made.unique()) == 8


def test_an_arm_differs_from_the_baseline_only_in_what_it_declares(planned: Planned) -> None:
    document = {
        "set": {"train.lr": 0.1},
        "baseline": {"label": "full", "set": {"moto.n": 4, "tokenprop": "on"}},
        "arms": [
            {"label": "without MoTo", "set": {"moto": None}},
            {"label": "without TokenProp", "set": {"tokenprop": "off"}},
            {"label": "hard", "set": {"moto.partition": "hard"}},
        ],
    }
    made = planned(document)
    baseline = made.trials[0].spec
    assert baseline.components["moto"].n == 4
    for arm in made.arms[1:]:
        spec = made.of(arm)[0].spec
        assert spec.train.lr == 0.1
        assert differences(baseline, spec).keys() == arm.declared.keys()


def test_studies_share_trials_whatever_they_call_them(planned: Planned) -> None:
    one = planned({"study": "a", "baseline": {"label": "DeiT"}, "arms": [_N]})
    two = planned(
        {
            "study": "b",
            "set": {"moto": None},
            "arms": [{"label": "{n}", "set": {"moto": {"n": 4, "tau": 0.1}}}],
        }
    )
    assert one.unique().keys() & two.unique().keys() == two.unique().keys()


def test_rows_that_come_to_the_same_are_both_reported_and_trained_once(planned: Planned) -> None:
    made = planned({"arms": [_N, {"label": "again", "set": {"moto.n": 4}}], "seeds": 2})
    assert len(made.trials) == 8
    assert len(made.unique()) == 6


def test_the_data_is_asked_for_once_and_may_say_no(planned: Planned) -> None:
    asked: list[DataSettings] = []

    def fingerprint(data: DataSettings) -> str:
        asked.append(data)
        return "x"

    arms = [_N, {"label": "half", "set": {"data.fraction": 0.5}}]
    planned({"arms": arms}, fingerprint=fingerprint)
    assert [data.fraction for data in asked] == [1.0, 0.5]

    def missing(data: DataSettings) -> str:
        raise DataError(f"no {data.name}")

    with pytest.raises(DataError, match="no digits"):
        planned({"arms": [_N]}, fingerprint=missing)


def test_reported_values_belong_to_rows(planned: Planned) -> None:
    reported = {"baseline": 79.8, "n = 2": {"top1": 80, "training_overhead": 4.1}, "n = 4": "NaN"}
    made = planned({"baseline": {"label": "DeiT"}, "arms": [_N], "report": {"reported": reported}})
    assert made.reported["DeiT"] == {"top1": 79.8}
    assert made.reported["n = 2"] == {"top1": 80.0, "training_overhead": 4.1}
    assert made.reported["n = 4"]["top1"] != made.reported["n = 4"]["top1"]


def test_a_study_built_in_python_is_planned_and_checked() -> None:
    study = Study(
        study="s",
        base={"data": {"name": "digits"}},
        baseline=Baseline(label="b"),
        arms=(Arms(label="{scale}", design="grid", set={"tokenprop.scale": (64, 128)}),),
        profiles={"small": Profile(map={"tokenprop.scale": {64: 8, 128: 16}})},  # type: ignore[dict-item]
    )
    made = plan(study, profile="small", fingerprint=lambda data: "x")
    assert [t.spec.objectives["tokenprop"].scale for t in made.trials[3::3]] == [8, 16]
    with pytest.raises(SettingError, match=r"study 's': arms\[0\]\.label: must be text, not 3"):
        plan(
            Study(study="s", arms=(Arms(label=3, set={"moto.n": 2}),)),  # type: ignore[arg-type]
            fingerprint=lambda data: "x",
        )


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"arms": []}, "s.yaml: arms: needs at least 1 item"),
        ({"arms": [{"label": "a", "set": {"moto.nn": 2}}]}, "'a': moto.nn: unknown key (did you mean 'n'?)"),
        (
            {"arms": [{"label": "a", "set": {"motto.n": 2}}]},
            "'a': unknown section 'motto' (did you mean 'moto'?)",
        ),
        ({"arms": [{"label": "a", "set": {"moto.n": "8"}}]}, "'a': moto.n: must be a whole number, not '8'"),
        ({"arms": [{"label": "a", "set": {"moto.n": [2, 4]}}]}, "a list of values needs `design: grid`"),
        ({"arms": [{"label": "a", "set": {"train.epochs": 300}}]}, "changes nothing: train.epochs = 300"),
        ({"arms": [{"label": "a", "set": {"seed": 3}}]}, "seed is not a key of an arm; say `seeds`"),
        ({"arms": [_N, _N]}, "two rows are called 'n = 2'"),
        ({"arms": [{**_N, "label": "baseline"}]}, "two rows are called 'baseline'"),
        ({"arms": [_N], "seeds": [1, 1]}, "seeds: must be different whole numbers from 0 on, not [1, 1]"),
        ({"arms": [_N], "seeds": [-1]}, "seeds: must be different whole numbers from 0 on, not [-1]"),
        ({"arms": [_N], "set": {"train.lrr": 1}}, "set: train.lrr: unknown key (did you mean 'lr'?)"),
        ({"arms": [_N], "set": {"seed": 1}}, "seed is not a key of a study"),
        ({"arms": [_N], "base": {"trian": {}}}, "base: unknown section 'trian' (did you mean 'train'?)"),
        ({"arms": [_N], "task": "classify"}, "task: unknown task 'classify'"),
        (
            {"arms": [_N], "report": {"reported": {"n = 3": 1}}},
            "no row is called 'n = 3' (did you mean 'n = 4'?)",
        ),
        (
            {"arms": [_N], "report": {"reported": {"n = 2": "many"}}},
            "report.reported['n = 2']: must be a number",
        ),
        ({"arms": [_N], "stop": "ashaa"}, "stop: must be a mapping or 'asha' or 'median', not 'ashaa'"),
    ],
)
def test_a_wrong_study_is_one_clear_error(planned: Planned, document: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        planned(document)
    assert text in str(caught.value)


def test_declared_keys_cover_every_difference(planned: Planned) -> None:
    made = planned(
        {"arms": [_N, {"label": "{kind}", "design": "grid", "set": {"norm.kind": ["layer", "batch"]}}]}
    )
    for a in made.arms:
        for b in made.arms:
            declared = a.changes.keys() | b.changes.keys()
            found = differences(made.of(a)[0].spec, made.of(b)[0].spec)
            assert all(any(overlaps(key, d) for d in declared) for key in found)


def test_rows_may_start_from_further_baselines(planned: Planned) -> None:
    made = planned(
        {
            "set": {"train.epochs": 7},
            "baseline": {"label": "small", "set": {"train.lr": 1e-3}},
            "arms": [
                {"label": "small, MoTo", "set": {"moto.n": 4}},
                {
                    "label": "Swin",
                    "baseline": True,
                    "base": {
                        "data": {"name": "digits"},
                        "model": {"name": "swin_tiny_patch4_window7_224"},
                        "train": {"epochs": 3, "clip_grad": 5.0},
                    },
                },
                {"label": "Swin, MoTo", "against": "Swin", "set": {"moto.n": 4}},
            ],
            "profiles": {
                "tiny": {
                    "set": {"model.options.depth": 2},
                    "models": {"swin_tiny_patch4_window7_224": {"options": {"embed_dim": 24}}},
                }
            },
            "seeds": 1,
        },
        profile="tiny",
    )
    assert [(arm.kind, arm.against) for arm in made.arms] == [
        ("baseline", None),
        ("arm", "small"),
        ("baseline", None),
        ("arm", "Swin"),
    ]
    small, _, swin, swin_moto = (trial.spec for trial in made.trials)
    assert differences(swin, swin_moto).keys() == {"moto"}
    assert (swin.train.clip_grad, swin.train.epochs) == (5.0, 7), "its recipe, under the study's set"
    assert swin.train.lr != small.train.lr, "the first baseline's own changes are its own"
    assert small.model.options == {"depth": 2}
    assert swin.model.options == {"embed_dim": 24}, "a profile's options are those of the backbone"


@pytest.mark.parametrize(
    ("arms", "text"),
    [
        (
            [{"label": "a", "baseline": True, "set": {"train.lr": 1}}, {"label": "b", "against": "aa"}],
            "sets nothing",
        ),
        (
            [
                {"label": "big", "baseline": True, "set": {"train.lr": 1}},
                {"label": "b", "against": "bigg", "set": {"moto.n": 2}},
            ],
            "no baseline above it is called 'bigg' (did you mean 'big'?)",
        ),
        (
            [{"label": "a", "set": {"moto.n": 2}}, {"label": "b", "against": "a", "set": {"train.lr": 1}}],
            "no baseline above it is called 'a'",
        ),
        ([{"label": "b", "base": {}, "set": {"moto.n": 2}}], "say `baseline: true` as well"),
        (
            [{"label": "b", "baseline": True, "against": "baseline", "set": {"moto.n": 2}}],
            "a baseline is compared with no row",
        ),
        (
            [
                {"label": "big", "baseline": True, "set": {"train.lr": 1}},
                {"label": "b", "against": "big", "set": {"train.lr": 1}},
            ],
            "changes nothing: train.lr = 1 is what 'big' has",
        ),
    ],
)
def test_a_wrong_comparison_is_one_clear_error(
    planned: Planned, arms: list[dict[str, Any]], text: str
) -> None:
    with pytest.raises(SettingError) as error:
        planned({"arms": arms})
    assert text in str(error.value)
