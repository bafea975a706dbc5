"""How large a paired effect is, what a number of pairs can see, and intervals that assume no normal law.

Effects are in standard deviations of the differences (Cohen's d_z = mean / deviation). Legend: n pairs,
ν = n - 1 degrees of freedom, R resamples.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

FloatArray = npt.NDArray[np.float64]

ALPHA = 0.05
"""Level of the tests, after Holm's adjustment; intervals cover 1 - ALPHA, unadjusted."""
POWER = 0.8
"""Chance with which an effect should be found."""
BOOTSTRAP_PAIRS = 8
"""Pairs from which a bootstrap interval is given: n values have C(2n - 1, n) different resamples, which are
6,435 for 8 pairs but 126 for 5, too few to tell the outer 1 % by."""
RESAMPLES = 9_999
MOST_SEEDS = 1_000
"""`seeds_needed` does not look further."""


QUADRATURE = np.polynomial.legendre.leggauss(256)


@functools.cache
def _chi_quantiles(freedom: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights that average a function of χ/√ν (the spread's sampling error) over its law."""
    nodes, weights = QUADRATURE
    quantiles = stats.chi2.ppf((nodes + 1.0) / 2.0, freedom)
    return np.sqrt(quantiles / freedom), weights / 2.0


def paired_power(effect: float, pairs: int, level: float = ALPHA) -> float:
    """Chance that a two-sided paired t test at `level` finds an effect of so many standard deviations.

    Integrated over the law of the estimated deviation, because the noncentral t of common libraries is NaN
    in parts of the range that two or three seeds and a small level need.
    """
    spread, weights = _chi_quantiles(pairs - 1)
    critical = -special.stdtrit(pairs - 1, level / 2.0) * spread
    shift = effect * math.sqrt(pairs)
    return float(np.sum(weights * (special.ndtr(shift - critical) + special.ndtr(-shift - critical))))


@functools.cache
def detectable_effect(pairs: int, level: float = ALPHA) -> float:
    """Smallest effect, in standard deviations of the differences, that a two-sided paired t test at `level`
    finds with a chance of POWER; `pairs` is at least 2."""
    largest = 10.0 - 10.0 * float(special.stdtrit(pairs - 1, level / 2.0))
    return float(optimize.brentq(lambda effect: paired_power(effect, pairs, level) - POWER, 0.0, largest))


def seeds_needed(effect: float, level: float = ALPHA) -> int | None:
    """Fewest pairs, at least 2, with which a two-sided paired t test at `level` finds `effect` (in standard
    deviations, either sign) with a chance of POWER; None beyond MOST_SEEDS."""

    def enough(pairs: int) -> bool:
        return paired_power(abs(effect), pairs, level) >= POWER

    if not enough(MOST_SEEDS):
        return None
    # Power grows with the pairs, so that bisection finds the first that is enough.
    short, found = 1, MOST_SEEDS
    while found - short > 1:
        middle = (short + found) // 2
        short, found = (short, middle) if enough(middle) else (middle, found)
    return found


def standardised(effect: float, pairs: int) -> float | None:
    """Hedges' g of paired differences: d_z times Γ(ν/2) / (√(ν/2) Γ((ν - 1)/2)), which takes its bias away
    (Hedges 1981); None with two pairs, for which d_z has no mean."""
    freedom = pairs - 1
    if freedom < 2:
        return None
    log_factor = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2) - math.log(freedom / 2) / 2
    return effect * math.exp(log_factor)


def effect_interval(effect: float, pairs: int, level: float = ALPHA) -> tuple[float, float]:
    """Exact 1 - level interval of the true d_z under normal differences: the noncentralities that the seen t
    leaves possible (Steiger & Fouladi 1997), over √n."""
    spread, weights = _chi_quantiles(pairs - 1)
    seen = effect * math.sqrt(pairs) * spread

    def end(below: float) -> float:
        def excess(noncentrality: float) -> float:
            return float(np.sum(weights * special.ndtr(seen - noncentrality))) - below

        reach = 10.0 + 8.0 * abs(effect) * math.sqrt(pairs)
        return float(optimize.brentq(excess, -reach, reach)) / math.sqrt(pairs)

    return end(1 - level / 2), end(level / 2)


@functools.cache
def t_ruling_out(effect: float, pairs: int, level: float = ALPHA) -> float:
    """The t below which the 1 - level interval of the true d_z (`effect_interval`) lies below `effect`."""
    spread, weights = _chi_quantiles(pairs - 1)
    noncentrality = effect * math.sqrt(pairs)

    def excess(t: float) -> float:
        return float(np.sum(weights * special.ndtr(t * spread - noncentrality))) - level / 2

    reach = 1e3 * (1.0 + noncentrality)
    return float(optimize.brentq(excess, -reach, reach))


def bootstrap_level(pairs: int) -> float:
    """The level at which a bootstrap interval of normal values is as wide as Student's 1 - ALPHA interval:
    resampling knows neither of the divisor n - 1 nor of t's tails (Hesterberg 2015, section 4.3)."""
    return float(1 - 2 * special.ndtr(special.stdtrit(pairs - 1, ALPHA / 2) * math.sqrt(pairs / (pairs - 1))))


def bootstrap_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Bootstrap 1 - ALPHA interval of the mean difference (BCa, Efron 1987), which assumes no normal law;
    None with fewer than BOOTSTRAP_PAIRS differences. The same differences give the same interval, in any
    order.

    Its nominal level is `bootstrap_level`, without which 95 % would be 88 % with 8 pairs.
    """
    if len(differences) < BOOTSTRAP_PAIRS:
        return None
    with warnings.catch_warnings():
        # Where nearly all resamples agree, BCa divides by zero and says so; the NaN is met below.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (np.sort(np.asarray(differences, dtype=np.float64)),),
            np.mean,
            confidence_level=bootstrap_level(len(differences)),
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    ends = float(found.low), float(found.high)
    return ends if all(map(math.isfinite, ends)) else None
