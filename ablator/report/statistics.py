"""The statistics behind a row: paired differences, intervals, adjusted p values and the verdict.

An arm and its baseline that share a seed share their initial weights, data order and augmentation, so the
comparison is paired by seed: every number here is of the differences d_s = value_s - baseline_s.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

Verdict = Literal["supported", "not supported", "underpowered"]
Mode = Literal["max", "min"]
FloatArray = npt.NDArray[np.float64]

ALPHA = 0.05
"""Level of the tests, after Holm's adjustment; intervals cover 1 - ALPHA, unadjusted."""
POWER = 0.8
"""Chance with which an effect should be found before its absence says anything."""
LARGE_EFFECT = 0.8
"""Cohen's large effect, in standard deviations of the differences: what a row should have been able to
find where nobody says which difference matters."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Paired):
    """`Paired`, with what only the whole table can tell."""

    p_holm: float | None = None
    """`p` adjusted by Holm's method over the rows of the table that have one."""
    detectable: float | None = None
    """Smallest difference that this many pairs, varying as they do, would find with a chance of 80 % at
    the strictest level of the family (ALPHA / rows)."""
    verdict: Verdict
    reason: str
    """Why this verdict, in words."""


def compare(values: Mapping[int, float], baseline: Mapping[int, float]) -> Paired:
    """Paired comparison over the seeds that are in both; keys are seeds."""
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
    return Paired(
        pairs=len(seeds),
        delta=delta,
        deviation=deviation,
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the entries that are not None."""
    tested = [p for p in ps if p is not None]
    if not tested:
        return [None] * len(ps)
    adjusted = iter(float(p) for p in multipletests(tested, alpha=ALPHA, method="holm")[1])
    return [None if p is None else next(adjusted) for p in ps]


@functools.cache
def _chi_quantiles(freedom: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights that average a function of χ/√ν (the spread's sampling error) over its law."""
    nodes, weights = np.polynomial.legendre.leggauss(256)
    quantiles = stats.chi2.ppf((nodes + 1.0) / 2.0, freedom)
    return np.sqrt(quantiles / freedom), weights / 2.0


def paired_power(effect: float, pairs: int, level: float = ALPHA) -> float:
    """Chance that a two-sided paired t test at `level` finds an effect of so many standard deviations.

    Integrated over the law of the estimated deviation, because the noncentral t of common libraries is NaN
    in parts of the range that two or three seeds and a small level need.
    """
    spread, weights = _chi_quantiles(pairs - 1)
    critical = float(stats.t.isf(level / 2.0, pairs - 1)) * spread
    shift = effect * math.sqrt(pairs)
    return float(np.sum(weights * (stats.norm.cdf(shift - critical) + stats.norm.cdf(-shift - critical))))


@functools.cache
def detectable_effect(pairs: int, level: float = ALPHA) -> float:
    """Smallest effect, in standard deviations of the differences, that a two-sided paired t test at `level`
    finds with a chance of POWER; `pairs` is at least 2."""
    largest = 10.0 * float(stats.t.isf(level / 2.0, pairs - 1)) + 10.0
    return float(optimize.brentq(lambda effect: paired_power(effect, pairs, level) - POWER, 0.0, largest))


def judge(
    paired: Paired,
    *,
    mode: Mode,
    p_holm: float | None,
    family: int,
    expected: float | None = None,
    diverged: tuple[int, int] = (0, 0),
    chosen_from: int = 0,
) -> Comparison:
    """Whether the data support that the arm is better than the baseline.

    The rule, first match wins (`expected` is the difference that the source reports, `family` the number
    of rows with a test, `diverged` how many of how many trials diverged):

    1. a trial diverged: *not supported*, because the mean of the survivors is not the arm's;
    2. fewer than two pairs, or the arm was chosen by the very values it would be tested on:
       *underpowered*;
    3. the differences do not vary, so that t is undefined: *not supported* where they are all zero, else
       *underpowered*;
    4. Holm-adjusted p < 0.05: *supported* where the difference is in the metric's good direction, else
       *not supported*;
    5. not significant: *underpowered* where a difference as large as `expected` (or, where the source
       reports none, Cohen's large effect of 0.8 standard deviations) would have been missed with a chance
       above 20 %, else *not supported*.
    """
    if chosen_from:
        paired = dataclasses.replace(paired, low=None, high=None, p=None)
    effect = (
        detectable_effect(paired.pairs, ALPHA / max(family, 1))
        if paired.deviation and paired.pairs > 1
        else None
    )
    detectable = effect * paired.deviation if effect is not None and paired.deviation else None

    def say(verdict: Verdict, reason: str) -> Comparison:
        return Comparison(
            **dataclasses.asdict(paired), p_holm=p_holm, detectable=detectable, verdict=verdict, reason=reason
        )

    if diverged[0]:
        return say("not supported", f"diverged in {diverged[0]} of {diverged[1]} seeds")
    if chosen_from:
        return say(
            "underpowered", f"chosen as the best of {chosen_from} by these values; test it on new seeds"
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
    assert effect is not None
    assert detectable is not None
    if expected:
        missed, what = detectable > abs(expected), f"the reported difference of {abs(expected):.3g}"
    else:
        missed, what = effect > LARGE_EFFECT, "a large effect"
    if missed:
        return say("underpowered", f"{paired.pairs} pairs would miss {what} with a chance above 20 %")
    return say("not supported", f"{paired.pairs} pairs would have found {what} with a chance of 80 %")
