"""plan, run, report, status on a folder of two studies that share their baseline and one arm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Ablator = Callable[..., Result]
Fill = Callable[..., Path]


def last_json(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return value


def balances(account: dict[str, Any]) -> bool:
    ends = ("completed", "failed", "diverged", "pruned", "cached", "missing")
    return bool(account["planned"] == sum(account[key] for key in ends))


@pytest.fixture
def folder(study: Path) -> Path:
    """tiny (base, n = 2, n = 4) and wide (base, n = 2, n = 8), two seeds each, and what is no YAML."""
    place = study.parent / "experiments"
    place.mkdir()
    text = study.read_text(encoding="utf-8")
    study.rename(place / "tiny.yaml")
    wide = text.replace("study: tiny", "study: wide").replace("[2, 4]", "[2, 8]")
    (place / "wide.yaml").write_text(wide, encoding="utf-8")
    (place / "notes.txt").write_text("not a study", encoding="utf-8")
    return place


@pytest.fixture
def filled(study: Path, fill: Fill, folder: Path) -> Path:
    """A store with all that tiny asks for."""
    kept = (folder / "tiny.yaml").read_bytes()
    study.write_bytes(kept)
    store = fill()
    study.unlink()
    return store


def test_a_plan_of_a_folder_says_what_is_shared(ablator: Ablator, folder: Path, filled: Path) -> None:
    result = ablator("plan", folder, "-p", "laptop", "--store", filled, "--no-size", "--json")
    assert result.exit_code == 0, result.output
    assert "12 trials of 2 studies; 4 shared, 6 cached, so 2 to train" in result.stderr
    found = last_json(result)
    assert (found["planned"], found["shared"], found["cached"]) == (12, 4, 6)
    assert [one["study"] for one in found["studies"]] == ["tiny", "wide"]
    assert "n = 8" in result.stderr


def test_a_model_that_two_studies_have_is_built_once(
    ablator: Ablator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablator.assembly import preflight

    built: list[object] = []
    check = preflight.check
    monkeypatch.setattr(
        preflight, "check", lambda *given, **named: built.append(given) or check(*given, **named)
    )
    result = ablator("plan", folder, "-p", "laptop")
    assert result.exit_code == 0, result.output
    assert len(built) == 4, "the baseline and n = 2, 4, 8"
    assert "12 trials of 2 studies; 4 shared, so 8 to train: " in result.stdout


def test_a_finished_folder_is_one_account_and_one_page(ablator: Ablator, folder: Path, filled: Path) -> None:
    (folder / "wide.yaml").write_text(
        (folder / "wide.yaml").read_text(encoding="utf-8").replace("[2, 8]", "[2]"), encoding="utf-8"
    )
    result = ablator("run", folder, "-p", "laptop", "--store", filled, "--mlflow", "off", "--json")
    assert result.exit_code == 0, result.output
    found = last_json(result)
    assert (found["planned"], found["shared"], found["cached"], found["trained"]) == (10, 4, 10, 0)
    assert all(map(balances, [found, *found["studies"]]))
    assert "2 studies: 10 planned = 0 completed" in result.stderr
    page, tables = Path(found["page"]), Path(found["table"])
    assert "tiny" in page.read_text(encoding="utf-8")
    assert "## wide" in tables.read_text(encoding="utf-8")
    # The studies' own pages are where they always are.
    for one in found["studies"]:
        assert Path(one["page"]).parts[-3:] == (one["study"], "laptop", "page.html")


def test_a_report_with_a_hole_in_one_study_is_not_a_success(
    ablator: Ablator, folder: Path, filled: Path
) -> None:
    result = ablator("report", folder, "-p", "laptop", "--store", filled, "--json")
    found = last_json(result)
    assert result.exit_code == 1
    assert [one["complete"] for one in found["studies"]] == [True, False]
    assert found["missing"] == 2
    assert Path(found["page"]).parts[-4:] == ("all-studies", folder.name, "laptop", "page.html")


def test_a_page_of_some_of_a_folder_leaves_that_of_all_alone(
    ablator: Ablator, folder: Path, filled: Path
) -> None:
    (folder / "third.yaml").write_text(
        (folder / "wide.yaml").read_text(encoding="utf-8").replace("study: wide", "study: third"),
        encoding="utf-8",
    )

    def page(*studies: Path) -> Path:
        result = ablator("report", *studies, "-p", "laptop", "--store", filled, "--json")
        return Path(last_json(result)["page"])

    whole = page(folder)
    some = page(folder / "tiny.yaml", folder / "wide.yaml")
    assert whole.parts[-3] == folder.name
    assert some.parts[-3] == "tiny-wide"
    assert "third" in whole.read_text(encoding="utf-8")
    assert "third" not in some.read_text(encoding="utf-8")


def test_latex_of_a_folder_is_one_table_after_the_other(ablator: Ablator, folder: Path, filled: Path) -> None:
    result = ablator("report", folder, "-p", "laptop", "--store", filled, "--format", "latex")
    assert result.stdout.count(r"\begin{table") == 2
    assert "page.html" not in result.stdout


def test_status_of_a_folder_counts_each_study(ablator: Ablator, folder: Path, filled: Path) -> None:
    result = ablator("status", folder, "-p", "laptop", "--store", filled, "--json")
    assert result.exit_code == 0
    found = last_json(result)
    assert [(one["study"], one["missing"]) for one in found["studies"]] == [("tiny", 0), ("wide", 2)]
    assert "2 studies: 10 of 12 trials have a result" in result.stderr


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_folder_without_studies_is_one_error(ablator: Ablator, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "empty" / "inner" / "a.yaml").write_text("study: a", encoding="utf-8")
    result = ablator(command, tmp_path / "empty")
    assert result.exit_code == 2
    assert "has no studies" in result.stderr
    assert "inner" in result.stderr, "where some are"


def test_a_file_that_is_no_study_is_named(ablator: Ablator, folder: Path) -> None:
    (folder / "recipe.yaml").write_text("data: {name: digits}", encoding="utf-8")
    result = ablator("run", folder, "-p", "laptop")
    assert result.exit_code == 2
    assert "recipe.yaml is no study" in result.stderr
    assert "tiny" not in result.stderr


def test_two_studies_of_one_name_are_refused_before_anything_is_written(
    ablator: Ablator, folder: Path, tmp_path: Path
) -> None:
    (folder / "copy.yaml").write_bytes((folder / "tiny.yaml").read_bytes())
    result = ablator("run", folder, "-p", "laptop", "--mlflow", "off")
    assert result.exit_code == 2
    assert "copy.yaml" in result.stderr
    assert "tiny.yaml" in result.stderr
    assert not list(tmp_path.glob(".ablator/reports/*"))


def test_a_mistake_names_its_study(ablator: Ablator, folder: Path) -> None:
    text = (folder / "wide.yaml").read_text(encoding="utf-8").replace("metric: top1", "metric: top2")
    (folder / "wide.yaml").write_text(text, encoding="utf-8")
    result = ablator("run", folder, "-p", "laptop", "--mlflow", "off")
    assert result.exit_code == 2
    assert "wide.yaml" in result.stderr
    assert "top2" in result.stderr
