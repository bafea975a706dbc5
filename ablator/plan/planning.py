"""The plan: every trial of a study before any of them is paid for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from ablator.backbones.weights import weights_digest
from ablator.contracts.inline import inline_table
from ablator.data.settings import DataSettings
from ablator.errors import SettingError, nearest
from ablator.plan.captions import profile_notes, reported_values
from ablator.plan.comparing import (
    Interaction,
    check_compared,
    check_row,
    check_test,
    design_notes,
    interactions,
    stated,
)
from ablator.plan.designs import Row, rows
from ablator.plan.plugins import Plugin, check_named, load_plugins
from ablator.plan.scale import Scale, scale_of
from ablator.plan.searching import SearchPlan, check_space
from ablator.plan.spec import TrialSpec, resolve, trains
from ablator.plan.trial import Fingerprint, Trial
from ablator.study.loading import resolve as resolve_study
from ablator.study.overlay import apply, flatten, merge, value_text
from ablator.study.schema import Arms, Design, Stop, Study, seed_list
from ablator.study.spaces import SearchSpace, SpaceDocument
from ablator.tasks.devices import this_device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the table."""

    index: int
    """Position in the table; the baseline is 0."""
    label: str
    changes: dict[str, Any]
    """Dotted key to value, as trained (after the profile's map)."""
    declared: dict[str, Any]
    """The same as the study file says it."""
    kind: Literal["baseline", "arm", "search"]
    against: str | None
    """Label of the row that it is compared with; None for a baseline."""
    removes: bool = False
    """Leaves a component out of that row: what is asked is whether it is worse."""
    design: Design = "one"
    """The design of the block that it comes from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a study comes to at one scale."""

    study: Study
    """Resolved: recipe, spaces and profiles read in."""
    profile: str
    arms: tuple[Arm, ...]
    trials: tuple[Trial, ...]
    """Arms in order, seeds within each; searches draw theirs later."""
    searches: tuple[SearchPlan, ...]
    seeds: tuple[int, ...]
    stop: Stop | None
    reported: dict[str, dict[str, float | str]]
    """Label to the source's own values by metric; NaN for a run that diverged there, OOM for one that did
    not fit into its memory."""
    notes: tuple[str, ...]
    """What a reader of the table must know about this scale."""
    interactions: tuple[Interaction, ...] = ()
    """What rows over the same components say together."""
    plugins: tuple[Plugin, ...] = ()
    """The user's own code that the study names."""

    def _repr_html_(self) -> str:
        """The rows, in a notebook."""
        rows = [
            (arm.label, _said_of(arm), arm.against or "", str(len(self.of(arm)) or "drawn"))
            for arm in self.arms
        ]
        seeds = f"seeds {', '.join(map(str, self.seeds))}"
        trials = f"{len(self.unique())} trials"
        return inline_table(
            ("row", "sets", "against", "trials"),
            rows,
            numeric=(False, False, False, True),
            caption=" · ".join((self.study.study, f"profile {self.profile}", trials, seeds)),
            notes=self.notes,
        )

    def unique(self) -> dict[str, Trial]:
        """Identity to trial: rows that come to the same spec are trained once."""
        found: dict[str, Trial] = {}
        for trial in self.trials:
            found.setdefault(trial.identity, trial)
        return found

    def of(self, arm: Arm) -> tuple[Trial, ...]:
        """The trials of one row, in the order of the seeds."""
        return tuple(self._by_arm.get(arm.index, ()))

    def baselines(self) -> tuple[Trial, ...]:
        """The trials of the rows that others are compared with."""
        named = {arm.against for arm in self.arms}
        rows = [arm for arm in self.arms if arm.kind == "baseline" or arm.label in named]
        return tuple(trial for arm in rows for trial in self.of(arm))

    @functools.cached_property
    def _by_arm(self) -> dict[int, list[Trial]]:
        found: dict[int, list[Trial]] = {}
        for trial in self.trials:
            found.setdefault(trial.arm, []).append(trial)
        return found


def plan(
    study: Study, *, profile: str | None = None, overrides: Sequence[str] = (), fingerprint: Fingerprint
) -> Plan:
    """Every trial of `study` at the scale of `profile` (None is `paper`), `overrides` ("key=value") last.

    Raises SettingError for everything that can be known to be wrong without building a model or
    reading an image; `fingerprint` may raise DataError, and starting weights that are not there WeightsError.
    """
    study = resolve_study(study)
    where = study.file or f"study {study.study!r}"
    plugins = load_plugins(study.plugins, Path(study.file).parent if study.file else Path(), where)
    origins = tuple(plugin.origin for plugin in plugins)
    document = _document(study, where)
    declared = _rows(study, where)
    spaces = {i: _space(row.block, where) for i, row in enumerate(declared) if row.block.design == "search"}
    check_compared(declared, where)
    documents = _documents(study, document, declared, where)
    declared = stated(declared, documents)
    widened = [_widened(row, spaces.get(i)) for i, row in enumerate(declared)]
    scale = scale_of(study, profile, overrides, widened, documents, where)
    _seeds(study.seeds, where)
    seeds = _seeds(scale.seeds, where)
    untested = check_test(study.report, seeds, overrides, where)
    known = _Memory(fingerprint)
    arms: list[Arm] = []
    trials: list[Trial] = []
    searches: list[SearchPlan] = []
    specs: dict[str, TrialSpec] = {}
    for index, (row, own) in enumerate(zip(declared, documents, strict=True)):
        further = index == 0 or row.block.baseline
        kind: Literal["baseline", "arm", "search"] = "baseline" if further else "arm"
        against = row.compared or row.block.against or declared[0].label
        if index in spaces:
            kind = "search"
            searches.append(_search(index, row, spaces[index], own, scale, seeds, study, known, where))
        else:
            specs[row.label] = spec = _row_spec(row, own, scale, where)
            check_named(spec, plugins, f"{where}: {row.label!r}")
            if index:
                check_row(row, against, specs, where)
            trials += _trials(index, row, spec, scale, seeds, known)
        changes = scale.changes(row.changes)
        arms.append(
            Arm(
                index=index,
                label=row.label,
                changes=changes,
                declared=row.changes,
                kind=kind,
                against=None if further else against,
                removes=bool(row.left_out),
                design=row.block.design,
            )
        )
    return Plan(
        study=study,
        profile=scale.name,
        arms=tuple(arms),
        trials=tuple(trials),
        searches=tuple(dataclasses.replace(s, plugins=origins) for s in searches),
        seeds=seeds,
        stop=scale.stop,
        reported=reported_values(study, [arm.label for arm in arms], where),
        notes=(*profile_notes(scale, declared), *design_notes(declared), *untested),
        interactions=interactions(declared),
        plugins=plugins,
    )


def _said_of(arm: Arm) -> str:
    """What a row declares, as trained; empty for the first baseline."""
    return ", ".join(f"{key} = {value_text(value)}" for key, value in arm.changes.items())


class _Memory:
    """Fingerprints by data section, since every trial asks for one."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._ask = fingerprint
        self._known: dict[DataSettings, str] = {}

    def __call__(self, data: DataSettings) -> str:
        if data not in self._known:
            self._known[data] = self._ask(data)
        return self._known[data]


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
    return _placed(resolve(scale.finish(document, source), f"{source}, profile {scale.name}"))


def _placed(spec: TrialSpec) -> TrialSpec:
    """With the device that a measuring trial measures, because its result is of that device alone."""
    if spec.measure is None or spec.measure.device is not None:
        return spec
    return dataclasses.replace(
        spec, task_settings={"measure": dataclasses.replace(spec.measure, device=this_device())}
    )


def _trials(
    index: int, row: Row, spec: TrialSpec, scale: Scale, seeds: Iterable[int], fingerprint: Fingerprint
) -> list[Trial]:
    data, weights = fingerprint(spec.data) if spec.trains else "", weights_digest(spec.model)
    changes = scale.changes(row.changes)
    return [
        Trial(
            identity=(seeded := dataclasses.replace(spec, seed=seed)).identity(data, weights),
            arm=index,
            label=row.label,
            seed=seed,
            spec=seeded,
            changes=changes,
        )
        for seed in seeds
    ]


def _seeds(said: int | tuple[int, ...], where: str) -> tuple[int, ...]:
    seeds = seed_list(said)
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise SettingError(f"{where}: seeds: must be different whole numbers from 0 on, not {list(seeds)}")
    return seeds


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


def _search(
    index: int,
    row: Row,
    space: SearchSpace,
    document: dict[str, Any],
    scale: Scale,
    seeds: tuple[int, ...],
    study: Study,
    fingerprint: Fingerprint,
    where: str,
) -> SearchPlan:
    if not trains(document):
        raise SettingError(f"{where}: {row.label!r}: a search compares trained models; use design: grid")
    check_space(space, row.changes, document)
    return SearchPlan(
        arm=index,
        label=row.label,
        space=space,
        samples=scale.samples or row.block.samples,
        sampler=row.block.sampler,
        sampler_seed=row.block.sampler_seed,
        seeds=seeds,
        stop=scale.stop,
        document=document,
        scale=scale,
        fingerprint=fingerprint,
        where=f"{where}: {row.label!r}",
    )
