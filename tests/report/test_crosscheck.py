"""A hundred random tables against direct calls of scipy and statsmodels, and the laws of effect and power."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from ablator.report import effects
from ablator.report.statistics import compare, holm, step_down
from ablator.report.table import Table

Build = Callable[..., Table]
Outcome = float | str | None

EXACT = {"rel": 1e-10, "abs": 1e-10}
EFFECT = st.floats(-5.0, 5.0)
PAIRS = st.integers(3, 40)
DIFFERENCES = st.lists(st.integers(-1000, 1000), min_size=3, max_size=9, unique=True)


def random_arms(rng: np.random.Generator) -> dict[str, list[Outcome]]:
    """A baseline and one to six rows of one scale; a tenth of the trials has no value."""
    seeds = int(rng.integers(2, 13))
    scale, centre = 10.0 ** rng.uniform(-4, 4), rng.uniform(-100.0, 100.0)
    shared = rng.standard_normal(seeds)

    def outcomes(effect: float, holes: tuple[Outcome, ...]) -> list[Outcome]:
        values = scale * (centre + effect + shared + rng.standard_normal(seeds))
        return [
            holes[int(rng.integers(len(holes)))] if rng.random() < 0.1 else float(value) for value in values
        ]

    arms = {"base": outcomes(0.0, ("failed", None))}
    for row in range(int(rng.integers(1, 7))):
        holes: tuple[Outcome, ...] = ("diverged",) if rng.random() < 0.2 else ("failed", None)
        arms[f"row {row}"] = outcomes(float(rng.choice([0.0, 1.0, 3.0])), holes)
    return arms


@pytest.mark.parametrize("number", range(100))
def test_every_number_of_a_random_table_is_scipys(build: Build, number: int) -> None:
    arms = random_arms(np.random.default_rng(number))
    rows = build(arms).rows[1:]
    ps = []
    for row, outcomes in zip(rows, list(arms.values())[1:], strict=True):
        both = [
            (a, b)
            for a, b in zip(outcomes, arms["base"], strict=True)
            if isinstance(a, float) and isinstance(b, float)
        ]
        found = row.comparison
        assert found is not None
        assert found.pairs == len(both)
        if len(both) < 2:
            assert found.p is None
            continue
        arm, base = np.array(both).T
        test = stats.ttest_rel(arm, base)
        interval = test.confidence_interval(0.95)
        ps.append((found, test.pvalue))
        assert found.p == pytest.approx(test.pvalue, **EXACT)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), **EXACT)
        if any(outcome == "diverged" for outcome in outcomes):
            assert found.verdict == "not supported"
        if len(both) >= effects.BOOTSTRAP_PAIRS:
            z = stats.t.ppf(0.975, len(both) - 1) * math.sqrt(len(both) / (len(both) - 1))
            expected = stats.bootstrap(
                (np.sort(arm - base),),
                np.mean,
                confidence_level=1 - 2 * stats.norm.sf(z),
                rng=np.random.default_rng(0),
            ).confidence_interval
            assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx(tuple(expected), **EXACT)
        else:
            assert found.bootstrap_low is None
    if ps:
        adjusted = multipletests([p for _, p in ps], method="holm")[1]
        for (found, _), p in zip(ps, adjusted, strict=True):
            assert found.p_holm == pytest.approx(p, **EXACT)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_holm_is_statsmodels_and_keeps_the_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert adjusted == pytest.approx(list(multipletests(ps, method="holm")[1]), abs=1e-12)
    for p, one in zip(ps, adjusted, strict=True):
        assert one is not None
        assert p <= one <= 1.0
    order = np.argsort(ps, kind="stable")
    assert all(np.diff([adjusted[i] for i in order]) >= 0)  # type: ignore[arg-type]


def test_step_down_takes_each_study_alone() -> None:
    ps = np.random.default_rng(0).random((5, 3, 4)) ** 3
    for study in np.ndindex(5, 3):
        assert list(step_down(ps)[study]) == pytest.approx(holm(list(ps[study])))


@given(EFFECT, PAIRS)
@settings(max_examples=40, deadline=None)
def test_the_effects_interval_holds_what_the_noncentral_t_says(effect: float, pairs: int) -> None:
    low, high = effects.effect_interval(effect, pairs)
    root = math.sqrt(pairs)
    assert low < effect < high
    assert stats.nct.cdf(effect * root, pairs - 1, low * root) == pytest.approx(0.975, abs=1e-4)
    assert stats.nct.cdf(effect * root, pairs - 1, high * root) == pytest.approx(0.025, abs=1e-4)
    assert effects.effect_interval(-effect, pairs) == pytest.approx((-high, -low), abs=1e-8)


@given(DIFFERENCES, st.integers(-50, 50), st.integers(1, 50))
@settings(max_examples=30, deadline=None)
def test_effects_have_no_unit_and_differences_have(values: list[int], shift: int, factor: int) -> None:
    base = {seed: float(seed * seed % 7) for seed in range(len(values))}
    arm = {seed: base[seed] + value for seed, value in enumerate(values)}
    found = compare(arm, base)
    scaled = compare(
        {seed: factor * (value + shift) for seed, value in arm.items()},
        {seed: factor * (value + shift) for seed, value in base.items()},
    )
    for name in ("effect", "effect_low", "effect_high", "p"):
        assert getattr(scaled, name) == pytest.approx(getattr(found, name), rel=1e-7, abs=1e-9), name
    for name in ("delta", "deviation", "low", "high", "bootstrap_low", "bootstrap_high"):
        one, other = getattr(found, name), getattr(scaled, name)
        assert (one is None) == (other is None), name
        assert one is None or other == pytest.approx(factor * one, rel=1e-7, abs=1e-7), name
    assert found.p is None or 0.0 <= found.p <= 1.0


def test_hedges_g_is_unbiased() -> None:
    draws = np.random.default_rng(1).normal(1.0, 1.0, (100_000, 4))
    raw = draws.mean(1) / draws.std(1, ddof=1)
    factor = effects.standardised(1.0, 4)
    assert factor is not None
    assert raw.mean() > 1.3
    assert (factor * raw).mean() == pytest.approx(1.0, abs=0.02)
    assert effects.standardised(1.0, 2) is None


@given(st.floats(0.1, 4.0), st.integers(2, 60), st.sampled_from([0.05, 0.05 / 3, 0.05 / 8]))
@settings(max_examples=60, deadline=None)
def test_power_grows_with_pairs_and_effect(effect: float, pairs: int, level: float) -> None:
    power = effects.paired_power(effect, pairs, level)
    assert level - 1e-6 <= power <= 1.0 + 1e-12
    assert effects.paired_power(effect, pairs + 1, level) >= power - 1e-6
    assert effects.paired_power(effect + 0.1, pairs, level) >= power - 1e-6


@pytest.mark.parametrize("effect", [0.25, 0.5, -1.0, 2.0, 4.0])
def test_seeds_needed_are_the_first_that_are_enough(effect: float) -> None:
    needed = effects.seeds_needed(effect)
    assert needed is not None
    assert needed == math.ceil(TTestPower().solve_power(effect_size=abs(effect), alpha=0.05, power=0.8))
    assert effects.seeds_needed(effect, 0.05 / 8) > needed  # type: ignore[operator]


def test_no_number_of_seeds_finds_next_to_nothing() -> None:
    assert effects.seeds_needed(0.0) is None
    assert effects.seeds_needed(0.01) is None


def test_the_bootstrap_does_not_ask_for_the_order_of_seeds() -> None:
    values = list(np.random.default_rng(0).exponential(size=9))
    assert effects.bootstrap_interval(values) == effects.bootstrap_interval(values[::-1])
    assert effects.bootstrap_interval(values[:7]) is None


def test_a_bootstrap_of_skewed_differences_leans_to_the_long_tail() -> None:
    values = np.random.default_rng(3).exponential(size=12)
    ends = effects.bootstrap_interval(list(values))
    assert ends is not None
    assert ends[1] - values.mean() > values.mean() - ends[0]
