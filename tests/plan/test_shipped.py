"""The studies, recipes and spaces that come with Ablator."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ablator.plan.differences import differences
from ablator.plan.planning import Plan, plan
from ablator.study.loading import load, read_space
from ablator.study.overlay import overlaps
from ablator.study.spaces import SearchSpace

_ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.stem for path in (_ROOT / "experiments").glob("*.yaml"))
SPACES = sorted(path.stem for path in (_ROOT / "search_spaces").glob("*.yaml"))

OWN = {"loco_best", "interactions"}
"""Studies of the paper's parts that are no table of it."""


class Draw:
    """Answers from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.random.choice(choices)

    def integer(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        return self.random.randrange(low, high + 1, step)

    def real(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        return self.random.uniform(low, high)


def _plan(name: str, profile: str) -> Plan:
    study = load(_ROOT / "experiments" / f"{name}.yaml")
    return plan(study, profile=profile, fingerprint=lambda data: data.name)


def test_every_table_of_the_first_study_is_there() -> None:
    tables = {
        "tokenizer_designs",
        "tokenizer_probe",
        "optimizers",
        "moto_n",
        "moto_norm",
        "moto_placement",
        "moto_walltime",
        "moto_backbones",
        "tokenprop_backbones",
        "combined",
        "data_fraction",
        "tokenprop_loss",
        "tokenprop_weight",
        "tokenprop_decoder",
    }
    assert tables | OWN | {"search_all"} <= set(STUDIES)


@pytest.mark.parametrize("profile", ["paper", "laptop", "gpu"])
@pytest.mark.parametrize("name", STUDIES)
def test_arms_differ_in_what_they_declare_and_nothing_else(name: str, profile: str) -> None:
    made = _plan(name, profile)
    rows = [arm for arm in made.arms if arm.kind != "search"]
    for a in rows:
        for b in rows:
            found = differences(made.of(a)[0].spec, made.of(b)[0].spec)
            assert (found == {}) == (a is b), (a.label, b.label)
            if (a.against or a.label) == (b.against or b.label):
                # A baseline's own changes are in every row that starts from it.
                declared = {key for row in (a, b) if row.kind != "baseline" for key in row.changes}
                if all(made.of(row)[0].start is not None for row in (a, b)):
                    # What they start from differs as their namesakes do, which are rows of a shipped study.
                    found.pop("model.weights", None)
                assert all(any(overlaps(key, d) for d in declared) for key in found), (a.label, b.label)


def test_backbones_are_one_trial_for_all_tables() -> None:
    for profile in ("paper", "laptop"):
        found: dict[str, set[str]] = {}
        for name in ("moto_backbones", "tokenprop_backbones", "combined"):
            made = _plan(name, profile)
            for arm in made.arms:
                if arm.kind == "baseline":
                    found.setdefault(arm.label, set()).add(made.of(arm)[0].identity)
        assert len(found) == 9
        assert {label: len(identities) for label, identities in found.items()} == dict.fromkeys(found, 1)


@pytest.mark.parametrize("profile", ["paper", "laptop", "gpu"])
def test_each_design_is_probed_from_its_own_trial(profile: str) -> None:
    probe, designs = _plan("tokenizer_probe", profile), _plan("tokenizer_designs", profile)
    assert [(t.label, t.seed) for t in probe.trials] == [(t.label, t.seed) for t in designs.trials]
    starts = [trial.start.trial.identity for trial in probe.trials if trial.start is not None]
    assert starts == [trial.identity for trial in designs.trials]


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_has_the_number_that_the_paper_reports(name: str) -> None:
    made = _plan(name, "paper")
    labels = {arm.label for arm in made.arms}
    assert made.reported.keys() < labels if name in OWN else made.reported.keys() == labels
    assert made.study.study == name
    assert made.study.source.startswith("arXiv 2212.11115, Table")
    assert made.study.question.endswith("?")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_file_names_its_schema_command_and_expectation(name: str) -> None:
    head = (_ROOT / "experiments" / f"{name}.yaml").read_text().splitlines()[:3]
    assert head[0] == "# yaml-language-server: $schema=../docs/schema/study.json"
    assert f"ablator run experiments/{name}.yaml" in head[1]
    assert head[2].startswith("# Expect ")


def test_the_baseline_is_one_trial_for_all_tables() -> None:
    for profile in ("paper", "laptop"):
        # One table is of less data, and one of linear probes.
        others = {"data_fraction", "tokenizer_probe"}
        first = [_plan(name, profile).trials[0] for name in STUDIES if name not in others]
        assert len({trial.identity for trial in first if trial.spec.trains}) == 1


def test_the_laptop_needs_no_files_and_the_paper_its_own() -> None:
    assert {t.spec.data.name for name in STUDIES for t in _plan(name, "laptop").trials} == {"digits"}
    paper = _plan("moto_n", "paper").trials[0].spec
    assert (paper.data.name, paper.data.root) == ("folder", "data/imagenet")
    assert (paper.train.epochs, paper.train.batch_size, paper.train.lr) == (300, 1024, 5e-4)


def test_decoders_fit_the_images_of_every_profile() -> None:
    for profile in ("laptop", "gpu"):
        for name in STUDIES:
            for trial in _plan(name, profile).unique().values():
                for objective in trial.spec.objectives.values():
                    assert objective.scale <= trial.spec.data.image_size


@pytest.mark.parametrize("profile", ["paper", "laptop", "gpu"])
def test_the_parts_share_their_trials_with_the_tables(profile: str) -> None:
    tables = ("moto_n", "moto_norm", "tokenprop_loss", "tokenizer_designs")
    known = {identity for name in tables for identity in _plan(name, profile).unique()}
    pairs, left_out = _plan("interactions", profile), _plan("loco_best", profile)
    new = {t.label for t in pairs.trials if t.identity not in known}
    assert new == {"MoTo + TokenProp", "MoTo + intra", "TokenProp + intra"}
    rest = {t.label for t in left_out.trials if t.identity not in pairs.unique()}
    assert rest == {"all three"}
    assert [one.label for one in pairs.interactions] == [
        "MoTo × TokenProp",
        "MoTo × intra",
        "TokenProp × intra",
    ]


@pytest.mark.parametrize("profile", ["paper", "laptop"])
def test_every_point_of_the_search_is_a_trial(profile: str) -> None:
    (search,) = _plan("search_all", profile).searches
    trials = [search.trial(search.space.sample(Draw(seed)), seed=0) for seed in range(60)]
    kinds = {(bool(t.spec.components), bool(t.spec.objectives)) for t in trials}
    assert kinds == {(a, b) for a in (True, False) for b in (True, False)}
    seen = {key for t in trials for key in t.changes}
    assert seen == search.space.dimensions.keys()


@pytest.mark.parametrize("name", SPACES)
def test_spaces_are_sound(name: str) -> None:
    path = _ROOT / "search_spaces" / f"{name}.yaml"
    assert SearchSpace(read_space(path, "test"), str(path)).cells() is None
