"""Sequential seeds: which rows of a table are decided, and which want one more seed.

Every row is looked at after each further pair, and the looks of the whole table keep the family-wise error
at ALPHA: a row's sequential p value (`boundaries`) holds whenever its looks end, for whatever reason, so
Holm's adjustment of the rows' current p values is right although rows stop at different times (the
group-sequential Holm procedure of Ye, Li, Liu & Yao 2013 and Maurer & Bretz 2013, in p values). Rows also
stop when support has become unlikely and more seeds would hardly change what is said instead; as that never
enters the p values, it is not binding: more seeds may be run against it at no cost in error.

Pure: values in, decisions out. Legend: R rows of a study, K looks; leading axes are studies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy import stats

from ablator.report.boundaries import Boundaries, FloatArray, boundaries
from ablator.report.effects import ALPHA, effect_interval
from ablator.report.looks import FUTILE, STOPPED_LEVEL, BoolArray, Looked, look, looks_at
from ablator.report.statistics import Comparison, Mode, Paired, compare, judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialDesign:
    """`seeds: {min: .., max: .., until: resolved}`. Raises ValueError unless 2 ≤ least ≤ most."""

    least: int
    """Seeds that every row starts with."""
    most: int
    """Seeds that no row exceeds."""

    def __post_init__(self) -> None:
        if not 2 <= self.least <= self.most:
            raise ValueError(
                f"a sequential design needs 2 ≤ min ≤ max, not min {self.least}, max {self.most}"
            )

    @property
    def law(self) -> Boundaries:
        """The law of its looks, computed once per process."""
        return boundaries(self.least, self.most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """What is known of one row and of the row that it is compared with."""

    values: Mapping[int, float]
    """Seed to metric, of completed trials."""
    baseline: Mapping[int, float]
    tried: int
    """Seeds that were asked for so far, whatever came of them."""
    expected: float | None = None
    """The difference that the source reports."""
    diverged: int = 0
    pruned: int = 0
    mode: Mode = "max"
    """The direction in which the row's claim lies."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """Where a row stands."""

    open: bool
    """Whether it wants one more seed."""
    comparison: Comparison
    """`p` is the sequential p value, `p_holm` its Holm-adjusted value, and the intervals are those of a row
    that may stop early; the rest is as in a fixed design. A row that is open is *underpowered* so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """What the trials of one row have come to, of all seeds that it may have."""

    values: Mapping[int, float]
    """Seed to metric, of completed trials."""
    ended: Collection[int]
    """Seeds whose trial has an outcome, whichever."""
    lost: Collection[int] = ()
    """Of these the ones that diverged or were pruned."""
    against: str | None = None
    """The row that it is compared with; None for a baseline."""
    mode: Mode = "max"


def asked_for(rows: Mapping[str, Known], seeds: Sequence[int], design: SequentialDesign) -> dict[str, int]:
    """How many of `seeds`, the first so many, every row has been asked for: `design.least` at first and then,
    each time that all that was asked for has an outcome, one more for every open row. A row has at least as
    many as those that are compared with it.

    Decisions are made again from the first round on, so that they depend on the values alone and not on the
    order in which these came: the same values ask for the same seeds, whether they were trained for this
    study or lay there before.
    """
    asked = dict.fromkeys(rows, design.least)
    while True:
        tried = {name: seeds[:count] for name, count in asked.items()}
        if any(seed not in row.ended for name, row in rows.items() for seed in tried[name]):
            return asked
        arms = {
            name: Arm(
                values=_first(row.values, tried[name]),
                baseline=_first(rows[row.against].values, tried[row.against]),
                tried=len(tried[name]),
                diverged=sum(seed in row.lost for seed in tried[name]),
                mode=row.mode,
            )
            for name, row in rows.items()
            if row.against is not None
        }
        more = still_open(arms, design=design) if arms else []
        if not more:
            return asked
        for name in more:
            count = asked[name] + 1
            above: str | None = name
            while above is not None and asked[above] < count:
                asked[above] = count
                above = rows[above].against


def _first(values: Mapping[int, float], seeds: Sequence[int]) -> dict[int, float]:
    return {seed: values[seed] for seed in seeds if seed in values}


def still_open(arms: Mapping[str, Arm], *, design: SequentialDesign) -> list[str]:
    """Which rows want one more seed: those that `decide` finds open."""
    seen, lost_R = _looked(arms, design)
    closed_R = lost_R | (seen.holm < ALPHA) | seen.hopeless
    return [
        name
        for (name, arm), closed in zip(arms.items(), closed_R, strict=True)
        if not closed and arm.tried < design.most
    ]


def _looked(arms: Mapping[str, Arm], design: SequentialDesign) -> tuple[Looked, BoolArray]:
    """One look at all rows, and which of them are lost."""
    law = design.law
    differences_RN = np.stack([_signed(arm, law) for arm in arms.values()])
    expected_R = np.array([abs(arm.expected or math.nan) for arm in arms.values()])
    pairs = [min(len(_shared(arm)), design.most) for arm in arms.values()]
    lost_R = np.array([bool(arm.diverged or arm.pruned) for arm in arms.values()])
    return look(
        law, looks_at(differences_RN, expected_R, law), np.array(pairs) - design.least, lost_R
    ), lost_R


def decide(arms: Mapping[str, Arm], *, design: SequentialDesign) -> dict[str, Decision]:
    """Where every row stands, from all values that there are; the same values give the same decisions. All
    of `arms` are one family, whether they have values or not, so that its size does not depend on them.

    Looks are taken in the order of the seeds' numbers, at least..most pairs; pairs beyond are left out.
    """
    if not arms:
        return {}
    paired = {name: _paired(arm, design) for name, arm in arms.items()}
    seen, _ = _looked(arms, design)
    return {
        name: _decision(
            arm,
            paired[name],
            p=float(seen.p[index]),
            p_holm=float(seen.holm[index]),
            hopeless=bool(seen.hopeless[index]),
            design=design,
            family=len(arms),
        )
        for index, (name, arm) in enumerate(arms.items())
    }


def widened(paired: Paired) -> Paired:
    """`paired` with the intervals of a row that may stop early, and no bootstrap, which knows no stopping."""
    if paired.p is None or paired.delta is None or not paired.deviation:
        return paired
    reach = (
        float(stats.t.isf(STOPPED_LEVEL / 2, paired.pairs - 1)) * paired.deviation / math.sqrt(paired.pairs)
    )
    effect_low, effect_high = effect_interval(paired.delta / paired.deviation, paired.pairs, STOPPED_LEVEL)
    return dataclasses.replace(
        paired,
        low=paired.delta - reach,
        high=paired.delta + reach,
        effect_low=effect_low,
        effect_high=effect_high,
        bootstrap_low=None,
        bootstrap_high=None,
    )


def _shared(arm: Arm) -> list[int]:
    return sorted(set(arm.values) & set(arm.baseline))


def _paired(arm: Arm, design: SequentialDesign) -> Paired:
    seeds = _shared(arm)[: design.most]
    values = {seed: arm.values[seed] for seed in seeds}
    return widened(compare(values, arm.baseline, bootstrap=False))


def _signed(arm: Arm, law: Boundaries) -> FloatArray:
    """The differences of a row, positive where its claim holds, filled up with zeros to `law.most`: looks
    that are not reached hold anything, and are never read."""
    seeds = _shared(arm)[: law.most]
    sign = 1.0 if arm.mode == "max" else -1.0
    differences = [sign * (arm.values[seed] - arm.baseline[seed]) for seed in seeds]
    return np.array(differences + [0.0] * (law.most - len(seeds)), dtype=np.float64)


def _decision(
    arm: Arm,
    paired: Paired,
    *,
    p: float,
    p_holm: float,
    hopeless: bool,
    design: SequentialDesign,
    family: int,
) -> Decision:
    tested = paired.p is not None
    found = judge(
        dataclasses.replace(paired, p=p) if tested else paired,
        mode=arm.mode,
        p_holm=p_holm if tested else None,
        family=family,
        expected=arm.expected,
        diverged=(arm.diverged, arm.tried),
        pruned=(arm.pruned, arm.tried),
        planned=arm.tried,
    )
    resolved = bool(arm.diverged or arm.pruned) or (tested and p_holm < ALPHA) or hopeless
    if not resolved and arm.tried < design.most:
        why = f"open after {paired.pairs} pairs, up to {design.most} seeds"
        return Decision(open=True, comparison=dataclasses.replace(found, verdict="underpowered", reason=why))
    if hopeless:
        why = (
            f"{found.reason}; stopped after {paired.pairs} pairs, with a chance below {100 * FUTILE:.0f} % "
            f"of support by {design.most}"
        )
        found = dataclasses.replace(found, reason=why)
    return Decision(open=False, comparison=found)
