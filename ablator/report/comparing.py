"""Two reports of a study beside each other: what is different in how they were made, and in what came out.

Reads the `results.json` that `write_report` wrote, and nothing else, so that reports of other machines can be
compared on any.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from ablator.contracts.reading import read_file
from ablator.errors import SettingError, nearest
from ablator.report.effects import ALPHA

RESULTS = "results.json"
_MOST_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two reports."""

    path: Path
    document: Mapping[str, Any]

    @property
    def name(self) -> tuple[str, str]:
        """Study and profile."""
        return str(self.document["study"]["study"]), str(self.document["study"]["profile"])

    @property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """By label."""
        return {str(row["label"]): row for row in self.document["rows"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowDifference:
    """A row that both reports have. First the value of the first report, then the second's."""

    label: str
    spec: Mapping[str, tuple[Any, Any]]
    """Dotted key to both values, where they differ; None in the place of a key that is not there."""
    means: tuple[float | None, float | None]
    """None where no seed was completed."""
    seeds: tuple[int, int]
    """Completed seeds."""
    deltas: tuple[float | None, float | None]
    """Difference from the baseline in each report; None for a baseline."""
    change: float | None
    """Second mean minus first."""
    overlap: bool | None
    """Whether the 95 % intervals of the means overlap; None where one of them has fewer than two seeds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """What two reports of a study do not have in common."""

    study: str
    metric: str
    paths: tuple[str, str]
    profiles: tuple[str, str]
    metrics: tuple[str, str]
    versions: Mapping[str, tuple[str, str]]
    """Name of what records were made with (software, device, commit) to what each report has of it."""
    rows: tuple[RowDifference, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """Labels of the rows that are in one report alone."""


def read_side(path: Path, *, study: tuple[str, str] | None = None) -> Side:
    """The report at `path`: a `results.json`, the folder of a report, or a store that has one report; of a
    store with several, that of `study` (name and profile).

    Raises SettingError for what is no report, and for a store where it is not clear which one is meant.
    """
    file = _file(path, study)
    try:
        document = json.loads(read_file(file, _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise SettingError(f"{file} cannot be read as a report ({error})") from None
    except RecursionError:
        raise SettingError(f"{file} cannot be read as a report (it is nested without an end)") from None
    if not isinstance(document, dict) or not {"format", "study", "rows"} <= document.keys():
        raise SettingError(f"{file} is no report: it has no `format`, `study` and `rows` as {RESULTS} has")
    if document["format"] != 1:
        raise SettingError(f"{file} is a report of format {document['format']}; this version reads format 1")
    side = Side(path=file, document=document)
    try:
        compare_reports(side, side)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = f"{type(error).__name__}: {error}"
        raise SettingError(f"{file} is no report that `ablator report` wrote ({why})") from None
    return side


def sides(first: Path, second: Path) -> list[tuple[Side, Side]]:
    """The pairs of reports that two paths name: one, or of two stores all that both have. Raises
    SettingError, also where the reports are of different studies."""
    stores = [_reports(path) for path in (first, second)]
    if stores[0] and stores[1]:
        common = [name for name in stores[0] if name in stores[1]]
        if not common:
            raise SettingError(
                f"{first} and {second} have no report in common; {first} has {_listed(stores[0])}, and "
                f"{second} has {_listed(stores[1])}"
            )
        return [(read_side(stores[0][name]), read_side(stores[1][name])) for name in common]
    if stores[0]:
        right = read_side(second)
        return [(read_side(first, study=right.name), right)]
    left = read_side(first)
    right = read_side(second, study=left.name)
    if left.name[0] != right.name[0]:
        raise SettingError(
            f"{left.path} is of study {left.name[0]!r} and {right.path} of {right.name[0]!r}; "
            "a comparison needs two reports of one study"
        )
    return [(left, right)]


def compare_reports(left: Side, right: Side) -> Difference:
    """What differs between two reports of one study."""
    ours, theirs = left.rows, right.rows
    specs = _specs(left), _specs(right)
    return Difference(
        study=left.name[0],
        metric=str(left.document["study"]["metric"]),
        paths=(str(left.path), str(right.path)),
        profiles=(left.name[1], right.name[1]),
        metrics=(str(left.document["study"]["metric"]), str(right.document["study"]["metric"])),
        versions=_versions(left, right),
        rows=tuple(
            _row(label, (ours[label], theirs[label]), (specs[0].get(label), specs[1].get(label)))
            for label in ours
            if label in theirs
        ),
        only=(
            tuple(label for label in ours if label not in theirs),
            tuple(label for label in theirs if label not in ours),
        ),
    )


def _reports(path: Path) -> dict[tuple[str, str], Path]:
    """The reports of a store by study and profile; empty for what is none."""
    found = sorted(path.glob(f"reports/*/*/{RESULTS}")) if path.is_dir() else []
    return {(file.parent.parent.name, file.parent.name): file for file in found}


def _listed(reports: Mapping[tuple[str, str], Path]) -> str:
    return ", ".join(f"{study} ({profile})" for study, profile in reports)


def _file(path: Path, study: tuple[str, str] | None) -> Path:
    if "\0" in str(path) or not path.exists():
        raise SettingError(f"{path}: there is no such file or folder; name a {RESULTS}, a report or a store")
    if path.is_file():
        return path
    if (path / RESULTS).is_file():
        return path / RESULTS
    reports = _reports(path)
    if not reports:
        raise SettingError(
            f"{path} is no report: it holds no {RESULTS}, and is no store with reports; "
            "`ablator report` writes them"
        )
    if study is None:
        if len(reports) > 1:
            raise SettingError(f"{path} has several reports, so name one of them: {_listed(reports)}")
        return next(iter(reports.values()))
    # Another profile of the same study is what one may want to compare.
    same = [file for name, file in reports.items() if name[0] == study[0]]
    if study in reports:
        return reports[study]
    if len(same) == 1:
        return same[0]
    names = [name for name, _ in reports]
    raise SettingError(
        f"{path} has no report of {study[0]} ({study[1]}){nearest(study[0], names)}; "
        f"it has: {_listed(reports)}"
    )


def _specs(side: Side) -> dict[str, dict[str, Any]]:
    """Every row's resolved spec by label, as far as the report says it."""
    base = dict(side.document.get("spec") or {})
    if not base:
        return {}
    specs = {}
    for label, row in side.rows.items():
        differs = row.get("spec")
        if differs is not None:
            kept = {key: value for key, value in base.items() if key not in differs["without"]}
            specs[label] = {**kept, **differs["with"]}
    return specs


def _row(
    label: str,
    rows: tuple[Mapping[str, Any], Mapping[str, Any]],
    specs: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
) -> RowDifference:
    left, right = rows
    spec: dict[str, tuple[Any, Any]] = {}
    if specs[0] is not None and specs[1] is not None:
        ours, theirs = specs[0], specs[1]
        keys = [*ours, *(key for key in theirs if key not in ours)]
        spec = {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}
    intervals = [_interval(row) for row in rows]
    overlap = None
    if intervals[0] is not None and intervals[1] is not None:
        overlap = intervals[0][0] <= intervals[1][1] and intervals[1][0] <= intervals[0][1]
    known = left["mean"] is not None and right["mean"] is not None
    return RowDifference(
        label=label,
        spec=spec,
        means=(left["mean"], right["mean"]),
        seeds=(int(left["n"]), int(right["n"])),
        deltas=(_delta(left), _delta(right)),
        change=right["mean"] - left["mean"] if known else None,
        overlap=overlap,
    )


def _delta(row: Mapping[str, Any]) -> float | None:
    comparison = row.get("comparison")
    return None if comparison is None else comparison.get("delta")


def _interval(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """95 % interval of the mean over seeds, by Student's t."""
    n, mean, std = int(row["n"]), row["mean"], row["std"]
    if mean is None or std is None or n < 2:
        return None
    half = float(stats.t.isf(ALPHA / 2.0, n - 1)) * std / math.sqrt(n)
    return mean - half, mean + half


def _versions(left: Side, right: Side) -> dict[str, tuple[str, str]]:
    def said(side: Side) -> Mapping[str, Sequence[str]]:
        found: Mapping[str, Sequence[str]] = side.document.get("environment") or {}
        return found

    ours, theirs = said(left), said(right)
    both = {
        name: (", ".join(ours.get(name, ())), ", ".join(theirs.get(name, ()))) for name in {*ours, *theirs}
    }
    return {name: values for name, values in sorted(both.items()) if values[0] != values[1]}
