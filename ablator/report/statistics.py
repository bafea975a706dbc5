"""The statistics behind a row: paired differences, intervals, adjusted p values and the verdict.

An arm and its baseline that share a seed share their initial weights, data order and augmentation, so the
comparison is paired by seed: every number here is of the differences d_s = value_s - baseline_s.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from ablator.report import effects
from ablator.report.effects import ALPHA, FloatArray

Verdict = Literal["supported", "not supported", "underpowered"]
Mode = Literal["max", "min"]

LARGE_EFFECT = 0.8
"""Cohen's large effect, in standard deviations of the differences: what must be ruled out where nobody says
which difference matters."""
RELATIVE_ZERO = 1e-9
"""Deviations below this part of the values are rounding of the subtraction, not variation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paired:
    """Differences of an arm from its baseline over the seeds that both completed. What cannot be computed
    is None, never NaN: `delta` without pairs; the rest with one pair or differences that do not vary."""

    pairs: int
    delta: float | None = None
    """Mean difference, arm minus baseline, in the metric's unit."""
    deviation: float | None = None
    """Standard deviation of the differences (ddof 1); exactly 0.0 where they do not vary."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval of `delta`, by Student's t."""
    p: float | None = None
    """Two-sided p of the paired t test."""
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    """Ends of the 95 % bootstrap interval of `delta`, from 8 pairs on: a check of the normal law that the t
    interval rests on, for which no test has power with so few pairs."""
    effect: float | None = None
    """Hedges' g: `delta` in standard deviations of the differences, less its bias. None with two pairs."""
    effect_low: float | None = None
    effect_high: float | None = None
    """Ends of the exact 95 % interval of the true effect, by the noncentral t."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Paired):
    """`Paired`, with what only the whole table can tell."""

    p_holm: float | None = None
    """`p` adjusted by Holm's method over the rows of the table that have one."""
    detectable: float | None = None
    """Smallest difference that this many pairs, varying as they do, would find with a chance of 80 % at
    the strictest level of the family (ALPHA / rows)."""
    seeds_needed: int | None = None
    """Pairs with which a difference as large as the one seen, varying as it does, would be found with a
    chance of 80 % at that level, up to 1,000: for planning the next run, as the one seen is uncertain."""
    verdict: Verdict
    reason: str
    """Why this verdict, in words."""


def compare(values: Mapping[int, float], baseline: Mapping[int, float], *, bootstrap: bool = True) -> Paired:
    """Paired comparison over the seeds that are in both; keys are seeds. `bootstrap=False` leaves the slow
    bootstrap interval out."""
    seeds = sorted(set(values) & set(baseline))
    arm = np.array([values[seed] for seed in seeds], dtype=np.float64)
    base = np.array([baseline[seed] for seed in seeds], dtype=np.float64)
    if not seeds:
        return Paired(pairs=0)
    differences = arm - base
    delta = math.fsum(differences) / len(seeds)
    if len(seeds) == 1:
        return Paired(pairs=1, delta=delta)
    deviation = float(np.std(differences, ddof=1))
    if deviation <= RELATIVE_ZERO * float(np.max(np.abs([arm, base]))):
        return Paired(pairs=len(seeds), delta=delta, deviation=0.0)
    test = stats.ttest_rel(arm, base)
    interval = test.confidence_interval(1 - ALPHA)
    resampled = effects.bootstrap_interval(list(differences)) if bootstrap else None
    effect_low, effect_high = effects.effect_interval(delta / deviation, len(seeds))
    return Paired(
        pairs=len(seeds),
        delta=delta,
        deviation=deviation,
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
        bootstrap_low=resampled[0] if resampled else None,
        bootstrap_high=resampled[1] if resampled else None,
        effect=effects.standardised(delta / deviation, len(seeds)),
        effect_low=effect_low,
        effect_high=effect_high,
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the entries that are not None."""
    adjusted = iter(step_down(np.array([p for p in ps if p is not None], dtype=np.float64)))
    return [None if p is None else float(next(adjusted)) for p in ps]


def step_down(p_R: FloatArray) -> FloatArray:
    """Holm's (1979) adjusted p values of R tests along the last axis, for any number of families at once."""
    tests = p_R.shape[-1]
    order = np.argsort(p_R, axis=-1)
    stepped = np.take_along_axis(p_R, order, -1) * np.arange(tests, 0, -1)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(stepped, -1), 1.0), -1)
    return adjusted


def judge(
    paired: Paired,
    *,
    mode: Mode,
    p_holm: float | None,
    family: int,
    expected: float | None = None,
    diverged: tuple[int, int] = (0, 0),
    pruned: tuple[int, int] = (0, 0),
    planned: int = 0,
    chosen_from: int = 0,
) -> Comparison:
    """Whether the data support that the arm is better than the baseline.

    The rule, first match wins (`expected` is the difference that the source reports, `family` the number
    of rows with a test, `diverged` and `pruned` how many of how many trials did, `planned` the pairs that
    there should be; where some are missing, the reason says so):

    1. a trial diverged: *not supported*, because the mean of the survivors is not the arm's;
    2. a trial was pruned, or the arm was chosen by the very values it would be tested on: *underpowered*
       and without a test, because these values are selected;
    3. fewer than two pairs: *underpowered*;
    4. the differences do not vary, so that t is undefined: *not supported* where they are all zero, else
       *underpowered*;
    5. Holm-adjusted p < 0.05: *supported* where the difference is in the metric's good direction, else
       *not supported*, being significantly worse;
    6. not significant: *not supported* where the 95 % interval rules out an improvement as large as
       `expected` (or, where the source reports none, Cohen's large effect of 0.8 standard deviations), else
       *underpowered*: these seeds can tell neither.

    Rule 6 asks the interval and not the power at the deviation seen, by which, of two rows, the one closer
    to significance can count as the stronger evidence of no effect (Hoenig & Heisey 2001).
    """
    if chosen_from or pruned[0]:
        paired = selected(paired)
    level = ALPHA / max(family, 1)
    detectable = needed = None
    if paired.deviation and paired.delta is not None:
        detectable = effects.detectable_effect(paired.pairs, level) * paired.deviation
        needed = effects.seeds_needed(paired.delta / paired.deviation, level)

    def say(verdict: Verdict, reason: str) -> Comparison:
        if 2 <= paired.pairs < planned and not diverged[0] and not pruned[0]:
            reason += f" ({paired.pairs} pairs of {planned} planned)"
        return Comparison(
            **vars(paired),
            p_holm=p_holm,
            detectable=detectable,
            seeds_needed=needed,
            verdict=verdict,
            reason=reason,
        )

    if diverged[0]:
        return say("not supported", f"diverged in {diverged[0]} of {diverged[1]} seeds")
    if chosen_from:
        return say(
            "underpowered", f"chosen as the best of {chosen_from} by these values; test it on new seeds"
        )
    if pruned[0]:
        return say(
            "underpowered", f"pruned by its values in {pruned[0]} of {pruned[1]} seeds; the rest are selected"
        )
    if paired.pairs < 2 or paired.delta is None:
        pairs = "one pair" if paired.pairs == 1 else "no pair"
        return say("underpowered", f"{pairs} of completed trials, two are needed for a test")
    if paired.p is None or p_holm is None:
        if paired.delta == 0.0:
            return say("not supported", "equal to the baseline in every seed")
        return say("underpowered", "the same difference in every seed, so a t test is undefined")
    if p_holm < ALPHA:
        better = paired.delta > 0 if mode == "max" else paired.delta < 0
        return say("supported", "better") if better else say("not supported", "worse than the baseline")
    return say(*_without_significance(paired, mode, expected))


def selected(paired: Paired) -> Paired:
    """What remains of a comparison whose values were selected: no interval, no test."""
    return Paired(pairs=paired.pairs, delta=paired.delta, deviation=paired.deviation)


def _without_significance(paired: Paired, mode: Mode, expected: float | None) -> tuple[Verdict, str]:
    """Rule 6 of `judge`."""
    if expected:
        ends, matters = (paired.low, paired.high), abs(expected)
        what = f"the reported difference of {matters:.3g}"
    else:
        ends, matters = (paired.effect_low, paired.effect_high), LARGE_EFFECT
        what = "a large effect"
    low, high = ends
    assert low is not None
    assert high is not None
    largest = high if mode == "max" else -low
    if largest < matters:
        return "not supported", f"no significant difference, and the interval rules out {what}"
    return "underpowered", f"{paired.pairs} pairs neither show a difference nor rule out {what}"
