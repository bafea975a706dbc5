"""Exact boundaries for t statistics that are looked at after every further pair.

Under the null hypothesis the t statistics of 3, 4, .. pairs have a joint law that no unknown scale enters,
and they are a Markov chain in one dimension: with r = Σd / √(n Σd²) = t / √(n - 1 + t²) and r = sin η, the
next difference is √(Σd² with it) · sin φ, where φ is independent of all before it and has a density
∝ cos^(n-1) φ. So crossing probabilities follow by one-dimensional recursion (Armitage, McPherson & Rowe 1969,
for normal sums) instead of by the normal approximation, which is bad for three pairs.

The boundary is Wang & Tsiatis's (1987) with Δ = 1/4, half-way between O'Brien & Fleming's and Pocock's, on
the scale of nominal p values (Jennison & Turnbull 2000, sections 2.7 and 4.4): with z_n the normal score of
the t test's two-sided p at n pairs, the score of a look is z_n (n / most)^SHAPE, and a row is found at the
first look whose score reaches the critical one. These regions are nested in the level, so that the chance of
ever exceeding the largest score so far is a p value that holds at every stopping time.

Legend: K looks at least..most pairs, the last axis of every array; n pairs; t signed so that more is better.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import interpolate, optimize, special, stats

FloatArray = npt.NDArray[np.float64]

SCORES = np.linspace(0.2, 6.0, 48)
"""Scores at which the exact law is computed; between them log p is a cubic spline, beyond the last (p of 4e-9
or less) p is no smaller."""
SHAPE = 0.25
"""1/2 − Δ of Wang & Tsiatis's family: 1/2 is O'Brien & Fleming's boundary, which hardly ever stops early, and
0 Pocock's, which loses much of what all seeds would find (docs/statistics.md has the figures)."""
NODES = 161
QUADRATURE = np.polynomial.legendre.leggauss(40)
DRAWS = 4_096


def nominal_z(t_K: FloatArray, pairs_K: npt.NDArray[np.int64]) -> FloatArray:
    """Normal scores of the two-sided p values of t statistics with `pairs_K` - 1 degrees of freedom."""
    return np.asarray(-special.ndtri(special.stdtr(pairs_K - 1.0, -np.abs(t_K))))


def critical_t(z: float, pairs: int) -> float:
    """The t whose normal score is `z`."""
    return float(stats.t.isf(special.ndtr(-z), pairs - 1))


def crossing_probability(score: float, least: int, most: int) -> float:
    """Chance under the null hypothesis that a look at `least`..`most` pairs reaches `score`."""

    def edge(pairs: int) -> float:
        return math.atan2(critical_t(score * (most / pairs) ** SHAPE, pairs), math.sqrt(pairs - 1))

    later: Callable[[FloatArray], FloatArray] | None = None
    # Dense towards the edge, where the chance of crossing next rises like a square root.
    grid = np.sin(np.pi / 2 * np.linspace(0.0, 1.0, NODES))
    for pairs in range(most - 1, least - 1, -1):
        eta = edge(pairs) * grid
        later = interpolate.CubicSpline(eta, _crossing_next(eta, pairs, edge(pairs + 1), later))
    first = edge(least)
    crossed = 2.0 * float(special.ndtr(-score * (most / least) ** SHAPE))
    if later is None:
        return crossed
    nodes, weights = QUADRATURE
    eta = first * (nodes + 1.0) / 2.0
    density = np.cos(eta) ** (least - 2) / special.beta(0.5, (least - 1) / 2)
    return crossed + first * float(np.sum(weights * later(eta) * density))


def _crossing_next(
    eta: FloatArray, pairs: int, edge: float, later: Callable[[FloatArray], FloatArray] | None
) -> FloatArray:
    """Chance of crossing at the next look (at `edge`) or `later`, from the angles `eta` ≥ 0 of this one."""
    sums = math.sqrt(pairs) * np.sin(eta)
    theta, radius = np.arctan(sums), np.sqrt(1.0 + sums**2)
    # The next sum is radius · sin ψ with ψ = φ + θ; |ψ| < inside, and beyond π - inside, it has not crossed.
    inside = np.arcsin(np.minimum(math.sqrt(pairs + 1) * math.sin(edge) / radius, 1.0))
    lowest, highest = theta - np.pi / 2, theta + np.pi / 2
    cuts = [lowest, np.maximum(-inside, lowest), inside, np.minimum(np.pi - inside, highest), highest]
    nodes, weights = QUADRATURE
    chance = np.zeros_like(eta)
    for index, (start, stop) in enumerate(itertools.pairwise(cuts)):
        crossed = index % 2 == 0
        if not crossed and later is None:
            continue
        psi = start[:, None] + (stop - start)[:, None] * (nodes + 1.0) / 2.0
        density = np.cos(psi - theta[:, None]) ** (pairs - 1) / special.beta(0.5, pairs / 2)
        if not crossed and later is not None:
            sine = np.clip(radius[:, None] * np.sin(psi) / math.sqrt(pairs + 1), -1.0, 1.0)
            density *= later(np.minimum(np.abs(np.arcsin(sine)), edge))
        # No matrix product: BLAS would spread so small a one over threads that wait for each other.
        chance += (density * weights).sum(axis=-1) * (stop - start) / 2.0
    return chance


class Boundaries:
    """The law of looks at `least`..`most` pairs (2 ≤ least ≤ most): sequential p, and when to give up."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.pairs_K = np.arange(least, most + 1)
        logs = np.log([crossing_probability(float(score), least, most) for score in SCORES])
        self._log_p = interpolate.CubicSpline(SCORES, logs)

    def p_values(self, t_K: FloatArray) -> FloatArray:
        """Two-sided p after each look, given the t statistics up to it; it never rises. Under the null
        hypothesis the chance that it is ever α or less is α, so that it may be read whenever the looks end,
        for whatever reason."""
        scores = nominal_z(t_K, self.pairs_K) * (self.pairs_K / self.most) ** SHAPE
        best = np.maximum.accumulate(scores, axis=-1)
        p = np.exp(self._log_p(np.clip(best, SCORES[0], SCORES[-1])))
        return np.asarray(np.where(best < SCORES[0], 1.0, np.minimum(p, 1.0)))

    def critical_score(self, level: float) -> float:
        """The score whose chance of ever being reached is `level`."""
        return float(optimize.brentq(lambda s: self._log_p(s) - math.log(level), SCORES[0], SCORES[-1]))

    def hopeless_t(self, level: float, chance: float) -> FloatArray:
        """For each look but the last the t below which the predictive chance of support at the last look, at
        `level`, is under `chance`; -inf at the last. Shape (K,)."""
        return _hopeless(self, level, chance)


@functools.cache
def boundaries(least: int, most: int) -> Boundaries:
    """The law of looks at `least`..`most` pairs, computed once per process."""
    return Boundaries(least, most)


@functools.cache
def _hopeless(law: Boundaries, level: float, chance: float) -> FloatArray:
    final = critical_t(law.critical_score(level), law.most)
    found = [
        optimize.brentq(
            lambda t, n=int(pairs): predictive_chance(t, n, law.most, final) - chance, -30.0, 30.0 + final
        )
        for pairs in law.pairs_K[:-1]
    ]
    return np.array([*found, -math.inf])


@functools.cache
def _predictive_draws(pairs: int, more: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Quasi-random draws of: variance over the one seen, normal score of the mean to come, χ² to come."""
    uniform = stats.qmc.Sobol(3, scramble=True, rng=np.random.default_rng(0)).random(DRAWS)
    variance = (pairs - 1) / stats.chi2.ppf(uniform[:, 0], pairs - 1)
    spread = stats.chi2.ppf(uniform[:, 2], more - 1) if more > 1 else np.zeros(DRAWS)
    return variance, stats.norm.ppf(uniform[:, 1]), spread


def predictive_chance(t: float, pairs: int, most: int, final: float) -> float:
    """Chance, given t at `pairs` and no other knowledge of mean and deviation (the prior ∝ 1/σ), that t at
    `most` exceeds `final` (predictive power: Spiegelhalter, Freedman & Blackburn 1986)."""
    more = most - pairs
    variance, normal, spread = _predictive_draws(pairs, more)
    # In units of the deviation seen: mean and squares of the pairs so far, then of those to come.
    mean = t / math.sqrt(pairs)
    coming = mean + np.sqrt(variance * (1.0 / pairs + 1.0 / more)) * normal
    whole = (pairs * mean + more * coming) / most
    squares = (pairs - 1) + variance * spread + pairs * more / most * (coming - mean) ** 2
    return float(np.mean(whole * math.sqrt(most) > final * np.sqrt(squares / (most - 1))))
