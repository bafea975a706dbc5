"""Looks at rows of a table while their seeds come: sequential p values, and which rows to give up.

Pure, and for any number of studies at once. Legend: R rows of a study, K looks; leading axes are studies.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ablator.report.boundaries import Boundaries, FloatArray
from ablator.report.effects import ALPHA, t_ruling_out
from ablator.report.statistics import LARGE_EFFECT, step_down

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FUTILE = 0.05
"""A row whose predictive chance of support at the last look is below this stops when its interval rules out
an effect that matters, or"""
UNSETTLED = 0.5
"""when the predictive chance that the interval of the last look will rule it out is below this."""
STOPPED_LEVEL = 0.04
"""1 - level of the t interval of a row that may stop early. Stopping at a lucky or unlucky moment costs the
95 % interval about one point of coverage; this level gives it back (docs/statistics.md has the figures)."""


class Looked(NamedTuple):
    """What a look finds for every row (the last axis), studies along the leading axes."""

    p: FloatArray
    """Sequential p values; 1 before a row's first look."""
    holm: FloatArray
    """The same, adjusted over the rows."""
    hopeless: BoolArray
    """Rows without significance whose chance of support at the last look is below FUTILE, and whose verdict
    more seeds would hardly change."""


class Looks(NamedTuple):
    """Every look at every row; shapes (..., R, K), and (..., R) of what does not depend on the look."""

    t: FloatArray
    """t of the mean difference, positive where the row's claim holds."""
    p: FloatArray
    """Sequential p values."""
    deviation: FloatArray
    """Of the differences; 0 where they do not vary."""
    expected: FloatArray
    """The difference that matters because the source reports it; NaN where it reports none."""


def looks_at(differences: FloatArray, expected: FloatArray, law: Boundaries) -> Looks:
    """The looks at `differences` (..., R, most or more), in the order of the seeds."""
    t = t_statistics(differences, law)
    n = law.pairs_K
    squares = (differences**2).cumsum(-1)[..., n - 1] - differences.cumsum(-1)[..., n - 1] ** 2 / n
    deviation = np.where(t == 0.0, 0.0, np.sqrt(np.maximum(squares, 0.0) / (n - 1)))
    return Looks(t, law.p_values(t), deviation, expected)


def look(law: Boundaries, looks: Looks, last_R: IntArray, lost_R: BoolArray) -> Looked:
    """One look at every row, each at its own `last_R` (0 for `law.least` pairs; negative before it). `lost_R`
    marks rows that are not tested any more but stay in the family."""
    index_R1 = np.maximum(last_R, 0)[..., None]
    seen_R = (last_R >= 0) & ~lost_R
    p_R = np.where(seen_R, np.take_along_axis(looks.p, index_R1, -1)[..., 0], 1.0)
    holm_R = step_down(p_R)
    rejected_R = holm_R < ALPHA
    left = p_R.shape[-1] - rejected_R.sum(axis=-1, keepdims=True)
    t_R = np.take_along_axis(looks.t, index_R1, -1)[..., 0]
    hopeless_R = np.zeros_like(rejected_R)
    for rows in np.unique(left[left > 0]):
        limit_R = law.hopeless_t(ALPHA / int(rows), FUTILE)[index_R1[..., 0]]
        hopeless_R |= (left == rows) & seen_R & ~rejected_R & (t_R < limit_R)
    deviation_R = np.take_along_axis(looks.deviation, index_R1, -1)[..., 0]
    settled_R = _settled(law, t_R, deviation_R, looks.expected, law.pairs_K[index_R1[..., 0]])
    return Looked(p_R, holm_R, hopeless_R & settled_R)


def _settled(
    law: Boundaries, t_R: FloatArray, deviation_R: FloatArray, expected_R: FloatArray, pairs_R: IntArray
) -> BoolArray:
    """Whether more seeds would hardly change the verdict of a row that will not be supported: its interval
    rules out an effect that matters, or will probably not do so at the last look either.

    That chance is taken at the deviation seen, as if it were known: the mean of all `most` differences, given
    that of n, is a t variable with n − 1 degrees of freedom about it, with scale √(1/n − 1/most) deviations.
    """
    varies_R = deviation_R > 0.0
    mean_R = t_R / np.sqrt(pairs_R)
    limits_K = [ruling_out(int(pairs)) for pairs in law.pairs_K]
    reach_K, effect_K = (np.array(numbers) for numbers in zip(*limits_K, strict=True))
    matters_R = expected_R / np.where(varies_R, deviation_R, 1.0)

    def limit(index_R: IntArray) -> FloatArray:
        """The mean, in deviations, below which the interval of this look rules out what matters."""
        return np.where(np.isnan(matters_R), effect_K[index_R], matters_R - reach_K[index_R])

    now_R, last_R = limit(pairs_R - law.least), limit(np.full_like(pairs_R, law.most - law.least))
    scale_R = np.sqrt(np.maximum(1.0 / pairs_R - 1.0 / law.most, 1e-12))
    chance_R = special.stdtr(pairs_R - 1.0, (last_R - mean_R) / scale_R)
    return np.asarray(~varies_R | (mean_R < now_R) | (chance_R < UNSETTLED))


@functools.cache
def ruling_out(pairs: int) -> tuple[float, float]:
    """In deviations of the differences: the half-width of the interval of a row that may stop early, and the
    mean below which the interval of its effect lies below a large effect."""
    reach = float(stats.t.isf(STOPPED_LEVEL / 2, pairs - 1))
    large = t_ruling_out(LARGE_EFFECT, pairs, STOPPED_LEVEL)
    return reach / math.sqrt(pairs), large / math.sqrt(pairs)


def t_statistics(differences: FloatArray, law: Boundaries) -> FloatArray:
    """t of the mean of the first n differences for every look, along the last axis (most, or more); 0 where
    they do not vary, which decides nothing."""
    pairs_K = law.pairs_K
    sums, squares = differences.cumsum(-1), (differences**2).cumsum(-1)
    mean = sums[..., pairs_K - 1] / pairs_K
    variance = (squares[..., pairs_K - 1] - pairs_K * mean**2) / (pairs_K - 1)
    # What is left of the squares after such a cancellation is rounding.
    varies = variance > 1e-12 * squares[..., pairs_K - 1]
    return np.where(varies, mean * np.sqrt(pairs_K) / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
