"""What a table says of complete, broken and missing cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablator.contracts.record import Record
from ablator.errors import SettingError
from ablator.report.building import account, build_table
from ablator.report.csv import render_csv, render_json
from ablator.report.formatting import count_text, summary, value_text
from ablator.report.latex import render_latex
from ablator.report.markdown import render_markdown
from ablator.report.page import render_page
from ablator.report.table import Account, RowSpec, Table, TableSpec

Build = Callable[..., Table]


def test_row_numbers_are_those_of_numpy_and_scipy(build: Build) -> None:
    base, arm = [80.0, 81.0, 80.5], [81.5, 82.4, 82.1]
    row = build({"base": base, "arm": arm}).rows[1]
    assert row.mean == pytest.approx(np.mean(arm))
    assert row.std == pytest.approx(np.std(arm, ddof=1))
    assert row.comparison is not None
    assert row.comparison.p == pytest.approx(stats.ttest_rel(arm, base).pvalue)
    assert row.comparison.p_holm == row.comparison.p
    assert row.comparison.verdict == "supported"


def test_baseline_is_first_and_arms_keep_their_order(build: Build) -> None:
    table = build({"b": [1.0], "c": [2.0], "a": [3.0]}, baseline="c")
    assert [row.label for row in table.rows] == ["c", "b", "a"]
    assert table.baseline.comparison is None


def test_one_seed_has_no_deviation_and_no_interval(build: Build) -> None:
    row = build({"base": [80.0], "arm": [81.0]}).rows[1]
    assert (row.mean, row.std) == (81.0, None)
    assert row.comparison is not None
    assert (row.comparison.delta, row.comparison.low, row.comparison.p) == (1.0, None, None)
    assert row.comparison.verdict == "underpowered"


def test_differences_that_do_not_vary(build: Build) -> None:
    table = build({"base": [80.0, 81.0], "same": [80.0, 81.0], "shifted": [80.5, 81.5]})
    same, shifted = (row.comparison for row in table.rows[1:])
    assert same is not None
    assert shifted is not None
    assert (same.delta, same.p, same.verdict) == (0.0, None, "not supported")
    assert (shifted.delta, shifted.p, shifted.verdict) == (0.5, None, "underpowered")


@pytest.mark.parametrize("outcome", ["diverged", "failed", "pruned", None])
def test_a_row_without_completed_cells_has_no_number(build: Build, outcome: str | None) -> None:
    row = build({"base": [80.0, 81.0], "arm": [outcome, outcome]}).rows[1]
    assert (row.n, row.mean, row.std) == (0, None, None)
    assert value_text(row, 2) == f"{outcome or 'missing'} (2/2)"
    assert row.comparison is not None
    assert row.comparison.delta is None
    assert row.comparison.verdict == ("not supported" if outcome == "diverged" else "underpowered")


def test_a_mean_over_survivors_says_so(build: Build) -> None:
    table = build({"base": [80.0, 81.0, 80.4], "arm": [82.0, "diverged", 82.2]})
    row = table.rows[1]
    assert (row.mean, count_text(row)) == (pytest.approx(82.1), "2/3")
    assert row.comparison is not None
    assert row.comparison.verdict == "not supported"
    assert table.footnotes[row.footnotes[0] - 1] == "Seed 1 diverged: diverged on purpose"


@pytest.mark.parametrize("baseline", [["diverged", "diverged"], [None, None], ["failed", None]])
def test_a_baseline_without_values_leaves_no_difference(build: Build, baseline: list[str | None]) -> None:
    table = build({"base": baseline, "arm": [80.0, 81.0]})
    found = table.rows[1].comparison
    assert found is not None
    assert (found.pairs, found.delta, found.verdict) == (0, None, "underpowered")
    assert table.rows[1].mean == 80.5
    assert any("the baseline has no value" in note for note in table.footnotes)


def test_holm_runs_over_the_rows_that_have_a_test(build: Build) -> None:
    base = [80.0, 81.0, 80.5]
    table = build({"base": base, "a": [81.5, 82.4, 82.1], "gone": [None] * 3, "b": [80.3, 81.2, 80.9]})
    a, gone, b = (row.comparison for row in table.rows[1:])
    assert a is not None
    assert b is not None
    assert gone is not None
    smaller, larger = sorted((a, b), key=lambda one: one.p or 0.0)
    assert smaller.p_holm == pytest.approx(2 * (smaller.p or 0.0))
    assert larger.p_holm == pytest.approx(max(larger.p or 0.0, smaller.p_holm or 0.0))
    assert gone.p_holm is None


def test_the_best_point_of_a_search_is_not_tested(build: Build) -> None:
    base = [80.0, 81.0, 80.5]
    table = build({"base": base, "best": [85.5, 86.4, 86.1]}, chosen_from={"best": 24})
    found = table.rows[1].comparison
    assert found is not None
    assert (found.p, found.verdict) == (None, "underpowered")
    assert "Best of 24 points" in table.footnotes[0]


def test_reported_values_and_differences(build: Build) -> None:
    table = build(
        {"base": [80.0], "arm": [81.0], "nan": ["diverged"]},
        reported={"base": {"top1": 79.8}, "arm": {"top1": 80.8, "overhead": 4.1}, "nan": {"top1": math.nan}},
    )
    assert [row.reported["top1"].value for row in table.rows] == [79.8, 80.8, None]
    assert [row.reported["top1"].delta for row in table.rows] == [None, 1.0, None]
    assert table.rows[1].reported["overhead"].delta is None
    assert any("'laptop'" in note for note in table.notes)


def test_at_the_papers_own_scale_no_scale_note_is_made(build: Build) -> None:
    assert build({"base": [80.0]}, reported={"base": {"top1": 79.8}}, profile="paper").notes == ()


def test_costs_are_paired_by_seed_and_may_be_absent(full: Table, build: Build) -> None:
    cost = full.rows[1].cost
    assert cost.overhead_percent == pytest.approx(10.0)
    assert cost.throughput_ratio == pytest.approx(1 / 1.1)
    assert cost.memory_ratio == pytest.approx(1.1)
    assert full.rows[3].cost.overhead_percent == pytest.approx(30.0)
    assert build({"base": [80.0], "arm": [81.0]}).rows[1].cost.overhead_percent is None


def test_the_account_counts_a_shared_trial_once() -> None:
    record = Record(identity="x", status="completed", spec={}, metrics={"top1": 80.0})
    rows = tuple(
        RowSpec(label=label, changes={}, identities=((0, "x"), (1, "y"))) for label in ("base", "same")
    )
    spec = TableSpec(
        study="s",
        question="",
        source="",
        profile="paper",
        metric="top1",
        mode="max",
        baseline="base",
        rows=rows,
    )
    table = build_table(spec, {"x": record})
    line = "2 planned = 1 completed + 0 failed + 0 diverged + 0 pruned + 1 missing"
    assert table.account.line() == line
    assert not table.complete
    again = account(spec, {"x": record}, cached={"x", "y"})
    assert again.line() == "2 planned = 0 completed + 0 failed + 0 diverged + 0 pruned + 1 cached + 1 missing"


@given(st.lists(st.integers(0, 9), min_size=6, max_size=6), st.integers(0, 60))
def test_an_account_balances_or_is_refused(counts: list[int], planned: int) -> None:
    names = ("completed", "failed", "diverged", "pruned", "missing", "cached")
    parts = dict(zip(names, counts, strict=True))
    if planned == sum(counts):
        assert str(planned) in Account(planned=planned, **parts).line()
    else:
        with pytest.raises(ValueError, match="does not balance"):
            Account(planned=planned, **parts)


def test_a_wrong_baseline_or_metric_names_the_alternatives(build: Build) -> None:
    with pytest.raises(SettingError, match=r"'bas' is no row .*did you mean 'base'.*rows: base, arm"):
        build({"base": [80.0], "arm": [81.0]}, baseline="bas")
    with pytest.raises(SettingError, match=r"'top2'.*'base' with seed 0.*did you mean 'top1'.*it has: top1"):
        build({"base": [80.0]}, metric="top2")


def test_versions_show_every_one_that_was_met(build: Build) -> None:
    table = build(
        {"base": [80.0], "arm": [81.0]},
        more={"base": {"versions": {"torch": "2.15"}}, "arm": {"versions": {"torch": "2.13"}}},
    )
    assert table.versions == {"torch": ("2.13", "2.15")}


def test_summary_counts_the_verdicts(full: Table) -> None:
    assert summary(full) == "Of 4 arms: 1 supported, 2 not supported, 1 underpowered."


def test_a_row_is_compared_with_its_own_baseline(build: Build) -> None:
    table = build(
        {"DeiT": [80.0, 81.0], "DeiT+": [81.0, 82.5], "Swin": [70.0, 72.0], "Swin+": [69.0, 70.5]},
        against={"Swin": None, "Swin+": "Swin"},
        reported={"DeiT": {"top1": 79.8}, "Swin": {"top1": 81.2}, "Swin+": {"top1": 82.2}},
        more={
            "DeiT": {"cost": {"step_ms": 10.0}},
            "Swin": {"cost": {"step_ms": 20.0}},
            "Swin+": {"cost": {"step_ms": 22.0}},
        },
    )
    deit, arm, swin, other = table.rows
    assert [row.is_baseline for row in table.rows] == [True, False, True, False]
    assert swin.comparison is None
    assert arm.comparison is not None
    assert other.comparison is not None
    assert (arm.comparison.delta, other.comparison.delta) == (1.25, -1.25)
    assert other.cost.overhead_percent == pytest.approx(10.0)
    assert other.reported["top1"].delta == 1.0
    assert swin.reported["top1"].delta is None
    assert deit.against is None
    # Every output says which.
    assert "| against |" in render_markdown(table)
    assert "| Swin+ |" in render_markdown(table)
    for text in (render_markdown(table), render_latex(table), render_page(table), render_csv(table)):
        assert "against" in text
    found = {row["label"]: row["against"] for row in json.loads(render_json(table))["rows"]}
    assert found == {"DeiT": None, "DeiT+": "DeiT", "Swin": None, "Swin+": "Swin"}
    assert "against" not in render_csv(build({"a": [1.0], "b": [2.0]})).splitlines()[0]


def test_further_metrics_have_differences_in_a_family_of_their_own(build: Build) -> None:
    losses = {"base": [1.0, 1.2, 1.1], "a": [0.8, 0.9, 0.9], "b": [1.0, 1.1, 1.2]}
    identities = {label: tuple((seed, f"{label}/{seed}") for seed in range(3)) for label in losses}
    records = {
        identity: Record(
            identity=identity,
            status="completed",
            spec={},
            metrics={"top1": 80.0 + seed, "val_loss": losses[label][seed]},
        )
        for label, pairs in identities.items()
        for seed, identity in pairs
    }
    spec = TableSpec(
        study="s",
        question="",
        source="",
        profile="paper",
        metric="top1",
        mode="max",
        baseline="base",
        rows=tuple(RowSpec(label=label, changes={}, identities=ids) for label, ids in identities.items()),
        columns=("val_loss",),
    )
    table = build_table(spec, records)
    base, a, b = (row.further["val_loss"] for row in table.rows)
    assert base.paired is None
    assert a.paired is not None
    assert b.paired is not None
    expected = stats.ttest_rel(losses["a"], losses["base"])
    assert a.paired.p == pytest.approx(expected.pvalue)
    assert a.p_holm == pytest.approx(2 * expected.pvalue)
    assert a.paired.delta == pytest.approx(-7 / 30)
    assert "val_loss_delta" in render_csv(table).splitlines()[0]
    assert "Δ val_loss" in render_page(table)
    assert json.loads(render_json(table))["rows"][1]["further"]["val_loss"]["paired"]["pairs"] == 3


def test_missing_and_pruned_seeds_are_said_and_never_averaged_over(build: Build) -> None:
    table = build(
        {
            "base": [80.0, 81.0, 80.4, 80.7],
            "gap": [82.0, None, 82.2, 82.9],
            "cut": [83.0, "pruned", 83.1, 84.0],
        }
    )
    gap, cut = table.rows[1:]
    assert gap.comparison is not None
    assert cut.comparison is not None
    assert (gap.n, gap.comparison.pairs) == (3, 3)
    assert gap.mean == pytest.approx((82.0 + 82.2 + 82.9) / 3)
    assert "3 pairs of 4 planned" in gap.comparison.reason
    assert table.footnotes[gap.footnotes[0] - 1] == "Seed 1 missing"
    assert (cut.comparison.verdict, cut.comparison.p, cut.comparison.low) == ("underpowered", None, None)
    # The pruned row is no test, so that the other one is a family of its own.
    assert gap.comparison.p_holm == gap.comparison.p


def test_effect_size_and_seeds_needed_reach_every_file(build: Build) -> None:
    table = build({"base": [80.0, 81.0, 80.5], "arm": [80.4, 81.2, 81.6]})
    head = render_csv(table).splitlines()[0]
    row = json.loads(render_json(table))["rows"][1]["comparison"]
    for key in ("effect", "effect_low", "seeds_needed", "bootstrap_low"):
        assert key in head
        assert key in row
    assert row["seeds_needed"] == 8
    assert "seeds for the Δ seen" in render_page(table)
