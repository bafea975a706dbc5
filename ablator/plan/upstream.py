"""Trials of other studies that a study's trials start from: `model.weights: "study:FILE#ROW"`.

A reference becomes the identity of that row's trial with the same seed, at the scale of the same profile. Of
`--set` what says which images and which backbone goes along (`data.*` and `model.*` but the weights), because
weights fit no other, and validation images must be the same; what says how is trained (`train.*`,
`augment.*`, components) holds for the run's own rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablator.backbones.weights import of_trial, weights_digest
from ablator.data.settings import DataSettings
from ablator.errors import SettingError, nearest
from ablator.plan.plugins import Plugin
from ablator.plan.rows import Rows, named_start, rows_of
from ablator.plan.spec import TrialSpec
from ablator.plan.trial import Fingerprint, Start, Trial
from ablator.registry import TASKS
from ablator.study.loading import load
from ablator.study.references import Reference, reference

_CARRIED = ("data", "model")
_OWN = "model.weights"
"""Of the carried sections what is the rows' own."""

_RULE = "name a row of a study that trains a backbone"

_Row = tuple[Path, str]
"""A study's file and a row's label."""


class TrialMaker:
    """From specs to trials, for one profile and one set of overrides; every file is read once."""

    def __init__(self, fingerprint: Fingerprint, profile: str | None, overrides: Sequence[str]) -> None:
        self._ask = fingerprint
        self._fingerprints: dict[DataSettings, str] = {}
        self._profile = profile
        self._overrides = [text for text in overrides if _is_carried(text.partition("=")[0].strip())]
        self._studies: dict[Path, Rows] = {}
        self._specs: dict[_Row, TrialSpec] = {}

    def trial(
        self,
        spec: TrialSpec,
        *,
        rows: Rows,
        arm: int,
        changes: Mapping[str, Any],
        above: tuple[_Row, ...] = (),
    ) -> Trial:
        """The trial of a seeded `spec` of the row `arm`. `above`: rows that start from it, from the first on.

        Raises SettingError for a reference that leads nowhere, to what has no weights, or in a circle.
        """
        label = rows.declared[arm].label
        start = self._start(spec, rows, label, above) if spec.trains else None
        if start is not None:
            model = dataclasses.replace(spec.model, weights=of_trial(start.trial.identity))
            spec = dataclasses.replace(spec, model=model)
        return Trial(
            identity=spec.identity(
                self._fingerprint(spec.data) if spec.trains else "", weights_digest(spec.model)
            ),
            arm=arm,
            label=label,
            seed=spec.seed,
            spec=spec,
            changes=dict(changes),
            start=start,
        )

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The code that the studies name which were looked into."""
        return tuple(plugin for rows in self._studies.values() for plugin in rows.plugins)

    def _fingerprint(self, data: DataSettings) -> str:
        if data not in self._fingerprints:
            self._fingerprints[data] = self._ask(data)
        return self._fingerprints[data]

    def _start(self, spec: TrialSpec, rows: Rows, label: str, above: tuple[_Row, ...]) -> Start | None:
        found = reference(named_start(spec, label).model.weights)
        if found is None:
            return None
        assert found.label is not None
        where = f"{rows.where}: {label!r}: {_OWN} {str(found)!r}"
        path = (Path(rows.study.file).parent if rows.study.file else Path()) / found.file
        row = (path.resolve(), found.label)
        if row in above:
            circle = " -> ".join(f"{file.name}#{name}" for file, name in (*above[above.index(row) :], row))
            raise SettingError(f"{where}: rows start from each other in a circle: {circle}")
        other = self._rows(path, where)
        index = _index(other, found, where)
        if row not in self._specs:
            self._specs[row] = other.spec(index)
        _check_has_backbone(self._specs[row], where)
        trial = self.trial(
            dataclasses.replace(self._specs[row], seed=spec.seed),
            rows=other,
            arm=index,
            changes=other.scale.changes(other.declared[index].changes),
            above=(*above, row),
        )
        return Start(trial=trial, study=other.study.study, file=other.where)

    def _rows(self, path: Path, where: str) -> Rows:
        real = path.resolve()
        if real not in self._studies:
            if not path.is_file():
                beside = [p.name for p in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
                raise SettingError(
                    f"{where}: there is no study file {path}{nearest(path.name, beside)}; the path is "
                    f"relative to the file that says it; there: {', '.join(beside) or 'no *.yaml'}"
                )
            try:
                self._studies[real] = rows_of(load(path), self._profile, self._overrides)
            except SettingError as error:
                raise SettingError(f"{where}: {error}") from error
        return self._studies[real]


def _is_carried(key: str) -> bool:
    return key.partition(".")[0] in _CARRIED and key != _OWN


def _index(rows: Rows, found: Reference, where: str) -> int:
    """The index of the row that is meant. Raises SettingError where there is none or it is a search."""
    labels = [row.label for row in rows.declared]
    if found.label not in labels:
        raise SettingError(
            f"{where}: no row of {rows.where} is called {found.label!r}{nearest(str(found.label), labels)}; "
            f"say one as study:{found.file}#ROW; rows: {', '.join(map(repr, labels))}"
        )
    index = labels.index(found.label)
    if index in rows.spaces:
        others = [label for i, label in enumerate(labels) if i not in rows.spaces]
        raise SettingError(
            f"{where}: the row {found.label!r} is a search, whose trials are drawn while it runs; name a row "
            f"that is declared: {', '.join(map(repr, others))}"
        )
    return index


def _check_has_backbone(spec: TrialSpec, where: str) -> None:
    task = TASKS.get(spec.task)
    if not task.trains:
        raise SettingError(f"{where}: task {spec.task} trains nothing, so that there are no weights; {_RULE}")
    if spec.probe is not None:
        raise SettingError(
            f"{where}: task {spec.task} trains heads on a frozen backbone and keeps no backbone; {_RULE}, "
            "such as the one that it starts from itself"
        )
