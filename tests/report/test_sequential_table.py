"""The table of a study whose rows got their seeds one at a time."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable

import pytest
from scipy import stats

from ablator.contracts.record import Record
from ablator.report.building import build_table
from ablator.report.csv import render_csv, render_json
from ablator.report.interactions import InteractionSpec
from ablator.report.latex import render_latex
from ablator.report.markdown import render_markdown
from ablator.report.page import render_page
from ablator.report.sequential import SequentialDesign
from ablator.report.table import RowSpec, Table, TableSpec

Build = Callable[..., Table]
DESIGN = SequentialDesign(least=3, most=8)
BASE = [80.0, 80.4, 79.7, 80.1, 80.3]
ROWS = {
    "base": BASE,
    "clear": [value + effect for value, effect in zip(BASE[:3], (2.0, 2.003, 2.001), strict=True)],
    "open": [value + effect for value, effect in zip(BASE, (0.5, 1.2, -0.1, 0.9, 0.6), strict=True)],
    "worse": [value - effect for value, effect in zip(BASE[:3], (0.5, 1.9, 0.7), strict=True)],
}


def test_p_is_that_of_the_looks_and_intervals_are_wider(build: Build) -> None:
    looked = build(ROWS, sequential=DESIGN)
    fixed = build(ROWS)
    for row, other in zip(looked.rows[1:], fixed.rows[1:], strict=True):
        one, whole = row.comparison, other.comparison
        assert one is not None
        assert whole is not None
        assert (one.delta, one.pairs) == (whole.delta, whole.pairs)
        assert (one.p or 0.0) >= (whole.p or 1.0)
        assert (one.high or 0.0) - (one.low or 0.0) > (whole.high or 0.0) - (whole.low or 0.0)
        reach = stats.t.isf(0.02, one.pairs - 1) * (one.deviation or 0.0) / math.sqrt(one.pairs)
        assert one.high == pytest.approx((one.delta or 0.0) + reach)


def test_rows_say_whether_they_are_decided(build: Build) -> None:
    rows = {row.label: row.comparison for row in build(ROWS, sequential=DESIGN).rows}
    assert rows["clear"] is not None
    assert rows["clear"].verdict == "supported"
    assert rows["open"] is not None
    assert rows["open"].reason == "open after 5 pairs, up to 8 seeds"
    assert rows["worse"] is not None
    assert "below 5 % of support by 8" in rows["worse"].reason


def test_a_row_that_leaves_something_out_is_decided_by_being_worse() -> None:
    values = {"full": BASE[:3], "without": [value - 2.0 - 0.01 * n for n, value in enumerate(BASE[:3])]}
    records = {
        f"{label}/{seed}": Record(
            identity=f"{label}/{seed}", spec={}, status="completed", metrics={"top1": value}
        )
        for label, own in values.items()
        for seed, value in enumerate(own)
    }
    rows = tuple(
        RowSpec(
            label=label,
            changes={"moto.n": 2} if label != "full" else {},
            identities=tuple((seed, f"{label}/{seed}") for seed in range(3)),
            removes=label != "full",
        )
        for label in values
    )
    spec = TableSpec(
        study="demo",
        question="",
        source="",
        profile="laptop",
        metric="top1",
        mode="max",
        baseline="full",
        rows=rows,
        sequential=DESIGN,
    )
    found = build_table(spec, records).rows[1].comparison
    assert found is not None
    assert (found.verdict, found.reason) == ("supported", "worse without it")


def test_every_format_says_how_seeds_were_given(build: Build) -> None:
    table = build(ROWS, sequential=DESIGN)
    markdown, page = render_markdown(table), render_page(table)
    for text in (markdown, page):
        assert "Sequential seeds: 3 for every row, then one more at a time, up to 8" in text
        assert "valid at every look" in text
        assert "two-sided paired t test" not in text
    assert "one more at a time" in render_latex(table)
    found = json.loads(render_json(table))
    assert found["study"]["sequential"] == {"least": 3, "most": 8}
    assert [row["n"] for row in found["rows"]] == [5, 3, 5, 3]
    assert "open after 5 pairs, up to 8 seeds" in render_csv(table)


def test_other_metrics_and_interactions_are_described_and_not_tested(build: Build) -> None:
    more = {label: {} for label in ROWS}
    table = build(
        ROWS,
        more=more,
        sequential=DESIGN,
        columns=("top1",),
        interactions=(
            InteractionSpec(
                label="clear × open", terms=((1, "worse"), (-1, "clear"), (-1, "open"), (1, "base"))
            ),
        ),
    )
    further = table.rows[1].further["top1"]
    assert further.p_holm is None
    assert further.paired is not None
    assert further.paired.low is not None
    assert table.interactions[0].comparison.p is None
    assert any("further metrics and interactions are described and not tested" in n for n in table.notes)


def test_what_was_saved_is_in_the_account(build: Build) -> None:
    cost = {"train_seconds": 30.0, "eval_seconds": 6.0}
    table = build(ROWS, more={label: {"cost": cost} for label in ROWS}, sequential=DESIGN)
    assert table.spending.decided_trials == 0
    spared = [dataclasses.replace(row, spared=DESIGN.most - len(row.identities)) for row in table.spec.rows]
    records = {
        cell.identity: Record(
            identity=cell.identity,
            spec={},
            status="completed",
            metrics={"top1": cell.value or 0.0},
            cost=cost,
        )
        for row in table.rows
        for cell in row.cells
    }
    found = build_table(dataclasses.replace(table.spec, rows=tuple(spared)), records)
    assert found.spending.decided_trials == 3 + 5 + 3 + 5
    assert found.spending.decided == pytest.approx(16 * 36.0)
    text = re.sub("<[^>]+>", "", render_page(found))
    assert "16 of the fixed design" in text
    assert "32 trials (50 %)" in text
