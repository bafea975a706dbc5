"""plan, run, report, status on a study that is trained already, in part, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Ablator = Callable[..., Result]
Fill = Callable[..., Path]

RUN_KEYS = {
    *("planned", "trained", "completed", "cached", "failed", "diverged", "pruned", "missing", "seconds"),
    *("study", "profile", "table", "page", "mlflow_left", "shared", "needed"),
}


def last_json(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return value


def test_a_finished_study_runs_nothing_and_prints_its_table(
    ablator: Ablator, study: Path, fill: Fill
) -> None:
    result = ablator("run", study, "-p", "laptop", "--store", fill(), "--mlflow", "off")
    assert result.exit_code == 0, result.output
    assert "6 planned = 0 completed + 0 failed + 0 diverged + 0 pruned + 6 cached" in result.stdout
    assert "trained 0 in" in result.stdout
    # Means over the seeds, the reported value, the files, and how to go on.
    for text in ("80.05", "82.05", "80.8", "page.html", "table.tex", "ablator sync"):
        assert text in result.stdout
    assert "\x1b" not in result.output


def test_json_is_the_last_line_and_the_only_one_on_stdout(ablator: Ablator, study: Path, fill: Fill) -> None:
    result = ablator("run", study, "-p", "laptop", "--store", fill(), "--mlflow", "off", "--json")
    found = last_json(result)
    assert len(result.stdout.splitlines()) == 1
    assert found.keys() == RUN_KEYS
    counts = {key: found[key] for key in ("planned", "cached", "trained", "completed", "missing", "failed")}
    assert counts == {"planned": 6, "cached": 6, "trained": 0, "completed": 0, "missing": 0, "failed": 0}
    assert Path(found["table"]).is_file()
    assert Path(found["page"]).is_file()
    # What was run with `off` waits for `sync`: six trials and the report.
    assert found["mlflow_left"] == 7
    assert "n = 4" in result.stderr


def test_a_study_that_is_named_twice_is_run_once(ablator: Ablator, study: Path, fill: Fill) -> None:
    result = ablator(
        "run", study, study.parent, "-p", "laptop", "--store", fill(), "--mlflow", "off", "--json", "-q"
    )
    assert last_json(result).keys() == RUN_KEYS
    assert last_json(result)["planned"] == 6


def test_a_diverged_trial_is_a_result(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill({("n = 2", 0): {"status": "diverged", "metrics": {}, "error": "the loss is nan at step 7"}})
    result = ablator("run", study, "-p", "laptop", "--store", store, "--mlflow", "off")
    assert result.exit_code == 0
    assert "diverged" in result.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "5 completed + 0 failed + 0 diverged + 0 pruned + 1 missing"),
        ({"status": "failed", "metrics": {}, "error": "in step 3\nOSError: disk full"}, "OSError: disk full"),
    ],
    ids=["missing", "failed"],
)
def test_report_of_a_table_with_a_hole_is_not_a_success(
    ablator: Ablator, study: Path, fill: Fill, change: dict[str, Any] | None, said: str
) -> None:
    result = ablator("report", study, "-p", "laptop", "--store", fill({("n = 2", 1): change}), "--json")
    assert result.exit_code == 1
    assert last_json(result)["complete"] is False
    assert said in result.stderr


@pytest.mark.parametrize(
    ("form", "begin"), [("markdown", "# tiny"), ("latex", "%"), ("csv", "arm,")], ids=lambda v: str(v)
)
def test_a_format_prints_nothing_but_the_table(
    ablator: Ablator, study: Path, fill: Fill, form: str, begin: str
) -> None:
    result = ablator("report", study, "-p", "laptop", "--store", fill(), "--format", form)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(begin)
    assert "page.html" in result.stderr
    assert "page.html" not in result.stdout


def test_plan_shows_sizes_cost_and_what_is_cached(ablator: Ablator, study: Path, fill: Fill) -> None:
    result = ablator("plan", study, "-p", "laptop", "--store", fill({("n = 4", 1): None}), "--json")
    assert result.exit_code == 0, result.output
    found = last_json(result)
    base, last = found["trials"][0], found["trials"][-1]
    assert (found["planned"], found["cached"]) == (6, 5)
    assert base["cached"] is True
    assert last["cached"] is False
    assert base["parameters"] == 158090
    assert last["parameters"] > base["parameters"]
    # 1,438 images, 8 epochs, three passes of two operations a multiply-add.
    assert base["pflop"] == pytest.approx(6e-6 * base["gmacs"] * 1438 * 8)
    # The records say 20 s for 360 steps of 32 images at 0.0114 GMACs.
    assert found["seconds"] == pytest.approx(last["gmacs"] * 1438 * 8 / (0.0114 * 360 * 32 / 20))
    assert "moto.n = 4" in result.stderr
    assert "6 trials, 5 cached, 1 to train" in result.stderr


def test_a_plan_without_sizes_writes_nothing(ablator: Ablator, study: Path, tmp_path: Path) -> None:
    result = ablator("plan", study, "-p", "laptop", "--no-size")
    assert result.exit_code == 0
    assert "6 trials, 0 cached, 6 to train" in result.stdout
    assert not (tmp_path / ".ablator").exists()


def test_a_long_plan_has_one_line_an_arm(ablator: Ablator, study: Path) -> None:
    result = ablator("plan", study, "-p", "laptop", "--no-size", "--set", "seeds=21")
    lines = [line for line in result.stdout.splitlines() if line.startswith("n = 4")]
    assert len(lines) == 1
    assert "0–20" in lines[0]
    assert "0/21" in lines[0]


def test_a_search_is_listed_with_what_it_draws(ablator: Ablator, study: Path) -> None:
    text = study.read_text(encoding="utf-8")
    search = (
        "\n  - {label: best, design: search, samples: 9, sampler: random, space: {dimensions: "
        "{moto.n: {kind: categorical, choices: [2, 4]}, moto.partition: "
        "{kind: categorical, choices: [soft, hard]}}}}\nseeds: 2"
    )
    study.write_text(text.replace("\nseeds: 2", search), encoding="utf-8")
    result = ablator("plan", study, "-p", "laptop", "--no-size", "--set", "samples=9")
    assert "9 samples × 2 seeds by random (seed 0) of 4 different points" in result.stdout
    assert "up to 18 of searches" in result.stdout


def test_a_mistake_is_one_object_too(ablator: Ablator, tmp_path: Path) -> None:
    for command in ("plan", "run", "status", "report"):
        result = ablator(command, "nowhere.yaml", "--json")
        assert result.exit_code == 2
        assert "nowhere.yaml" in last_json(result)["error"], "the last line, though nothing was done"
        assert "nowhere.yaml" in result.stderr
        assert ablator(command, "nowhere.yaml").stdout == ""
