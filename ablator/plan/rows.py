"""The rows of a study at one scale: what each declares, its document, and its spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ablator.contracts.secrets import secret_in
from ablator.contracts.settings import as_plain
from ablator.errors import SettingError, nearest
from ablator.plan.comparing import check_compared, stated
from ablator.plan.designs import Row, rows
from ablator.plan.plugins import Plugin, check_named, load_plugins
from ablator.plan.scale import Scale, scale_of
from ablator.plan.spec import TrialSpec, resolve
from ablator.study.loading import resolve as resolve_study
from ablator.study.overlay import apply, flatten, merge
from ablator.study.references import reference
from ablator.study.schema import Arms, Study
from ablator.study.spaces import SearchSpace, SpaceDocument
from ablator.study.validation import path_text
from ablator.tasks.devices import this_device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows of one study at one scale, the baseline first."""

    study: Study
    """Resolved: recipe, spaces and profiles read in."""
    where: str
    """For errors: the study's file or name."""
    declared: tuple[Row, ...]
    documents: tuple[dict[str, Any], ...]
    """Each row's spec document, before the scale."""
    spaces: dict[int, SearchSpace]
    """Of the rows that are searches, by index."""
    scale: Scale
    plugins: tuple[Plugin, ...]
    """The user's own code that the study names."""

    def spec(self, index: int) -> TrialSpec:
        """The spec of a row that is no search, for seed 0. Raises SettingError."""
        row = self.declared[index]
        spec = _row_spec(row, self.documents[index], self.scale, self.where)
        check_named(spec, self.plugins, f"{self.where}: {row.label!r}")
        return spec


def rows_of(study: Study, profile: str | None, overrides: Sequence[str]) -> Rows:
    """The rows of `study` at the scale of `profile` and `overrides`. Raises SettingError."""
    study = resolve_study(study)
    where = study.file or f"study {study.study!r}"
    _check_secrets(study, overrides, where)
    plugins = load_plugins(study.plugins, Path(study.file).parent if study.file else Path(), where)
    document = _document(study, where)
    declared = _rows(study, where)
    spaces = {i: _space(row.block, where) for i, row in enumerate(declared) if row.block.design == "search"}
    check_compared(declared, where)
    documents = _documents(study, document, declared, where)
    declared = stated(declared, documents)
    widened = [_widened(row, spaces.get(i)) for i, row in enumerate(declared)]
    return Rows(
        study=study,
        where=where,
        declared=tuple(declared),
        documents=tuple(documents),
        spaces=spaces,
        scale=scale_of(study, profile, overrides, widened, documents, where),
        plugins=tuple(plugins),
    )


def _check_secrets(study: Study, overrides: Sequence[str], where: str) -> None:
    """What a study says stands in records, in MLflow and on pages, and cannot be taken out of there."""
    found = next(((path_text(keys), what) for keys, what in _secrets(as_plain(study), ())), None)
    if found is None:
        told = ((f"--set {text.partition('=')[0]}", secret_in(text)) for text in overrides)
        found = next(((key, what) for key, what in told if what is not None), None)
    if found is not None:
        raise SettingError(
            f"{where}: {found[0]} holds {found[1]}, and what a study says is written into records, MLflow "
            "and pages; leave it out, and have what needs it read it from an environment variable"
        )


def _secrets(value: Any, keys: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    if isinstance(value, str):
        if (what := secret_in(value)) is not None:
            yield keys, what
    elif isinstance(value, dict):
        for key, item in value.items():
            if (what := secret_in(str(key))) is not None:
                yield keys, f"a key with {what}"
            yield from _secrets(item, (*keys, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(item, (*keys, index))


def named_start(spec: TrialSpec, label: str) -> TrialSpec:
    """With the row that `model.weights` means by another study, where it says the study alone: that of the
    same `label`."""
    found = reference(spec.model.weights)
    if found is None or found.label is not None:
        return spec
    weights = str(dataclasses.replace(found, label=label))
    return dataclasses.replace(spec, model=dataclasses.replace(spec.model, weights=weights))


def _document(study: Study, where: str) -> dict[str, Any]:
    """Base and study-wide settings, each checked by itself so that an error names its source."""
    assert not isinstance(study.base, str)
    document = merge({}, study.base, f"{where}: base")
    resolve(document, f"{where}: base", part=True)
    if study.task is not None:
        document["task"] = study.task
        resolve(document, where, part=True)
    flat = flatten(study.set, f"{where}: set")
    document = apply(document, flat, f"{where}: set")
    if "seed" in document:
        raise SettingError(f"{where}: seed is not a key of a study; say `seeds`, a number or a list")
    resolve(document, f"{where}: set", part=True)
    return document


def _documents(
    study: Study, document: dict[str, Any], declared: Sequence[Row], where: str
) -> list[dict[str, Any]]:
    """Every row's document: what it starts from, a baseline or a recipe, with its own changes. Raises
    SettingError where `against` names no baseline above the row."""
    first, made = declared[0].label, [apply(document, declared[0].changes, where)]
    baselines = {first: made[0]}
    for row in declared[1:]:
        label = row.block.against or first
        if label not in baselines:
            raise SettingError(
                f"{where}: {row.label!r}: against: no baseline above it is called {label!r}"
                f"{nearest(label, baselines)}; baselines: {', '.join(map(repr, baselines))}"
            )
        start = baselines[label]
        if row.block.base is not None:
            start = _document(dataclasses.replace(study, base=row.block.base), f"{where}: {row.label!r}")
        made.append(apply(start, row.changes if row.build is None else row.build, where))
        if row.block.baseline:
            baselines[row.label] = made[-1]
    return made


def _rows(study: Study, where: str) -> list[Row]:
    """The baseline and every arm. Raises SettingError where two have the same label."""
    first = Arms(label=study.baseline.label)
    changes = flatten(study.baseline.set, f"{where}: baseline.set")
    made = [Row(label=study.baseline.label, changes=changes, block=first)]
    for i, block in enumerate(study.arms):
        made += rows(block, f"{where}: arms[{i}]")
    seen: dict[str, Row] = {}
    for row in made:
        other = seen.setdefault(row.label, row)
        if other is not row:
            raise SettingError(
                f"{where}: two rows are called {row.label!r}; a label names one row (write {{key}} in it for "
                f"the value that differs)"
            )
        if any(key == "seed" for key in row.changes):
            raise SettingError(
                f"{where}: {row.label!r}: seed is not a key of an arm; say `seeds` of the study"
            )
    return made


def _row_spec(row: Row, document: dict[str, Any], scale: Scale, where: str) -> TrialSpec:
    source = f"{where}: {row.label!r}"
    try:
        resolve(document, source)
    except SettingError as error:
        lists = [key for key, value in row.changes.items() if isinstance(value, list)]
        if row.block.design in ("grid", "zip") or not lists:
            raise
        raise SettingError(f"{error}; a list of values needs `design: grid` or zip") from None
    spec = _placed(resolve(scale.finish(document, source), f"{source}, profile {scale.name}"))
    return named_start(spec, row.label)


def _placed(spec: TrialSpec) -> TrialSpec:
    """With the device that a measuring trial measures, because its result is of that device alone."""
    if spec.measure is None or spec.measure.device is not None:
        return spec
    return dataclasses.replace(
        spec, task_settings={"measure": dataclasses.replace(spec.measure, device=this_device())}
    )


def _space(block: Arms, where: str) -> SearchSpace:
    assert isinstance(block.space, SpaceDocument)
    return SearchSpace(block.space, f"{where}: {block.label!r}: space")


def _widened(row: Row, space: SearchSpace | None) -> Row:
    """A search declares the keys of its space as well."""
    if space is None:
        return row
    return dataclasses.replace(
        row, changes={**row.changes, **dict.fromkeys(space.dimensions, "what the search draws")}
    )
