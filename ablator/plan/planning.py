"""The plan: every trial of a study before any of them is paid for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from ablator.contracts.inline import inline_table
from ablator.errors import SettingError
from ablator.plan.captions import profile_notes, reported_values
from ablator.plan.comparing import (
    Interaction,
    check_row,
    check_test,
    design_notes,
    interactions,
)
from ablator.plan.plugins import Plugin
from ablator.plan.rows import Rows, rows_of
from ablator.plan.searching import SearchPlan, check_space
from ablator.plan.sequential import check_sequential
from ablator.plan.spec import TrialSpec, trains
from ablator.plan.trial import Fingerprint, Trial
from ablator.plan.upstream import TrialMaker
from ablator.study.overlay import value_text
from ablator.study.schema import Design, Seeds, SequentialSeeds, Stop, Study, seed_list, seeds_text

_MOST_SEEDS = 10_000
_MOST_TRIALS = 1_000_000


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
    """Arms in order, seeds within each; searches draw theirs later. With sequential seeds all that there may
    be: `ablator.rounds` says which of them are asked for."""
    searches: tuple[SearchPlan, ...]
    seeds: tuple[int, ...]
    sequential: SequentialSeeds | None = None
    """Rows get seeds one at a time while their question is open; None: all rows have all `seeds`."""
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
    chosen: tuple[str, ...] = ()
    """Labels of the rows that were asked for, where this is a part of the study (`selecting.only`)."""

    def _repr_html_(self) -> str:
        """The rows, in a notebook."""
        rows = [
            (arm.label, _said_of(arm), arm.against or "", str(len(self.of(arm)) or "drawn"))
            for arm in self.arms
        ]
        seeds = seeds_text(self.sequential or self.seeds)
        trials = f"{'up to ' if self.sequential else ''}{len(self.unique())} trials"
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
    rows = rows_of(study, profile, overrides)
    scale, where = rows.scale, rows.where
    _seeds(rows.study.seeds, where)
    seeds = _seeds(scale.seeds, where)
    untested = check_test(rows.study.report, seeds, overrides, where)
    sequential = scale.seeds if isinstance(scale.seeds, SequentialSeeds) else None
    maker = TrialMaker(fingerprint, profile, overrides)
    if len(rows.declared) * len(seeds) > _MOST_TRIALS:
        raise SettingError(
            f"{where}: {len(rows.declared):,} rows with {len(seeds):,} seeds come to more than "
            f"{_MOST_TRIALS:,} trials, the most that a study may have; give it fewer of either"
        )
    arms: list[Arm] = []
    trials: list[Trial] = []
    searches: list[SearchPlan] = []
    specs: dict[str, TrialSpec] = {}
    for index, row in enumerate(rows.declared):
        further = index == 0 or row.block.baseline
        kind: Literal["baseline", "arm", "search"] = "baseline" if further else "arm"
        against = row.compared or row.block.against or rows.declared[0].label
        if index in rows.spaces:
            kind = "search"
            searches.append(_search(index, rows, seeds, maker))
        else:
            specs[row.label] = spec = rows.spec(index)
            if index:
                check_row(row, against, specs, where)
            trials += _trials(index, rows, spec, seeds, maker)
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
    if sequential is not None:
        check_sequential(sequential, trials, searches, scale.stop, rows.study.report, where)
    return Plan(
        study=rows.study,
        profile=scale.name,
        arms=tuple(arms),
        trials=tuple(trials),
        searches=tuple(searches),
        seeds=seeds,
        sequential=sequential,
        stop=scale.stop,
        reported=reported_values(rows.study, [arm.label for arm in arms], where),
        notes=(*profile_notes(scale, rows.declared), *design_notes(rows.declared), *untested),
        interactions=interactions(rows.declared),
        plugins=tuple(dict.fromkeys((*rows.plugins, *maker.plugins))),
    )


def _said_of(arm: Arm) -> str:
    """What a row declares, as trained; empty for the first baseline."""
    return ", ".join(f"{key} = {value_text(value)}" for key, value in arm.changes.items())


def _trials(index: int, rows: Rows, spec: TrialSpec, seeds: Iterable[int], maker: TrialMaker) -> list[Trial]:
    changes = rows.scale.changes(rows.declared[index].changes)
    return [
        maker.trial(dataclasses.replace(spec, seed=seed), rows=rows, arm=index, changes=changes)
        for seed in seeds
    ]


def _seeds(said: Seeds, where: str) -> tuple[int, ...]:
    most = said.max if isinstance(said, SequentialSeeds) else said if isinstance(said, int) else len(said)
    if most > _MOST_SEEDS:
        raise SettingError(f"{where}: seeds: at most {_MOST_SEEDS:,} a row, not {most:,}")
    seeds = seed_list(said)
    if isinstance(said, SequentialSeeds) and said.max < said.min:
        raise SettingError(
            f"{where}: seeds.max {said.max} is below seeds.min {said.min}; every row begins with `min` seeds "
            "and gets up to `max`, such as {min: 3, max: 12, until: resolved}"
        )
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise SettingError(f"{where}: seeds: must be different whole numbers from 0 on, not {list(seeds)}")
    return seeds


def _search(index: int, rows: Rows, seeds: tuple[int, ...], maker: TrialMaker) -> SearchPlan:
    row, space, document = rows.declared[index], rows.spaces[index], rows.documents[index]
    where = f"{rows.where}: {row.label!r}"
    if not trains(document):
        raise SettingError(f"{where}: a search compares trained models; use design: grid")
    check_space(space, row.changes, document)
    return SearchPlan(
        arm=index,
        label=row.label,
        space=space,
        samples=rows.scale.samples or row.block.samples,
        sampler=row.block.sampler,
        sampler_seed=row.block.sampler_seed,
        seeds=seeds,
        stop=rows.scale.stop,
        document=document,
        scale=rows.scale,
        rows=rows,
        maker=maker,
        where=where,
        plugins=tuple(plugin.origin for plugin in rows.plugins),
    )
