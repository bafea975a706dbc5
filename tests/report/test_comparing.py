"""Two reports of a study beside each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.errors import SettingError
from ablator.report.comparing import Difference, compare_reports, read_side, sides
from ablator.report.csv import render_json
from ablator.report.table import Table

Build = Callable[..., Table]


def written(table: Table, folder: Path) -> Path:
    """The part of a report that is compared."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(render_json(table), encoding="utf-8")
    return folder


def specified(table: Table, **specs: dict[str, object]) -> Table:
    """With the resolved spec of each row."""
    rows = tuple(dataclasses.replace(row, resolved=specs.get(row.label, {})) for row in table.spec.rows)
    return dataclasses.replace(table, spec=dataclasses.replace(table.spec, rows=rows))


@pytest.fixture
def difference(build: Build, tmp_path: Path) -> Difference:
    """A second machine, another spec and other values; one row on each side alone."""
    first = build(
        {"base": [80.0, 80.2, 80.1], "arm": [81.0, 81.1, 81.2], "old": [1.0]},
        more={"base": {"versions": {"torch": "2.14", "device": "A100"}}},
    )
    second = build(
        {"base": [80.1, 80.2, 80.0], "arm": [85.0, 85.1, "failed"], "new": ["failed"]},
        more={"base": {"versions": {"torch": "2.15", "device": "A100"}}},
        profile="gpu",
    )
    first = specified(first, base={"a": 1, "b": 2}, arm={"a": 1, "b": 2, "moto.n": 8})
    second = specified(second, base={"a": 1, "b": 2}, arm={"a": 3, "moto.n": 8})
    paths = [written(first, tmp_path / "a"), written(second, tmp_path / "b")]
    ((left, right),) = sides(*paths)
    return compare_reports(left, right)


def test_how_they_were_made(difference: Difference) -> None:
    assert difference.profiles == ("laptop", "gpu")
    assert difference.versions == {"torch": ("2.14", "2.15")}, "the device is the same"
    assert difference.only == (("old",), ("new",))


def test_what_rows_have_and_what_came_out(difference: Difference) -> None:
    base, arm = difference.rows
    assert base.spec == {}
    assert arm.spec == {"a": (1, 3), "b": (2, None)}
    assert base.change == pytest.approx(0.0)
    assert base.overlap is True
    assert (arm.change, arm.seeds) == (pytest.approx(3.95), (3, 2))
    assert arm.deltas == (pytest.approx(1.0), pytest.approx(4.9))
    assert arm.overlap is False


def test_one_seed_has_no_interval_and_a_failed_row_no_value(build: Build, tmp_path: Path) -> None:
    paths = [
        written(build({"base": [1.0, 2.0], "arm": value}), tmp_path / name)
        for name, value in {"a": [3.0], "b": ["failed"]}.items()
    ]
    ((left, right),) = sides(*paths)
    _, arm = compare_reports(left, right).rows
    assert (arm.means, arm.change, arm.overlap) == ((3.0, None), None, None)
    assert arm.spec == {}, "reports that do not say their specs can be compared otherwise"


def test_stores_are_compared_in_all_that_both_have(build: Build, tmp_path: Path) -> None:
    table = build({"base": [1.0, 2.0]})
    for store, studies in {"a": ("x", "y"), "b": ("y", "z")}.items():
        for study in studies:
            named = dataclasses.replace(table, spec=dataclasses.replace(table.spec, study=study))
            written(named, tmp_path / store / "reports" / study / "laptop")
    pairs = sides(tmp_path / "a", tmp_path / "b")
    assert [left.name for left, _ in pairs] == [("y", "laptop")]
    ((left, _),) = sides(tmp_path / "a", tmp_path / "b/reports/z/laptop/..//../y/laptop/results.json")
    assert left.path == tmp_path / "a/reports/y/laptop/results.json"
    with pytest.raises(SettingError, match=r"no report of z \(laptop\).*it has: x \(laptop\), y"):
        sides(tmp_path / "a", tmp_path / "b/reports/z/laptop")
    with pytest.raises(SettingError, match="several reports, so name one of them: x"):
        read_side(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "is no report"), ("{}", "is no report"), (None, "there is no such")],
)
def test_what_is_no_report_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingError, match=message) as raised:
        read_side(path)
    assert str(path) in str(raised.value)


def test_another_format_and_other_studies_are_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"holds no results\.json"):
        read_side(tmp_path)
    first = written(build({"base": [1.0]}), tmp_path / "a")
    other = written(build({"base": [1.0]}, study="other"), tmp_path / "b")
    with pytest.raises(SettingError, match=r"'demo' and .* of 'other'"):
        sides(first, other)
    document = json.loads((first / "results.json").read_text(encoding="utf-8"))
    (first / "results.json").write_text(json.dumps({**document, "format": 2}), encoding="utf-8")
    with pytest.raises(SettingError, match="format 2"):
        read_side(first)
