"""diff: two reports as people and programs are told of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Ablator = Callable[..., Result]
Fill = Callable[..., Path]


def test_two_stores_with_another_value_spec_and_version(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill({("n = 4", 1): None})
    ablator("report", study, "-p", "laptop", "--store", store)
    kept = shutil.copytree(store, store.parent / "kept")
    text = study.read_text(encoding="utf-8").replace("seeds: 2, mine", "seeds: 2}, mine")
    study.write_text(text.replace("train.epochs: 8", "train.epochs: 9"), encoding="utf-8")
    shutil.rmtree(store)
    ablator("report", study, "-p", "laptop", "--store", fill({("n = 2", 0): {"metrics": {"top1": 90.0}}}))
    result = ablator("diff", kept, store, "--json")
    assert result.exit_code == 0
    (report,) = json.loads(result.stdout.splitlines()[-1])["reports"]
    rows = {row["label"]: row for row in report["rows"]}
    assert rows["base"]["change"] == 0.0
    assert rows["base"]["spec"] == {"train.epochs": [8, 9]}
    assert rows["n = 2"]["means"] == [81.05, 85.55]
    assert rows["n = 4"]["seeds"] == [1, 2]
    assert rows["n = 4"]["overlap"] is None
    for shown in ("train.epochs", "81.05", "+4.50", "overlap", "too few seeds"):
        assert shown in result.stderr, shown


def test_a_report_is_like_itself(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill()
    ablator("report", study, "-p", "laptop", "--store", store)
    folder = store / "reports/tiny/laptop"
    result = ablator("diff", folder, folder / "results.json")
    assert result.exit_code == 0
    assert "Both are made with the same profile and versions" in result.stdout
    assert "spec of" not in result.stdout
    assert "0.00" in result.stdout


def test_what_is_no_report_is_one_message(ablator: Ablator, tmp_path: Path) -> None:
    result = ablator("diff", tmp_path, tmp_path / "none")
    assert result.exit_code == 2
    assert "holds no results.json" in " ".join(result.stderr.split())
