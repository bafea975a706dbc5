"""--row: one row of a study, and what it is compared with, by plan, run, report and status."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import ablator as python

Ablator = Callable[..., Result]
Fill = Callable[..., Path]


def last_json(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return value


@pytest.fixture
def folder(study: Path) -> Path:
    """tiny (base, n = 2, n = 4), wide (base, n = 2, n = 8) and other (base, n = 16)."""
    place = study.parent / "experiments"
    place.mkdir()
    text = study.read_text(encoding="utf-8")
    (place / "tiny.yaml").write_text(text, encoding="utf-8")
    for name, values in {"wide": "[2, 8]", "other": "[16, 32]"}.items():
        changed = text.replace("study: tiny", f"study: {name}").replace("[2, 4]", values)
        (place / f"{name}.yaml").write_text(changed.replace(", n = 2: 80.8", ""), encoding="utf-8")
    return place


def test_a_row_is_planned_with_its_baseline_alone(ablator: Ablator, study: Path, fill: Fill) -> None:
    options = ("-p", "laptop", "--store", fill(), "--no-size", "--json")
    whole = last_json(ablator("plan", study, *options))["trials"]
    result = ablator("plan", study, *options, "--row", "n = 4")
    assert result.exit_code == 0, result.output
    found = last_json(result)
    assert [trial["label"] for trial in found["trials"]] == ["base", "base", "n = 4", "n = 4"]
    assert all(trial in whole for trial in found["trials"]), "the same trials, cached as ever"
    assert "Only 2 of the study's 3 rows: 'n = 4'" in result.stderr


def test_chosen_rows_are_reported_beside_the_whole_study(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill({("n = 2", 1): None})
    whole = ablator("report", study, "-p", "laptop", "--store", store, "--json")
    assert whole.exit_code == 1, "a hole"
    page = Path(last_json(whole)["page"])
    before = page.read_bytes()
    part = ablator("report", study, "-p", "laptop", "--store", store, "--json", "--row", "n = 4")
    assert part.exit_code == 0, "the hole is in another row"
    found = last_json(part)
    assert Path(found["page"]).parent.parent == page.parent
    assert page.read_bytes() == before
    document = json.loads((Path(found["page"]).parent / "results.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in document["rows"]] == ["base", "n = 4"]
    other = last_json(ablator("report", study, "-p", "laptop", "--store", store, "--json", "--row", "n = 2"))
    assert other["page"] != found["page"]


def test_p_is_adjusted_over_the_rows_that_are_shown(study: Path, fill: Fill) -> None:
    changed = {(label, 1): {"metrics": {"top1": 83.0}} for label in ("n = 2", "n = 4")}
    options: dict[str, Any] = {"profile": "laptop", "store": fill({**changed})}
    whole, part = (python.report(study, **options, rows=rows).table.rows[-1] for rows in ((), ["n = 4"]))
    assert whole.comparison is not None
    assert part.comparison is not None
    assert part.comparison.p_holm == part.comparison.p == whole.comparison.p
    assert whole.comparison.p_holm > whole.comparison.p


def test_the_command_of_a_row_makes_that_row(ablator: Ablator, study: Path, fill: Fill) -> None:
    """What the page tells a reader to type is typed."""
    store = fill()
    text = study.read_text(encoding="utf-8")
    text = text.replace('"n = {n}"', '"it\'s $n = {n}"').replace("n = 2:", '"it\'s $n = 2":')
    study.write_text(text, encoding="utf-8")
    override = "seeds=[3, 4]"
    assert ablator("report", study, "-p", "laptop", "--store", store, "--set", override).exit_code == 1
    results = json.loads((store / "reports/tiny/laptop/results.json").read_text(encoding="utf-8"))
    program, *arguments = shlex.split(results["rows"][1]["command"])
    assert program == "ablator"
    assert arguments == ["run", str(study), "--profile", "laptop", "--set", override, "--row", "it's $n = 2"]
    result = ablator("plan", *arguments[1:], "--no-size", "--store", store, "--json")
    assert {trial["label"] for trial in last_json(result)["trials"]} == {"base", "it's $n = 2"}
    _, *whole = shlex.split(results["study"]["command"])
    assert whole == ["run", str(study), "--profile", "laptop", "--set", override]


def test_a_run_of_one_row_leaves_the_report_for_mlflow(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill()
    options = ("-p", "laptop", "--store", store, "--mlflow", "off", "-q", "--json")
    assert ablator("run", study, *options).exit_code == 0
    (entry,) = store.glob("outbox/**/report.json")
    waiting = entry.read_bytes()
    result = ablator("run", study, *options, "--row", "n = 4")
    assert result.exit_code == 0, result.output
    found = last_json(result)
    assert (found["planned"], found["cached"], found["mlflow_left"]) == (4, 4, 7)
    assert entry.read_bytes() == waiting


def test_status_counts_the_chosen_rows(ablator: Ablator, study: Path, fill: Fill) -> None:
    result = ablator("status", study, "-p", "laptop", "--store", fill({("n = 2", 1): None}), "--row", "n = 4")
    assert "4 planned = 4 completed" in result.stdout


def test_of_a_folder_the_studies_that_have_the_rows(ablator: Ablator, folder: Path, tmp_path: Path) -> None:
    rows = ("--row", "n = 2", "--row", "n = 8")
    options = ("-p", "laptop", "--store", tmp_path / "store", "--json")
    whole = last_json(ablator("report", folder, *options))
    before = Path(whole["page"]).read_bytes()
    part = last_json(ablator("report", folder, *options, *rows))
    assert [one["study"] for one in part["studies"]] == ["tiny", "wide"]
    assert [one["planned"] for one in part["studies"]] == [4, 6]
    assert Path(whole["page"]).read_bytes() == before, "one page of all studies, and one of these rows"
    state = last_json(ablator("status", folder, *options, "--row", "n = 16"))
    assert state["planned"] == 4


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_label_that_no_row_has(ablator: Ablator, study: Path, folder: Path, command: str) -> None:
    one = ablator(command, study, "-p", "laptop", "--row", "n = 2", "--row", "n=4")
    assert (one.exit_code, one.stdout) == (2, "")
    assert f"no row of {study} is called 'n=4' (did you mean 'n = 4'?)" in one.stderr
    assert "rows: 'base', 'n = 2', 'n = 4'" in one.stderr
    several = ablator(command, folder, "-p", "laptop", "--row", "m")
    assert several.exit_code == 2
    assert "no row of the 3 studies is called 'm'; rows: 'base', 'n = 16'" in several.stderr
    assert len(several.stderr.splitlines()) == 1


def test_python_takes_rows_as_well(ablator: Ablator, study: Path, folder: Path, fill: Fill) -> None:
    store = fill({("base", 1): None})
    planned = python.plan(study, profile="laptop", rows=["n = 4"])
    assert {trial.label for trial in planned.trials} == {"base", "n = 4"}
    found = python.report(study, profile="laptop", store=store, rows=["n = 4"])
    assert found.summary.planned == 0
    assert [row.label for row in found.table.rows] == ["base", "n = 4"]
    assert python.status(study, profile="laptop", store=store, rows=["n = 4"]).account.missing == 1
    assert [plan.study.study for plan in python.plan_all(folder, profile="laptop", rows=["n = 32"])] == [
        "other"
    ]
