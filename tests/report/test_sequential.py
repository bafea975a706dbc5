"""Looks after every round: the exact law of their t statistics, and the decisions made from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ablator.report.boundaries import SHAPE, boundaries, crossing_probability, nominal_z, predictive_chance
from ablator.report.effects import effect_interval, t_ruling_out
from ablator.report.looks import t_statistics
from ablator.report.sequential import (
    Arm,
    Decision,
    Known,
    SequentialDesign,
    asked_for,
    decide,
)
from ablator.report.statistics import LARGE_EFFECT, compare, step_down

DESIGN = SequentialDesign(least=3, most=12)
BASELINE = {seed: 80.0 + math.sin(seed) for seed in range(12)}
NOISE = np.random.default_rng(4).normal(0.0, 0.3, (6, 12))


def arm(
    row: int, effect: float, seeds: int, lost: tuple[int, ...] = (), expected: float | None = None
) -> Arm:
    """A row that is `effect` better, after so many seeds of which some failed."""
    values = {
        seed: BASELINE[seed] + effect + float(NOISE[row, seed]) for seed in range(seeds) if seed not in lost
    }
    return Arm(values=values, baseline=BASELINE, tried=seeds, expected=expected)


# ---- the law


@pytest.mark.parametrize(("least", "most", "score"), [(3, 12, 2.15), (3, 12, 1.0), (2, 6, 2.0), (5, 8, 1.5)])
def test_the_crossing_probability_is_the_rate_of_crossing(least: int, most: int, score: float) -> None:
    draws = np.random.default_rng(0).standard_normal((60_000, most))
    law = boundaries(3, 12) if (least, most) == (3, 12) else None
    pairs = np.arange(least, most + 1)
    mean = draws.cumsum(1)[:, least - 1 :] / pairs
    variance = ((draws**2).cumsum(1)[:, least - 1 :] - pairs * mean**2) / (pairs - 1)
    t = mean * np.sqrt(pairs / variance)
    scores = (nominal_z(t, pairs) * (pairs / most) ** SHAPE).max(1)
    chance = crossing_probability(score, least, most)
    assert chance == pytest.approx(np.mean(scores >= score), abs=4 * math.sqrt(chance / 60_000))
    if law is not None:
        assert t_statistics(draws, law) == pytest.approx(t, rel=1e-6)
        assert np.mean(law.p_values(t)[:, -1] <= chance) == pytest.approx(np.mean(scores >= score), abs=1e-3)


def test_one_look_is_the_t_test() -> None:
    differences = np.array([0.3, 1.1, 0.7, 0.2, 0.9])
    law = boundaries(5, 5)
    p = law.p_values(t_statistics(differences, law))
    assert p == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue, rel=1e-4)


@given(st.lists(st.floats(-30.0, 30.0), min_size=10, max_size=10))
@settings(max_examples=60, deadline=None)
def test_sequential_p_values_never_rise_and_have_no_sign(ts: list[float]) -> None:
    law = boundaries(3, 12)
    p = law.p_values(np.array(ts))
    assert np.all(np.diff(p) <= 0)
    assert np.all((p > 0) & (p <= 1))
    assert np.array_equal(p, law.p_values(-np.array(ts)))
    # A look more costs: no p is smaller than that of its own look alone.
    assert np.all(p >= np.minimum.accumulate(2 * stats.t.sf(np.abs(ts), law.pairs_K - 1)) * (1 - 1e-3) - 1e-8)


def test_the_critical_score_is_reached_with_its_level() -> None:
    law = boundaries(3, 12)
    for level in (0.05, 0.05 / 8, 1e-3):
        score = law.critical_score(level)
        assert crossing_probability(score, 3, 12) == pytest.approx(level, rel=5e-3)


def test_the_predictive_chance_is_what_a_simulation_of_the_future_gives() -> None:
    # Pairs 1, 2, 3 seen: t = 3.46. The future is drawn from the posterior of mean and variance.
    rng = np.random.default_rng(0)
    variance = 2 * 1.0 / rng.chisquare(2, 40_000)
    mean = 2.0 + np.sqrt(variance / 3) * rng.standard_normal(40_000)
    coming = mean[:, None] + np.sqrt(variance)[:, None] * rng.standard_normal((40_000, 9))
    whole = np.hstack([np.tile([1.0, 2.0, 3.0], (40_000, 1)), coming])
    t = whole.mean(1) / whole.std(1, ddof=1) * math.sqrt(12)
    assert predictive_chance(2 * math.sqrt(3), 3, 12, 2.5) == pytest.approx(np.mean(t > 2.5), abs=0.012)


# ---- the decisions


def known(effects: list[float], seeds: int = 12) -> dict[str, Known]:
    """A baseline and rows that are so much better, whose first `seeds` trials have ended."""
    rows = {"baseline": Known(values=_first(BASELINE, seeds), ended=range(seeds))}
    for index, effect in enumerate(effects):
        values = arm(index, effect, seeds).values
        rows[f"row {index}"] = Known(values=values, ended=range(seeds), against="baseline")
    return rows


def _first(values: Mapping[int, float], seeds: int) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if seed < seeds}


def play(effects: list[float]) -> tuple[dict[str, Decision], dict[str, int]]:
    """Round after round until every row is decided: what is asked for is trained, and nothing else."""
    rows = known(effects, 0)
    whole = known(effects)
    while True:
        tried = asked_for(rows, range(12), DESIGN)
        again = {
            name: dataclasses.replace(
                row, values=_first(whole[name].values, tried[name]), ended=range(tried[name])
            )
            for name, row in rows.items()
        }
        if again == rows:
            break
        rows = again
    arms = {
        name: Arm(values=row.values, baseline=BASELINE, tried=tried[name])
        for name, row in rows.items()
        if row.against
    }
    return decide(arms, design=DESIGN), tried


def test_rounds_begin_together_and_go_on_one_by_one() -> None:
    assert asked_for(known([2.0, 0.25], 0), range(12), DESIGN) == {"baseline": 3, "row 0": 3, "row 1": 3}
    assert asked_for(known([2.0, 0.25], 2), range(12), DESIGN) == {"baseline": 3, "row 0": 3, "row 1": 3}
    after_one = asked_for(known([2.0, 0.25], 3), range(12), DESIGN)
    assert after_one["baseline"] == 4 == max(after_one.values()), "the baseline goes with whoever is open"


@given(st.lists(st.floats(-1.5, 2.0), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_what_lies_there_already_asks_for_no_more_seeds_than_training_round_by_round(
    effects: list[float],
) -> None:
    decisions, tried = play(effects)
    assert asked_for(known(effects), range(12), DESIGN) == tried
    assert not any(one.open for one in decisions.values())
    assert tried["baseline"] == max(tried.values())


def test_a_row_in_a_chain_has_the_seeds_of_whoever_is_compared_with_it() -> None:
    rows = known([2.0, 2.3])
    rows["row 1"] = dataclasses.replace(rows["row 1"], against="row 0")
    alone = asked_for({name: rows[name] for name in ("baseline", "row 0")}, range(12), DESIGN)
    asked = asked_for(rows, range(12), DESIGN)
    assert asked["row 0"] == asked["row 1"] > alone["row 0"]
    assert asked["baseline"] == asked["row 0"]


def test_a_failed_trial_counts_as_asked_for_and_a_diverged_one_closes_its_row() -> None:
    rows = known([0.25])
    gone = {seed: value for seed, value in rows["row 0"].values.items() if seed != 1}
    failed = dataclasses.replace(rows["row 0"], values=gone)
    assert asked_for(rows | {"row 0": failed}, range(12), DESIGN)["row 0"] > 3
    diverged = dataclasses.replace(failed, lost=(1,))
    assert asked_for(rows | {"row 0": diverged}, range(12), DESIGN)["row 0"] == 3


def test_a_row_stops_when_it_is_decided_and_others_go_on() -> None:
    decisions, tried = play([2.0, 0.25, 0.0])
    assert decisions["row 0"].comparison.verdict == "supported"
    assert tried["row 0"] < 9, "a large effect is found early"
    assert tried["row 0"] < tried["row 1"] <= 12
    assert decisions["row 2"].comparison.verdict != "supported"
    assert not any(one.open for one in decisions.values())


def test_a_row_that_is_worse_or_stopped_says_so() -> None:
    decisions, tried = play([-1.5])
    found = decisions["row 0"].comparison
    assert found.verdict == "not supported"
    assert "below 5 % of support by 12" in found.reason
    assert tried["row 0"] < 6


def test_the_same_values_give_the_same_decisions_in_any_order() -> None:
    arms = {f"row {row}": arm(row, 0.5 * row, 6) for row in range(4)}
    turned = {
        name: Arm(values=dict(reversed(one.values.items())), baseline=BASELINE, tried=6)
        for name, one in reversed(arms.items())
    }
    assert decide(arms, design=DESIGN) == decide(turned, design=DESIGN)


def test_less_is_better_is_the_mirror_image() -> None:
    arms = {f"row {row}": arm(row, 0.3 * row, 7) for row in range(3)}
    mirrored = {
        name: Arm(
            values={seed: -value for seed, value in one.values.items()},
            baseline={seed: -value for seed, value in BASELINE.items()},
            tried=7,
            mode="min",
        )
        for name, one in arms.items()
    }
    there = decide(arms, design=DESIGN)
    here = decide(mirrored, design=DESIGN)
    for name, one in there.items():
        assert (one.open, one.comparison.verdict, one.comparison.p_holm) == (
            here[name].open,
            here[name].comparison.verdict,
            pytest.approx(here[name].comparison.p_holm),
        )


def test_a_failed_seed_delays_a_look_and_a_diverged_one_ends_the_row() -> None:
    failed = decide({"row": arm(0, 2.0, 4, lost=(1, 2))}, design=DESIGN)["row"]
    assert failed.open
    assert (failed.comparison.pairs, failed.comparison.p_holm) == (2, 1.0)
    whole = arm(0, 2.0, 4, lost=(3,))
    diverged = Arm(values=whole.values, baseline=BASELINE, tried=4, diverged=1)
    both = decide({"row": diverged, "other": arm(1, 2.0, 4)}, design=DESIGN)
    assert not both["row"].open
    assert both["row"].comparison.reason == "diverged in 1 of 4 seeds"
    alone = decide({"other": arm(1, 2.0, 4)}, design=DESIGN)["other"].comparison
    # The diverged row stays in the family, so that its size does not depend on the values.
    assert both["other"].comparison.p_holm == pytest.approx(2 * (alone.p_holm or 0.0))


def test_seeds_run_out_and_the_row_is_closed() -> None:
    values = arm(0, 0.2, 12, lost=(4, 5, 6))
    found = decide({"row": values}, design=DESIGN)["row"]
    assert not found.open
    assert "9 pairs of 12 planned" in found.comparison.reason


def test_intervals_of_a_row_that_may_stop_early_are_wider() -> None:
    one = arm(0, 1.0, 5)
    whole = compare(one.values, one.baseline)
    early = decide({"row": one}, design=DESIGN)["row"].comparison
    for low, high in (("low", "high"), ("effect_low", "effect_high")):
        assert getattr(early, low) < getattr(whole, low) < getattr(whole, high) < getattr(early, high)
    assert (early.p or 0.0) > (whole.p or 1.0), "looking more often costs"


@pytest.mark.parametrize(("least", "most"), [(1, 5), (4, 3)])
def test_a_design_that_cannot_be_is_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="2 ≤ min ≤ max"):
        SequentialDesign(least=least, most=most)


def test_peeking_after_every_round_keeps_the_familywise_error() -> None:
    law = DESIGN.law
    differences = np.random.default_rng(8).standard_normal((12_000, 3, 12))
    shared = np.random.default_rng(9).standard_normal((12_000, 1, 12))
    p = law.p_values(t_statistics(differences + shared, law))[..., -1]
    found = float(np.mean((step_down(p) < 0.05).any(-1)))
    assert 0.035 < found < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 12_000)


# ---- when a row is given up


@given(st.floats(0.2, 2.0), st.integers(3, 30), st.sampled_from([0.04, 0.05, 0.2]))
@settings(max_examples=60, deadline=None)
def test_an_effect_is_ruled_out_where_its_interval_ends(effect: float, pairs: int, level: float) -> None:
    t = t_ruling_out(effect, pairs, level)
    assert effect_interval(t / math.sqrt(pairs), pairs, level)[1] == pytest.approx(effect, abs=1e-6)


@pytest.mark.parametrize("expected", [None, 0.4])
def test_a_row_without_effect_goes_on_until_one_that_matters_is_ruled_out(expected: float | None) -> None:
    rows = [arm(5, -0.1, seeds, expected=expected) for seeds in range(3, 13)]
    found = [decide({"row": row}, design=DESIGN)["row"] for row in rows]
    closed = next(index for index, one in enumerate(found) if not one.open)
    assert closed > 0, "three seeds neither show it nor rule it out"
    last = found[closed].comparison
    assert (last.verdict, last.reason.split(", and ")[1][:23]) == ("not supported", "the interval rules out ")
    edge = last.high if expected else last.effect_high
    assert edge is not None
    assert edge < (expected or LARGE_EFFECT)


def test_a_row_that_will_not_be_decided_by_its_last_seed_is_given_up_as_underpowered() -> None:
    # Worse than the baseline in no seed and better in none: 12 seeds neither support it nor rule much out.
    rows = {"row": arm(2, 0.16, 9, expected=0.2)} | {f"other {n}": arm(n % 6, 0.1, 9) for n in range(12)}
    found = decide(rows, design=DESIGN)["row"]
    assert not found.open
    assert found.comparison.verdict == "underpowered"
    assert "stopped after 9 pairs" in found.comparison.reason
