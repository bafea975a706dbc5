"""Trials that start from another study's: what a reference comes to, and what it may not be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablator.errors import SettingError, WeightsError
from ablator.plan.planning import Plan, plan
from ablator.plan.spec import resolve
from ablator.plan.trial import ticket_of
from ablator.study.loading import load
from ablator.study.references import moved

Write = Callable[..., Path]

BASE: dict[str, Any] = {"data": {"name": "digits"}, "train": {"epochs": 3}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("name", arms=[...], folder="sub")` writes a study file below a folder of its own."""

    def make(name: str, folder: str = "experiments", **document: Any) -> Path:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        path = place / f"{name}.yaml"
        rest = {"study": name, "base": BASE, "baseline": {"label": "DeiT"}, "seeds": 2, **document}
        path.write_text(yaml.safe_dump(rest, sort_keys=False), encoding="utf-8")
        return path

    return make


@pytest.fixture
def designs(write: Write) -> Path:
    arms = [
        {"label": "MoTo", "set": {"moto.n": 4}},
        {"label": "best", "design": "search", "space": {"dimensions": {"train.lr": RATES}}},
    ]
    profiles = {"small": {"set": {"train.epochs": 1, "model.options": {"depth": 2}, "model.weights": None}}}
    return write("designs", arms=arms, profiles=profiles)


RATES: dict[str, Any] = {"kind": "float", "low": 0.1, "high": 1.0}
PROBE: dict[str, Any] = {"task": "linear_probe", "set": {"model.weights": "study:designs.yaml"}}
ROWS = [{"label": "MoTo", "set": {"moto.n": 4}}]


def made(path: Path, **options: Any) -> Plan:
    return plan(load(path), **{"fingerprint": lambda data: f"{data.name} {data.fraction}", **options})


def test_a_row_starts_from_its_namesake_with_the_same_seed(write: Write, designs: Path) -> None:
    above = {(t.label, t.seed): t for t in made(designs, overrides=["seeds=5"]).trials}
    probe = made(write("probe", arms=ROWS, **PROBE), overrides=["seeds=[1, 4]"])
    assert len(probe.trials) == 4
    for trial in probe.trials:
        assert trial.start is not None
        assert trial.start.study == "designs"
        # The study itself says two seeds; the one that is needed is made.
        assert trial.start.trial.identity == above[trial.label, trial.seed].identity
        assert trial.spec.model.weights == f"trial:{above[trial.label, trial.seed].identity}"
        ticket = ticket_of(trial)
        assert (ticket.start_study, ticket.start_label) == ("designs", trial.label)


def test_a_row_may_be_named(write: Write, designs: Path) -> None:
    arms = [{"label": "tuned", "set": {"model.weights": "study:designs.yaml#MoTo", "moto.n": 4}}]
    tuned = made(write("tuned", arms=arms)).trials[-1]
    assert tuned.start is not None
    assert tuned.start.trial.label == "MoTo"
    assert tuned.start.text() == "MoTo · seed 1 of designs"


def test_the_identity_follows_the_upstream_trial(write: Write, designs: Path) -> None:
    path = write("probe", arms=ROWS, **PROBE)
    before = [trial.identity for trial in made(path).trials]
    spec = made(path).trials[0].spec
    assert before[0] == spec.identity("digits 1.0", spec.model.weights)
    # Another name of the file and of its rows' order is no other trial; another recipe is.
    text = designs.read_text(encoding="utf-8")
    designs.write_text(text.replace("question", "about"), encoding="utf-8")
    assert [trial.identity for trial in made(path).trials] == before
    designs.write_text(text.replace("n: 4", "n: 4\n    moto.tau: 0.2"), encoding="utf-8")
    after = [trial.identity for trial in made(path).trials]
    assert (after[:2], set(after[2:]) & set(before)) == (before[:2], set())


def test_a_study_under_a_profile_starts_from_trials_under_it(write: Write, designs: Path) -> None:
    profiles = {"small": {"set": {"model.options": {"depth": 2}, "model.weights": None}}}
    probe = made(write("probe", arms=ROWS, profiles=profiles, **PROBE), profile="small")
    wanted = made(designs, profile="small").trials
    starts = [trial.start.trial.identity for trial in probe.trials if trial.start is not None]
    assert starts == [trial.identity for trial in wanted], "the profile's `weights: null` is about files"


def test_of_set_images_and_backbone_go_along_and_training_does_not(write: Write, designs: Path) -> None:
    path = write("probe", arms=ROWS, **PROBE)
    carried = ["data.fraction=0.5", "model.options.depth=3"]
    first = made(path, overrides=[*carried, "train.epochs=9", "augment.flip=0.1"]).trials[0]
    assert first.start is not None
    assert first.start.trial.identity == made(designs, overrides=carried).trials[0].identity
    assert (first.spec.train.epochs, first.start.trial.spec.train.epochs) == (9, 3)
    # Weights that are said for the run take the study's place, and are not handed on.
    (path.parent / "w.pth").write_bytes(b"one")
    overruled = made(path, overrides=[f"model.weights={path.parent / 'w.pth'}"]).trials[0]
    assert overruled.start is None


def test_a_reference_is_relative_to_the_file_that_says_it(
    write: Write, designs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = write("probe", arms=ROWS, **PROBE)
    recipe = {**BASE, "task": "linear_probe", "model": {"weights": "study:../experiments/designs.yaml"}}
    write("recipe", folder="recipes").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    below = write("probe", folder="elsewhere", arms=ROWS, base="../recipes/recipe.yaml")
    identities = {tuple(t.identity for t in made(path).trials) for path in (probe, below)}
    assert len(identities) == 1
    # On the command line, to the folder that it is typed in.
    plain = write("probe", folder="elsewhere", arms=ROWS, task="linear_probe")
    monkeypatch.chdir(designs.parent)
    typed = made(plain, overrides=["model.weights=study:designs.yaml"])
    assert tuple(t.identity for t in typed.trials) in identities


def test_moving_a_reference_and_back_changes_nothing() -> None:
    value = {"a": ["study:x/y.yaml#z", 3], "b": "study:/abs.yaml", "c": "no study: here"}
    there = moved(value, Path("one/two"), Path("three"))
    assert there["a"][0] == "study:../one/two/x/y.yaml#z"
    assert moved(there, Path("three"), Path("one/two")) == value


def test_studies_may_start_from_studies_that_start_from_others(write: Write, designs: Path) -> None:
    middle = [{"label": "MoTo", "set": {"moto.n": 4}}]
    write("middle", arms=middle, set={"model.weights": "study:designs.yaml", "train.lr": 1e-4})
    last = made(write("last", arms=ROWS, task="linear_probe", set={"model.weights": "study:middle.yaml"}))
    start = last.trials[0].start
    assert start is not None
    assert start.trial.start is not None
    assert start.trial.start.trial.identity == made(designs).trials[0].identity


def test_a_row_may_start_from_another_one_of_its_study(write: Write) -> None:
    arms = [{"label": "longer", "set": {"model.weights": "study:own.yaml#DeiT"}}]
    made_plan = made(write("own", arms=arms))
    assert [t.start.trial.identity for t in made_plan.trials[2:] if t.start] == [
        t.identity for t in made_plan.trials[:2]
    ]


def test_a_search_knows_all_that_its_points_start_from(write: Write, designs: Path) -> None:
    choices = [None, "study:designs.yaml#DeiT", "study:designs.yaml#MoTo"]
    space = {
        "dimensions": {
            "model.weights": {"kind": "categorical", "choices": choices},
            "moto": {"kind": "categorical", "choices": ["on", "off"]},
        }
    }
    path = write("searched", arms=[{"label": "found", "design": "search", "space": space}])
    (search,) = made(path).searches
    wanted = {t.identity for t in made(designs).trials}
    assert {start.trial.identity for start in search.starts} == wanted
    before = search.id
    designs.write_text(
        designs.read_text(encoding="utf-8").replace("epochs: 3", "epochs: 4"), encoding="utf-8"
    )
    assert made(path).searches[0].id != before, "points of other weights are other points"


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("study:design.yaml", r"there is no study file .*design\.yaml \(did you mean 'designs\.yaml'\?\)"),
        (
            "study:designs.yaml#Moto",
            r"no row of .* is called 'Moto' \(did you mean 'MoTo'\?\).*'DeiT', 'MoTo'",
        ),
        ("study:designs.yaml#best", r"the row 'best' is a search.*'DeiT', 'MoTo'"),
        ("study:times.yaml#DeiT", r"task inference_time trains nothing"),
        ("study:probes.yaml#DeiT", r"task linear_probe trains heads on a frozen backbone"),
        ("study:probe.yaml#MoTo", r"in a circle: probe\.yaml#MoTo -> probe\.yaml#MoTo"),
        ("study:circle.yaml#DeiT", r"in a circle: .*circle\.yaml#DeiT -> probe\.yaml#MoTo -> circle"),
        ("study:broken.yaml#DeiT", r"(?s)study:broken\.yaml.*broken\.yaml: .*armz"),
    ],
)
def test_a_reference_that_leads_nowhere_is_one_clear_error(
    write: Write, designs: Path, weights: str, says: str
) -> None:
    write("times", base={}, task="inference_time", arms=[{"label": "m", "set": {"measure.operator": "moto"}}])
    write("probes", task="linear_probe", arms=ROWS)
    write("circle", arms=ROWS, set={"model.weights": "study:probe.yaml#MoTo"})
    write("broken", armz=[])
    path = write("probe", arms=[{"label": "MoTo", "set": {"model.weights": weights, "moto.n": 4}}])
    with pytest.raises(SettingError, match=says) as caught:
        made(path)
    assert str(path) in str(caught.value)
    assert "'MoTo'" in str(caught.value)


def test_a_profile_that_the_other_study_lacks_is_named(write: Write, designs: Path) -> None:
    path = write("probe", arms=ROWS, profiles={"mine": {"seeds": 1}}, **PROBE)
    with pytest.raises(SettingError, match=r"designs\.yaml.*unknown profile 'mine'"):
        made(path, profile="mine")


def test_what_only_looks_like_a_trial_is_refused(write: Write) -> None:
    path = write("probe", arms=[{"label": "a", "set": {"model.weights": "trial:abc"}}])
    with pytest.raises(WeightsError, match=r"64 hexadecimal digits.*study:FILE#ROW"):
        made(path)


def test_specs_from_before_there_was_classical_momentum_keep_their_identity() -> None:
    spec = resolve({"train": {"optimizer": "sgd"}}, "f")
    assert "nesterov" not in spec.to_json()["train"]
    classical = dataclasses.replace(spec, train=dataclasses.replace(spec.train, nesterov=False))
    assert classical.identity("x") != spec.identity("x")
    assert resolve(classical.to_json(), "f") == classical
