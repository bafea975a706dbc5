"""Interactions, rows that leave something out, and tables that test nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from ablator.contracts.record import Record
from ablator.report import csv, latex, markdown, page, terminal
from ablator.report.building import build_table
from ablator.report.interactions import InteractionSpec, Measured, build_interactions
from ablator.report.table import RowSpec, Table, TableSpec

AB = InteractionSpec(label="A × B", terms=((1, "A + B"), (-1, "A"), (-1, "B"), (1, "base")))
VALUES = {
    "base": [80.0, 80.2, 80.1, 80.4],
    "A": [81.0, 81.1, 81.2, 81.3],
    "B": [80.5, 80.8, 80.6, 81.0],
    "A + B": [83.0, 83.2, 83.3, 83.3],
}


def _measured(values: Sequence[float | None], reported: float | None = None, diverged: int = 0) -> Measured:
    found = {seed: value for seed, value in enumerate(values) if value is not None}
    return Measured(values=found, diverged=diverged, planned=len(values), reported=reported)


def _table(values: dict[str, list[float]], removes: str = "", **spec: Any) -> Table:
    rows, records = [], {}
    for label, numbers in values.items():
        identities = tuple((seed, f"{label}/{seed}") for seed in range(len(numbers)))
        for (seed, identity), value in zip(identities, numbers, strict=True):
            records[identity] = Record(
                identity=identity, status="completed", spec={"seed": seed}, metrics={"top1": value}
            )
        against = "A + B" if label == removes else None
        rows.append(
            RowSpec(label=label, changes={}, identities=identities, removes=label == removes, against=against)
        )
    settings: dict[str, Any] = {
        "study": "demo",
        "question": "Q?",
        "source": "",
        "profile": "paper",
        "mode": "max",
    }
    settings |= {"metric": "top1", "baseline": "base", "rows": tuple(rows), **spec}
    return build_table(TableSpec(**settings), records)


def test_an_interaction_is_the_paired_test_of_its_sum_by_seed() -> None:
    (found,) = build_interactions([AB], {label: _measured(v) for label, v in VALUES.items()}, mode="max")
    sums = [
        ab - a - b + base
        for ab, a, b, base in zip(*(VALUES[k] for k in ("A + B", "A", "B", "base")), strict=True)
    ]
    test = stats.ttest_1samp(sums, 0.0)
    assert found.comparison.delta == pytest.approx(sum(sums) / 4)
    assert found.comparison.p == pytest.approx(test.pvalue)
    assert (found.comparison.low, found.comparison.high) == pytest.approx(
        tuple(test.confidence_interval(0.95))
    )
    assert (found.comparison.verdict, found.comparison.reason) == (
        "supported",
        "more than the sum of the parts",
    )


@settings(max_examples=25)
@given(a=st.floats(-5, 5), b=st.floats(-5, 5), noise=st.lists(st.floats(-1, 1), min_size=3, max_size=5))
def test_parts_that_add_up_have_no_interaction(a: float, b: float, noise: list[float]) -> None:
    shifts = {"base": 0.0, "A": a, "B": b, "A + B": a + b}
    rows = {label: _measured([50.0 + n + shift for n in noise]) for label, shift in shifts.items()}
    (found,) = build_interactions([AB], rows, mode="max")
    assert found.comparison.delta == pytest.approx(0.0, abs=1e-9)
    assert found.comparison.verdict != "supported"


def test_only_seeds_that_all_rows_have_count_and_a_divergence_is_no_support() -> None:
    rows = {label: _measured(values) for label, values in VALUES.items()}
    rows["A"] = _measured([81.0, None, 81.2, 81.3], diverged=1)
    (found,) = build_interactions([AB], rows, mode="max")
    assert found.comparison.pairs == 3
    assert found.comparison.verdict == "not supported"
    assert found.comparison.reason.startswith("diverged")


def test_interactions_are_a_family_of_their_own_and_know_what_the_source_says() -> None:
    numbers = {"base": 79.8, "A": 81.6, "B": 80.7, "A + B": 82.6}
    rows = {label: _measured(VALUES[label], numbers[label]) for label in VALUES}
    again = InteractionSpec(label="again", terms=AB.terms)
    one, two = build_interactions([AB, again], rows, mode="max")
    assert one.reported == 0.1
    assert one.comparison.p is not None
    assert one.comparison.p_holm == two.comparison.p_holm == pytest.approx(2 * one.comparison.p)
    rows["B"] = _measured(VALUES["B"])
    (unknown,) = build_interactions([AB], rows, mode="max")
    assert unknown.reported is None
    assert unknown.comparison.p_holm == unknown.comparison.p
    (worse,) = build_interactions([AB], rows, mode="min")
    assert worse.comparison.reason == "less than the sum of the parts", "of a loss, more is worse"


def test_every_output_shows_them(build: Callable[..., Table]) -> None:
    table = _table(VALUES, interactions=(AB,))
    (found,) = table.interactions
    console = Console(file=io.StringIO(), width=100)
    console.print(terminal.render_terminal(table, width=100))
    assert isinstance(console.file, io.StringIO)
    texts = [console.file.getvalue(), markdown.render_markdown(table), page.render_page(table)]
    for text in texts:
        assert "Interactions" in text
        assert "A × B" in text
        assert "+1.50" in text
    assert r"A $\times$ B & 4 & +1.50" in latex.render_latex(table)
    assert (
        json.loads(csv.render_json(table))["interactions"][0]["comparison"]["delta"] == found.comparison.delta
    )
    frame = pd.read_csv(io.StringIO(csv.render_csv(table)))
    assert frame["arm"].tolist() == [*VALUES, "A × B"]
    assert frame["delta"].tolist()[-1] == found.comparison.delta
    plain = build({"base": [80.0, 81.0], "arm": [81.0, 82.5]})
    assert "Interactions" not in markdown.render_markdown(plain) + page.render_page(plain)


def test_a_row_that_leaves_something_out_is_asked_whether_it_is_worse() -> None:
    table = _table(VALUES, removes="A")
    _, without, alone, full = table.rows
    assert (without.label, without.against, alone.against, full.against) == ("A", "A + B", "base", "base")
    assert without.comparison is not None
    assert without.comparison.delta == pytest.approx(-2.05)
    assert (without.comparison.verdict, without.comparison.reason) == ("supported", "worse without it")
    assert table.several_baselines, "the column `against` says which row Δ is of"
    better = {**VALUES, "A": [85.0, 85.2, 85.3, 85.4]}
    found = _table(better, removes="A").rows[1].comparison
    assert found is not None
    assert (found.verdict, found.reason) == ("not supported", "better without it")


def test_a_study_that_asks_for_no_test_shows_differences_alone() -> None:
    table = _table(VALUES, interactions=(AB,), test="none")
    text = markdown.render_markdown(table)
    assert "+0.9" in text
    assert "Of 3 arms: none tested, as the study asks." in text
    header = next(line for line in text.splitlines() if line.startswith("| arm"))
    assert "verdict" not in header
    assert "interval" not in header
    assert "p (Holm)" not in header
    assert all(row.comparison is None or row.comparison.p is None for row in table.rows)
    assert table.interactions[0].comparison.p is None
