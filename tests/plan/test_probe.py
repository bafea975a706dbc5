"""What a plan makes of starting weights and of the linear probe's own section."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.contracts.record import Record
from ablator.errors import SettingError, WeightsError
from ablator.plan.cost import epochs_worth, measured_rate
from ablator.plan.differences import differences
from ablator.plan.planning import Plan
from ablator.plan.spec import TrialSpec, resolve

Planned = Callable[..., Plan]
PROBE: dict[str, Any] = {"task": "linear_probe", "train": {"epochs": 90}}
FIXED = {"crop": "none", "flip": 0.0, "rand_augment": None, "color_jitter": 0.0, "erase": 0.0, "repeats": 1}


# ---- starting weights


def test_a_trial_is_known_by_the_content_of_its_weights(planned: Planned, tmp_path: Path) -> None:
    names = ("a.pth", "b.pth", "c.pth")
    for name, content in zip(names, (b"one", b"one", b"two"), strict=True):
        (tmp_path / name).write_bytes(content)
    arms = [{"label": name, "set": {"model.weights": str(tmp_path / name)}} for name in names]
    made = planned({"arms": arms, "seeds": 1})
    random, a, b, c = (trial.identity for trial in made.trials)
    assert a == b
    assert len({random, a, c}) == 3
    (tmp_path / "b.pth").write_bytes(b"three")
    assert planned({"arms": arms, "seeds": 1}).trials[2].identity not in (random, a, c)


def test_weights_that_are_gone_are_found_while_planning(planned: Planned, tmp_path: Path) -> None:
    arms = [{"label": "a", "set": {"model.weights": str(tmp_path / "gone.pth")}}]
    with pytest.raises(WeightsError, match=r"gone\.pth"):
        planned({"arms": arms})


def test_a_spec_without_weights_is_what_it_was_before_there_were_any() -> None:
    plain = resolve({}, "f").to_json()
    assert "weights" not in plain["model"]
    assert resolve({"model": {"weights": None}}, "f").to_json() == plain
    spec = resolve({"model": {"weights": "w.pth"}}, "f")
    assert TrialSpec.from_json(spec.to_json()) == spec
    assert differences(resolve({}, "f"), spec) == {"model.weights": (None, "w.pth")}


def test_a_search_may_choose_the_weights(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"one")
    choices = [None, str(tmp_path / "w.pth")]
    space = {"dimensions": {"model.weights": {"kind": "categorical", "choices": choices}}}
    (search,) = planned({"arms": [{"label": "best", "design": "search", "space": space}]}).searches
    first, second = (search.trial({"model.weights": choice}, 0) for choice in choices)
    assert first.identity != second.identity
    assert second.spec.model.weights == choices[1]


# ---- the section of a task


def test_a_probe_always_has_its_section_and_no_other_task_does() -> None:
    spec = resolve({"task": "linear_probe"}, "f")
    assert spec.probe is not None
    assert spec.to_json()["probe"]["lr_factors"] == [1.0]
    assert resolve({"task": "linear_probe", "probe": {}}, "f") == spec
    assert TrialSpec.from_json(spec.to_json()) == spec
    assert resolve({}, "f").probe is None
    with pytest.raises(SettingError, match=r"probe belongs to task linear_probe, .* classification"):
        resolve({"probe": {"views": 2}}, "f")


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        ({"view": 2}, r"probe\.view: unknown key \(did you mean 'views'\?\)"),
        ({"views": 0}, r"probe\.views"),
        ({"lr_factors": []}, r"probe\.lr_factors: needs at least 1 item"),
        ({"lr_factors": [1.0, -1.0]}, r"probe\.lr_factors"),
    ],
)
def test_a_wrong_section_is_named(probe: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        resolve({"task": "linear_probe", "probe": probe}, "f")


def test_profiles_and_overrides_reach_a_section_that_nobody_wrote(planned: Planned) -> None:
    document = {
        "task": "linear_probe",
        "arms": [{"label": "half", "set": {"data.fraction": 0.5}}],
        "profiles": {"small": {"set": {"probe.views": 3}, "map": {"probe.cache": {"fp32": "fp16"}}}},
    }
    made = planned(document, profile="small", overrides=["probe.lr_factors=[0.1, 1]"])
    for trial in made.trials:
        assert trial.spec.probe is not None
        assert (trial.spec.probe.views, trial.spec.probe.cache) == (3, "fp16")
        assert trial.spec.probe.lr_factors == (0.1, 1.0)


def test_a_probes_key_in_another_study_is_an_error(planned: Planned) -> None:
    arms = [{"label": "half", "set": {"data.fraction": 0.5}}]
    with pytest.raises(SettingError, match="belongs to task linear_probe"):
        planned({"arms": arms}, overrides=["probe.views=2"])
    with pytest.raises(SettingError, match="belongs to task linear_probe"):
        planned({"arms": [{"label": "views", "set": {"probe.views": 2}}]})


# ---- cost


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, 90),
        ({"probe": {"views": 6}}, 6),
        ({"augment": FIXED}, 1),
    ],
)
def test_a_probe_costs_its_forward_passes(changes: dict[str, Any], passes: int) -> None:
    assert epochs_worth(resolve({**PROBE, **changes}, "f")) == pytest.approx(passes / 3)


def test_a_probes_measured_rate_is_of_its_forward_passes() -> None:
    spec = resolve({**PROBE, "train": {"epochs": 90, "batch_size": 10}, "probe": {"views": 6}}, "f")
    record = Record(
        identity="0" * 64,
        status="completed",
        spec=spec.to_json(),
        metrics={"top1": 1.0},
        cost={"train_seconds": 50.0, "eval_seconds": 0.0, "steps": 9000.0},
        size={"gmacs": 2.0},
    )
    # 6 passes over 1,000 images at 2 operations a multiply-add, in 50 s.
    assert measured_rate([record], spec) == pytest.approx(6 * 1000 * 2 * 2e9 / 50)
