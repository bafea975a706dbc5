"""explain on a search whose records are written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import ablator as package
from ablator import api
from ablator.contracts.record import Record
from ablator.plan.trial import Trial
from ablator.results.journal import Sample
from ablator.results.store import Store

Ablator = Callable[..., Result]
SEARCH = """
study: tiny
question: What is best?
baseline: {label: base}
arms:
  - label: best
    design: search
    samples: 3
    space:
      dimensions:
        moto: {kind: categorical, choices: [on, off]}
        moto.n: {kind: int, low: 2, high: 16, when: {moto: on}}
        moto.partition: {kind: categorical, choices: [soft, hard], when: {moto: on}}
        norm.kind: {kind: categorical, choices: [layer, batch]}
seeds: 1
profiles: {laptop: {seeds: 1, stop: asha}}
"""
POINTS = [
    {"moto": "off", "norm.kind": "layer"},
    {"moto": "on", "moto.n": 4, "moto.partition": "hard", "norm.kind": "batch"},
    {"moto": "on", "moto.n": 2, "moto.partition": "soft", "norm.kind": "layer"},
]


def _record(trial: Trial, top1: float) -> Record:
    return Record(
        identity=trial.identity, status="completed", spec=trial.spec.to_json(), metrics={"top1": top1}
    )


@pytest.fixture
def searched(study: Path, tmp_path: Path) -> Path:
    """A store in which the second of three points is the best."""
    study.write_text(SEARCH, encoding="utf-8")
    store = Store.open(tmp_path / "store")
    planned = api.plan(study, profile="laptop")
    (search,) = planned.searches
    journal = store.journal(f"tiny-{search.id}")
    for number, (point, value) in enumerate(zip(POINTS, (81.0, 84.0, 83.0), strict=True)):
        trial = search.trial(point, 0)
        store.ledger.commit(_record(trial, value))
        journal.append(Sample(sample=number, point=point, identities=(trial.identity,)))
    store.ledger.commit(_record(planned.trials[0], 80.0))
    return store.root


def test_the_written_study_runs_as_it_is_and_shares_trials(
    ablator: Ablator, study: Path, searched: Path, tmp_path: Path
) -> None:
    target = tmp_path / "best.yaml"
    result = ablator("explain", study, "-p", "laptop", "--store", searched, "--output", target)
    assert result.exit_code == 0, result.output
    assert "Next: ablator run" in result.stdout
    text = target.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# ablator run {target} --profile laptop"
    made = api.plan(target, profile="laptop")
    assert [arm.label for arm in made.arms] == [
        "base",
        "best point",
        "without moto",
        "without norm",
        "without moto.n = 4",
        "without moto.partition = hard",
        "without norm.kind = batch",
    ]
    known = Store.open(searched).ledger.identities()
    shared = {trial.label for trial in made.trials if trial.identity in known}
    assert shared == {"base", "best point"}
    plan = ablator("plan", target, "-p", "laptop", "--store", searched, "--no-size")
    assert "21 trials, 2 cached, 19 to train" in plan.stdout


def test_python_gives_the_same_study_of_results_and_of_the_file(
    ablator: Ablator, study: Path, searched: Path
) -> None:
    of_file = package.explain(study, profile="laptop", store=searched)
    of_results = package.explain(api.report(study, profile="laptop", store=searched))
    assert of_file == of_results
    assert package.plan(of_file, profile="laptop").seeds == (0, 1, 2)
    printed = ablator("explain", study, "-p", "laptop", "--store", searched, "--seeds", "1")
    assert printed.exit_code == 0
    assert "seeds: [0]" in printed.stdout


def test_a_search_without_a_completed_point_says_so(ablator: Ablator, study: Path, tmp_path: Path) -> None:
    study.write_text(SEARCH, encoding="utf-8")
    store = Store.open(tmp_path / "empty")
    result = ablator("explain", study, "-p", "laptop", "--store", store.root)
    assert result.exit_code == 2
    assert "no completed point under profile laptop yet; run the study first" in result.stderr
