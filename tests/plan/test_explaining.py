"""From a search's best point to the study that takes it apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.errors import SettingError
from ablator.plan.explaining import FULL, explanation, the_search
from ablator.plan.planning import Plan, plan
from ablator.study.loading import load
from ablator.study.schema import Study
from ablator.study.writing import to_yaml

Planned = Callable[..., Plan]
_POINT = {
    "moto": "on",
    "moto.placement": "post",
    "moto.blocks": "0:4",
    "moto.n": 13,
    "moto.partition": "hard",
    "tokenprop": "on",
    "tokenprop.loss": "l1",
    "tokenprop.weight": 1.2345678901234567e-4,
    "tokenprop.scale": 128,
    "tokenprop.width": 1,
}


@pytest.fixture(scope="module")
def searched(root: Path) -> Plan:
    """The shipped search at the laptop's scale."""
    study = load(root / "experiments" / "search_all.yaml")
    return plan(study, profile="laptop", fingerprint=lambda data: data.name)


def _explain(searched: Plan, point: dict[str, Any], seeds: int = 3) -> Study:
    return explanation(searched, searched.searches[0], point, drawn=12, seeds=seeds)


def _plan(study: Study) -> Plan:
    return plan(study, profile="laptop", fingerprint=lambda data: data.name)


def test_switches_go_first_and_only_what_is_not_at_its_default(searched: Plan) -> None:
    made = _plan(_explain(searched, _POINT))
    assert [arm.label for arm in made.arms] == [
        "DeiT-S",
        FULL,
        "without moto",
        "without tokenprop",
        "without moto.blocks = 0:4",
        "without moto.n = 13",
        "without moto.partition = hard",
        "without tokenprop.loss = l1",
        "without tokenprop.weight = 0.00012345678901234567",
        "without tokenprop.scale = 128",
    ]
    specs = {arm.label: made.of(arm)[0].spec for arm in made.arms}
    assert "moto" not in specs["without moto"].components
    assert specs["without moto.n = 13"].components["moto"].n == 8
    assert specs["without moto.n = 13"].components["moto"].partition == "hard"
    assert made.stop is None, "the rows of a table are trained to their end"


def test_what_the_search_trained_is_not_trained_again(searched: Plan) -> None:
    (search,) = searched.searches
    made = _plan(_explain(searched, _POINT))
    assert made.seeds == (0, 1, 2)
    assert made.of(made.arms[1])[0].identity == search.trial(_POINT, 0).identity
    assert made.of(made.arms[0])[0].identity == searched.trials[0].identity
    neighbour = {**_POINT, "moto.n": 8}
    row = next(arm for arm in made.arms if arm.label == "without moto.n = 13")
    assert made.of(row)[0].identity == search.trial(neighbour, 0).identity


def test_the_written_file_is_the_same_study_wherever_it_lies(
    searched: Plan, root: Path, tmp_path: Path
) -> None:
    study, source = _explain(searched, _POINT), root / "experiments" / "search_all.yaml"
    expected = [trial.identity for trial in _plan(study).trials]
    here = to_yaml(study, root / "experiments" / "best.yaml", source)
    assert "base: ../recipes/deit_s_imagenet.yaml" in here
    assert len(here.splitlines()) < 40
    for number, text in enumerate((to_yaml(study), to_yaml(study, tmp_path / "1.yaml", source))):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert [trial.identity for trial in _plan(load(path)).trials] == expected


def test_what_exists_only_under_a_value_goes_with_it(planned: Planned) -> None:
    space: dict[str, Any] = {
        "moto.partition": {"kind": "categorical", "choices": ["soft", "hard"]},
        "moto.n": {"kind": "int", "low": 2, "high": 20, "when": {"moto.partition": "hard"}},
        "moto.tau": {"kind": "float", "low": 0.1, "high": 1, "when": {"moto.n": [12, 13]}},
    }
    arm = {"label": "best", "design": "search", "space": {"dimensions": space}, "set": {"train.lr": 0.1}}
    made = planned({"arms": [arm], "seeds": [7]})
    point = {"moto.partition": "hard", "moto.n": 12, "moto.tau": 0.5}
    study = explanation(made, made.searches[0], point, drawn=3, seeds=2)
    again = plan(study, fingerprint=lambda data: f"{data.name} {data.fraction}")
    assert again.seeds == (7, 0)
    rows = {arm.label: again.of(arm)[0].spec for arm in again.arms}
    assert list(rows)[2:] == [
        "without moto",
        "without moto.partition = hard",
        "without moto.n = 12",
        "without moto.tau = 0.5",
    ]
    assert "moto" not in rows["without moto"].components
    assert {spec.train.lr for label, spec in rows.items() if label != "baseline"} == {0.1}
    default = rows["without moto.partition = hard"].components["moto"]
    assert (default.partition, default.n, default.tau) == ("soft", 8, 0.1)
    assert rows["without moto.n = 12"].components["moto"].tau == 0.1


def test_a_point_with_one_part_is_one_row_and_the_baseline_is_none(searched: Plan) -> None:
    off = {"tokenprop": "off"}
    one = _plan(_explain(searched, {"moto": "on", "moto.n": 8, **off}, seeds=1))
    assert [arm.label for arm in one.arms] == ["DeiT-S", FULL]
    with pytest.raises(SettingError, match="the best point is the baseline"):
        _explain(searched, {"moto": "off", **off})


def test_which_search_is_meant_must_be_said_where_there_are_several(searched: Plan, planned: Planned) -> None:
    assert the_search(searched, None) is searched.searches[0]
    with pytest.raises(SettingError, match=r"no search is called 'best' \(did you mean 'best found'\?\)"):
        the_search(searched, "best")
    with pytest.raises(SettingError, match="there is no search to explain"):
        the_search(planned({"arms": [{"label": "a", "set": {"moto.n": 2}}]}), None)
    space = {"dimensions": {"moto.n": {"kind": "int", "low": 2, "high": 8}}}
    two = [{"label": name, "design": "search", "space": space} for name in ("a", "b")]
    with pytest.raises(SettingError, match="has several searches; say which: 'a', 'b'"):
        the_search(planned({"arms": two}), None)
