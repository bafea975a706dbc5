"""The study document: what a YAML file says and what Python code builds, as one frozen class."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from ablator.contracts.inline import inline_table
from ablator.contracts.settings import settings
from ablator.study.spaces import SpaceDocument

Design = Literal["one", "grid", "zip", "list", "loco", "add_one", "pairwise", "search"]
Keys = str | tuple[str, ...]
"""A dotted key or a section's name, or several of them."""
Sampler = Literal["tpe", "random", "qmc", "gp", "nsga2"]
ReportedValue = float | Literal["NaN", "OOM"]


@settings
class Baseline:
    """The row that every other one is compared with."""

    label: Annotated[str, MinLen(1)] = "baseline"
    """Its name in the table."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the spec that it changes; every arm starts from here."""


@settings
class Arms:
    """One block of rows; each row differs from its baseline only in what is set here."""

    label: Annotated[str, MinLen(1)]
    """The row's name in the table; {n} or {moto.n} stands for the value of a key that is set here."""
    design: Design = "one"
    """one row; grid: every combination of the lists in `set`; zip: their first values, their second
    values, ...; list: one row for each of `points`; loco: all components of `set`, then each left out;
    add_one: each component alone, then all; pairwise: each alone and each pair, with their interactions;
    search: Optuna over `space`."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the spec that these rows change (dotted, such as moto.n); null switches a section off."""
    points: tuple[dict[str, Any], ...] = ()
    """list: what each row sets, on top of `set`."""
    when: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """grid: key of `set` to the values of others under which it exists (one value or a list); elsewhere the
    row has its default, and combinations that differ in nothing else are one row."""
    components: dict[str, Keys] | tuple[Keys, ...] = ()
    """loco, add_one, pairwise: the parts of `set`, each a section, a dotted key or several of them, by name
    or as a list; empty: every section of `set` is one."""
    full: Annotated[str, MinLen(1)] = "full"
    """loco, add_one: label of the row that has every component."""
    cumulative: bool = False
    """add_one: put the components in one after another, each row compared with the one above it."""
    order: Annotated[int, Ge(2)] = 2
    """pairwise: the most components that a row has; as many as there are makes every combination."""
    space: str | SpaceDocument | None = None
    """search: file of the search space, relative to the study file, or the space itself."""
    baseline: bool = False
    """These rows are further baselines: compared with no row, there for others to be compared with."""
    base: str | dict[str, Any] | None = None
    """baseline: recipe that they start from instead of the study's, such as another backbone's; the study's
    `set` lies over it, and the first baseline's does not."""
    against: str | None = None
    """Label of the further baseline that these rows start from and are compared with; null: the study's."""
    samples: Annotated[int, Ge(1)] = 20
    """search: points that are drawn, duplicates included."""
    sampler: Sampler = "tpe"
    """search: Optuna's sampler."""
    sampler_seed: int = 0
    """search: seed of the sampler."""


@settings
class Stop:
    """Early stopping of trials that fall behind."""

    kind: Literal["asha", "median"]
    """asha: successive halving; median: worse than the median of the others at the same epoch."""
    grace_epochs: Annotated[int, Ge(1)] = 1
    """Epochs that every trial gets."""
    reduction: Annotated[float, Gt(1)] = 3.0
    """asha: one trial in `reduction` goes on from each rung."""


@settings
class Report:
    """How the table reads."""

    metric: Annotated[str, MinLen(1)] = "top1"
    """The metric that arms are compared by."""
    test: Literal["paired_t", "none"] | None = None
    """How differences are tested: paired_t claims that the seeds allow it, and one seed is then an error;
    none: not at all, Δ alone is shown; null: paired_t, under which a row with one seed is underpowered."""
    columns: tuple[str, ...] = ()
    """Further metrics that the table shows beside it, without a comparison."""
    rows: Literal["arms"] = "arms"
    """What a row is."""
    reported: dict[str, ReportedValue | dict[str, ReportedValue]] = dataclasses.field(default_factory=dict)
    """The source's own numbers: label to the metric's value, or to several values by name; NaN is a
    run that diverged there, OOM one that ran out of memory; `baseline` stands for the baseline's label."""
    note: str = ""
    """A footnote."""


@settings
class SequentialSeeds:
    """Seeds that are trained round by round, in which only rows whose question is open get one more."""

    min: Annotated[int, Ge(2)] = 3
    """Seeds that every row begins with."""
    max: Annotated[int, Ge(2)] = 12
    """Seeds that no row exceeds."""
    until: Literal["resolved"] = "resolved"
    """resolved: until a row is found to differ, has diverged, or will hardly be supported by its last seed
    and has a verdict that more seeds would hardly change."""


Seeds = Annotated[int, Ge(1)] | Annotated[tuple[int, ...], MinLen(1)] | SequentialSeeds


@settings
class Profile:
    """An overlay that changes a study's scale and never its question."""

    about: str = ""
    """One line: what it is for."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the spec, for every row. Keys of an optional section hold where that section is on."""
    map: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Key to {value in the study: value here}, for keys that arms declare or that keep their default."""
    models: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """model.name in the study to the `model` section here, in place of `set`'s keys of that section."""
    seeds: Seeds | None = None
    """Seeds per arm instead of the study's."""
    samples: Annotated[int, Ge(1)] | None = None
    """Samples of searches instead of the study's."""
    stop: Stop | Literal["asha", "median"] | None = None
    """Early stopping instead of the study's."""


@settings
class Study:
    """One table or figure: a question, a baseline, arms, seeds, and how the table reads."""

    study: Annotated[str, MinLen(1)]
    """Its name: lower-case letters, digits and underscores."""
    source: str = ""
    """Where the table is published."""
    question: str = ""
    """What the table answers."""
    base: str | dict[str, Any] = dataclasses.field(default_factory=dict)
    """Recipe that the study starts from: a file relative to this one, or its sections."""
    task: str | None = None
    """What the model is trained for, such as classification; null leaves it to the base."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the spec that hold for the baseline and every arm."""
    baseline: Baseline = dataclasses.field(default_factory=Baseline)
    arms: Annotated[tuple[Arms, ...], MinLen(1)]
    """The table's other rows, in its order."""
    seeds: Seeds = 3
    """Number of seeds per arm (0, 1, ...), the seeds themselves, or how many at least and at most, one more
    at a time where a row's question is open."""
    stop: Stop | Literal["asha", "median"] | None = None
    """Early stopping; null trains every trial to its end."""
    report: Report = dataclasses.field(default_factory=Report)
    profiles: dict[str, Profile] = dataclasses.field(default_factory=dict)
    """This study's own changes to profiles, by the profile's name."""
    plugins: tuple[str, ...] = ()
    """The user's own code that the study needs: Python files relative to this one, whose code is run when the
    study is planned, or entry points of installed packages."""
    file: str | None = dataclasses.field(default=None, compare=False, metadata={"written": False})
    """Set by `load`: the file that this study was read from."""

    def _repr_html_(self) -> str:
        """The blocks of rows, in a notebook."""
        rows = [(self.baseline.label, "baseline", _written(self.baseline.set))]
        rows += [(arm.label, arm.design, _written(arm.set)) for arm in self.arms]
        seeds = seeds_text(self.seeds)
        return inline_table(
            ("rows", "design", "set"),
            rows,
            caption=" · ".join(part for part in (self.study, self.question, seeds) if part),
            notes=[self.source] if self.source else [],
        )


def _written(overlay: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in overlay.items())


def stopping(stop: Stop | Literal["asha", "median"] | None) -> Stop | None:
    """Early stopping with its settings; None trains every trial to its end."""
    return Stop(kind=stop) if isinstance(stop, str) else stop


def seed_list(seeds: Seeds) -> tuple[int, ...]:
    """A number of seeds as the seeds themselves; of sequential ones all that there may be."""
    if isinstance(seeds, SequentialSeeds):
        return tuple(range(seeds.max))
    return tuple(range(seeds)) if isinstance(seeds, int) else seeds


def seeds_text(seeds: Seeds) -> str:
    """`seeds 0, 1, 2`, or `3 to 12 seeds, until resolved`."""
    if isinstance(seeds, SequentialSeeds):
        return f"{seeds.min} to {seeds.max} seeds, until {seeds.until}"
    return f"seeds {', '.join(map(str, seed_list(seeds)))}"
