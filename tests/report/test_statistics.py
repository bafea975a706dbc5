"""The numbers of a comparison against hand computation, scipy and statsmodels, and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from ablator.report.effects import detectable_effect, paired_power
from ablator.report.statistics import Paired, compare, holm, judge

VALUES = st.lists(st.integers(0, 10_000), min_size=2, max_size=8).map(lambda xs: [x / 100 for x in xs])


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def close(a: float | None, b: float | None) -> bool:
    return (a is None and b is None) or (
        a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)
    )


def test_hand_computed_differences() -> None:
    # d = 1, 2, 3: mean 2, deviation 1, standard error 1/sqrt(3), t(.975, 2) = 4.302653, t = 3.464102.
    found = compare({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert (found.pairs, found.delta, found.deviation) == (3, 2.0, 1.0)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.p == pytest.approx(0.074180, abs=1e-6)


def test_only_shared_seeds_are_compared() -> None:
    found = compare({0: 1.0, 1: 5.0, 7: 9.0}, {1: 4.0, 7: 6.0, 9: 0.0})
    assert (found.pairs, found.delta) == (2, 2.0)


@pytest.mark.parametrize(
    ("arm", "base", "delta", "pairs"),
    [
        ([], [], None, 0),
        ([81.0], [80.5], 0.5, 1),
        ([81.0, 82.0], [80.5, 81.5], 0.5, 2),
        ([1.0, 2.0], [1.0, 2.0], 0.0, 2),
    ],
)
def test_what_is_undefined_is_none(
    arm: list[float], base: list[float], delta: float | None, pairs: int
) -> None:
    found = compare(by_seed(arm), by_seed(base))
    assert (found.delta, found.pairs) == (delta, pairs)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_rounding_of_the_subtraction_is_no_variation() -> None:
    # In binary 80.1 - 79.8 and 80.4 - 80.1 differ by 1e-14, of which a t test would make p = 1e-14.
    assert compare({0: 80.1, 1: 80.4}, {0: 79.8, 1: 80.1}).p is None


@given(VALUES, st.data())
@settings(max_examples=60, deadline=None)
def test_agrees_with_scipy(base: list[float], data: st.DataObject) -> None:
    size = len(base)
    arm = [x / 100 for x in data.draw(st.lists(st.integers(0, 10_000), min_size=size, max_size=size))]
    found = compare(by_seed(arm), by_seed(base))
    if found.p is None:
        assert np.std(np.subtract(arm, base)) < 1e-6
        return
    test = stats.ttest_1samp(np.subtract(arm, base), 0.0)
    assert found.p == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


@given(VALUES, st.randoms(use_true_random=False), st.integers(-50, 50))
@settings(max_examples=60, deadline=None)
def test_laws_of_shift_sign_and_order(arm: list[float], rng: object, shift: int) -> None:
    base = [(value * 7.3) % 11 for value in arm]
    found = compare(by_seed(arm), by_seed(base))
    shifted = compare(by_seed([v + shift for v in arm]), by_seed([v + shift for v in base]))
    swapped = compare(by_seed(base), by_seed(arm))
    order = list(range(len(arm)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    renamed = compare({s: arm[i] for s, i in enumerate(order)}, {s: base[i] for s, i in enumerate(order)})
    for name in ("delta", "low", "high", "p"):
        assert close(getattr(found, name), getattr(shifted, name)), name
        assert close(getattr(found, name), getattr(renamed, name)), name
    assert close(found.p, swapped.p)
    assert close(found.delta, -swapped.delta if swapped.delta is not None else None)
    assert close(found.low, -swapped.high if swapped.high is not None else None)


def test_holm_by_hand_leaves_holes() -> None:
    # Sorted .01 .02 .04: x3, x2, x1, made monotonous: .03, .04, .04.
    assert holm([0.04, None, 0.01, 0.02]) == [
        pytest.approx(0.04),
        None,
        pytest.approx(0.03),
        pytest.approx(0.04),
    ]
    assert holm([None, None]) == [None, None]


@pytest.mark.parametrize("pairs", [2, 3, 5, 15, 40])
def test_detectable_effect_agrees_with_statsmodels(pairs: int) -> None:
    assert detectable_effect(pairs) == pytest.approx(
        TTestPower().solve_power(nobs=pairs, alpha=0.05, power=0.8), rel=1e-5
    )


def test_power_is_the_rate_of_finding_it() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(1.2, 1.0, size=(40_000, 4))
    rate = float(np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.01))
    assert paired_power(1.2, 4, 0.01) == pytest.approx(rate, abs=0.01)


def paired(delta: float, p: float, deviation: float = 1.0, pairs: int = 5, reach: float = 1.0) -> Paired:
    """A comparison whose intervals, of the difference and of the effect, reach so far to both sides."""
    return Paired(
        pairs=pairs,
        delta=delta,
        deviation=deviation,
        low=delta - reach,
        high=delta + reach,
        p=p,
        effect_low=(delta - reach) / deviation,
        effect_high=(delta + reach) / deviation,
    )


def test_verdicts_follow_the_metric_direction() -> None:
    assert judge(paired(1.0, 0.01), mode="max", p_holm=0.01, family=1).verdict == "supported"
    assert judge(paired(1.0, 0.01), mode="min", p_holm=0.01, family=1).verdict == "not supported"
    assert judge(paired(-1.0, 0.01), mode="min", p_holm=0.01, family=1).verdict == "supported"
    worse = judge(paired(-1.0, 0.01), mode="max", p_holm=0.01, family=1)
    assert worse.verdict == "not supported"
    assert "worse" in worse.reason


def test_the_adjusted_p_decides() -> None:
    assert judge(paired(1.0, 0.01), mode="max", p_holm=0.06, family=6).verdict != "supported"


def test_an_absent_difference_is_claimed_only_where_the_interval_rules_it_out() -> None:
    # The interval ends at 1.1.
    small = judge(paired(0.1, 0.8), mode="max", p_holm=0.8, family=1, expected=1.0)
    large = judge(paired(0.1, 0.8), mode="max", p_holm=0.8, family=1, expected=1.2)
    assert (small.verdict, large.verdict) == ("underpowered", "not supported")
    assert "nor rule out the reported difference of 1" in small.reason
    assert "rules out the reported difference of 1.2" in large.reason
    # Where less is better, it is the lower end that counts.
    assert judge(paired(0.1, 0.8), mode="min", p_holm=0.8, family=1, expected=1.0).verdict == "not supported"


def test_closer_to_significance_is_never_stronger_evidence_of_no_effect() -> None:
    verdicts = [
        judge(paired(delta, 0.9 - delta), mode="max", p_holm=0.9 - delta, family=1, expected=1.3).verdict
        for delta in (0.0, 0.2, 0.4, 0.8)
    ]
    assert verdicts == ["not supported", "not supported", "underpowered", "underpowered"]


def test_without_a_reported_difference_a_large_effect_must_be_ruled_out() -> None:
    near, far = paired(0.0, 0.9, reach=0.79), paired(0.0, 0.9, reach=0.81)
    assert judge(near, mode="max", p_holm=0.9, family=1).verdict == "not supported"
    assert judge(far, mode="max", p_holm=0.9, family=1).verdict == "underpowered"


def test_what_the_pairs_could_see_and_how_many_the_difference_seen_needs() -> None:
    # Five pairs, deviation 1: 1.68 is found with a chance of 80 %; for 0.5 standard deviations 34 pairs are
    # needed (G*Power's textbook number).
    found = judge(paired(0.5, 0.3), mode="max", p_holm=0.3, family=1)
    assert found.detectable == pytest.approx(1.682, abs=1e-3)
    assert found.seeds_needed == 34


def test_missing_pairs_are_in_the_reason() -> None:
    found = judge(paired(1.0, 0.01, pairs=4), mode="max", p_holm=0.01, family=1, planned=6)
    assert found.reason == "better (4 pairs of 6 planned)"


def test_what_pruning_left_is_not_tested() -> None:
    found = judge(paired(1.0, 0.01), mode="max", p_holm=None, family=0, pruned=(1, 6))
    assert (found.verdict, found.p, found.low) == ("underpowered", None, None)
    assert "pruned by its values in 1 of 6 seeds" in found.reason


def test_a_diverged_seed_is_never_supported_and_a_chosen_row_never_tested() -> None:
    survivors = judge(paired(5.0, 1e-4), mode="max", p_holm=1e-4, family=1, diverged=(1, 4))
    assert survivors.verdict == "not supported"
    chosen = judge(paired(5.0, 1e-4), mode="max", p_holm=None, family=0, chosen_from=24)
    assert (chosen.verdict, chosen.p, chosen.low) == ("underpowered", None, None)
