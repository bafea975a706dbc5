"""The page's panels: what each says, that its script is the one its policy names, and that it stays small."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable

from ablator.contracts.record import Record
from ablator.report import panels, tradeoff
from ablator.report.building import build_table
from ablator.report.design import design, dotted
from ablator.report.page import render_bound, render_page
from ablator.report.search import SearchPoint, build_search
from ablator.report.spending import spend
from ablator.report.table import RowSpec, Table, TableSpec

Build = Callable[..., Table]


def panel(page: str, name: str) -> str:
    """One panel's HTML."""
    found = re.search(rf'<section class="panel" id="{name}">(.*?)</section>', page, flags=re.DOTALL)
    assert found, name
    return found.group(1)


def test_the_policy_names_exactly_the_script_that_is_there(full: Table) -> None:
    for page in (render_page(full), render_bound([full, full])):
        script = re.search(r"<script>(.*?)</script>", page, flags=re.DOTALL)
        assert script
        digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}';" in page.replace("&#39;", "'")


def test_every_tab_leads_to_a_panel_and_empty_ones_are_left_out(full: Table, build: Build) -> None:
    page = render_page(full)
    tabs = re.findall(r'<nav class="tabs".*?</nav>', page, flags=re.DOTALL)
    ids = re.findall(r'href="#(\w+)"', tabs[0])
    assert ids == ["results", "design", "effects", "curves", "cost", "seeds", "environment"]
    assert re.findall(r'class="panel" id="(\w+)"', page) == ids
    bare = render_page(build({"base": [80.0], "arm": [None]}))
    assert 'id="curves"' not in bare
    assert 'id="environment"' not in bare
    assert "trained models" not in page
    assert "of kept weights" in panel(render_page(full, models="<p>of kept weights</p>"), "models")


def test_rows_are_grouped_by_their_baseline(build: Build) -> None:
    table = build(
        {"base": [1.0, 2.0], "other": [3.0, 4.5], "arm": [2.0, 3.5], "second": [4.0, 4.1]},
        against={"other": None, "second": "other"},
    )
    groups = re.findall(r"<tbody>(.*?)</tbody>", panel(render_page(table), "results"), flags=re.DOTALL)
    labels = [re.findall(r'<th scope="row" class="arm">([^<]*)', group) for group in groups]
    assert labels == [["base", "arm"], ["other", "second"]]
    assert all(group.count('class="baseline"') == 1 for group in groups)


def test_the_seeds_say_states_in_words_and_lead_to_runs(full: Table) -> None:
    link = "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    linked = dataclasses.replace(full, links={"n = 8, soft/0": link})
    text = panel(render_page(linked), "seeds")
    assert f'<a href="{link}" rel="noreferrer">81.50</a>' in text
    assert text.count("<a ") == 1, "no link where MLflow has no run"
    for word in ("✕ failed", "∞ diverged", "○ missing"):
        assert word in text
    assert 'title="diverged on purpose"' in text
    assert "<a " not in panel(render_page(linked, costs=False), "seeds"), "links are no part of the records"


def test_shades_follow_what_is_better(build: Build) -> None:
    arms = {"base": [1.0, 2.0], "arm": [3.0, 9.0]}
    shades = [[cell.shade for cell in row.cells] for row in panels.seed_map(build(arms))]
    assert shades == [[0, 0], [1, 4]]
    lower = panels.seed_map(build(arms, mode="min"))
    assert [[cell.shade for cell in row.cells] for row in lower] == [[4, 4], [3, 0]]


def test_the_design_shows_what_rows_do_not_say() -> None:
    rows = (
        RowSpec(label="base", changes={}, identities=(), resolved={"train.lr": 0.1, "model.name": "a"}),
        RowSpec(
            label="arm",
            changes={"moto": {}, "moto.n": 8},
            identities=(),
            resolved={"train.lr": 0.1, "moto.n": 8, "model.name": "a"},
        ),
        RowSpec(label="slow", changes={"train.lr": 0.01}, identities=(), resolved={"train.lr": 0.01}),
    )
    spec = TableSpec(
        study="s",
        question="",
        source="",
        profile="p",
        metric="top1",
        mode="max",
        baseline="base",
        rows=rows,
    )
    found = design(build_table(spec, {}))
    assert found.keys == ("model.name", "moto.n", "train.lr"), "rows have different models"
    values = {row.label: row.values[1:] for row in found.rows}
    assert values == {
        "base": (("–", False), ("0.1", False)),
        "arm": (("8", True), ("0.1", False)),
        "slow": (("–", False), ("0.01", True)),
    }
    assert dotted({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 7.0), (3.0, 7.0), (4.0, 9.0), (1.0, 5.0)]
    assert tradeoff.front(points, "max") == [0, 2, 4]
    assert tradeoff.front(points, "min") == [0, 1]


def test_only_costs_in_which_rows_differ_are_drawn(full: Table) -> None:
    assert [price.key for price in tradeoff.prices(full)] == ["parameters", "gmacs", "step"]
    assert [price.key for price in tradeoff.prices(full, costs=False)] == ["parameters", "gmacs"]
    same = [dataclasses.replace(row, size=full.rows[0].size) for row in full.rows]
    alike = dataclasses.replace(full, rows=tuple(same))
    assert [price.key for price in tradeoff.prices(alike)] == ["step"]


def test_the_account_of_time_comes_from_the_records() -> None:
    def record(identity: str, status: str, epochs: int) -> Record:
        return Record(
            identity=identity,
            status=status,  # type: ignore[arg-type]
            spec={"train": {"epochs": 10}},
            metrics={"top1": 1.0},
            curves=tuple({"epoch": float(epoch), "top1": 1.0} for epoch in range(1, epochs + 1)),
            cost={"train_seconds": 3.0 * epochs, "eval_seconds": 1.0 * epochs},
            started=100.0,
            finished=105.0 + 4.0 * epochs,
        )

    records = [record("a", "completed", 10), record("b", "pruned", 4)]
    spent = spend(records, ["a", "b", "a", "lost", "lost"])
    assert (spent.training, spent.evaluation, spent.overhead) == (42.0, 14.0, 10.0)
    assert (spent.shared, spent.shared_trials) == (40.0, 1)
    assert (spent.stopped, spent.stopped_trials, spent.stopped_epochs) == (24.0, 1, 6)


def test_environments_are_told_apart(build: Build) -> None:
    def versions(dirty: str) -> dict[str, object]:
        return {"versions": {"torch": "2", "git_dirty": dirty}}

    table = build(
        {"base": [1.0, 2.0], "arm": [2.0]}, more={"base": versions("false"), "arm": versions("true")}
    )
    found = panels.environment(table)
    assert found is not None
    assert found.agreed == (("torch", "2"),)
    assert found.groups == ((2, ("false",)), (1, ("true",)))
    assert "1 trials were trained by code with changes" in panel(render_page(table), "environment")


def test_a_search_shows_optunas_pictures_without_a_warning(build: Build) -> None:
    from ablator.study.spaces import Dimension

    space = {
        "moto.n": Dimension(kind="categorical", choices=(2, 4, 8)),
        "train.lr": Dimension(kind="float", low=1e-4, high=1e-1, log=True),
        "moto.tau": Dimension(kind="float", low=0.0, high=1.0),
    }
    points = [
        SearchPoint(
            params={"moto.n": (2, 4, 8)[i % 3], "train.lr": 1e-4 * 1.8**i}
            | ({"moto.tau": i / 12} if i % 2 else {}),
            value=70.0 + i - 3 * (i % 3),
            status="completed",
            identity=str(i),
        )
        for i in range(12)
    ]
    search = build_search("<best>", "top1", "max", points)
    table = build({"base": [80.0]}, searches=[dataclasses.replace(search, dimensions=space)])
    first, second = (panel(render_page(table), "searches") for _ in range(2))
    assert first == second, "the same records give the same bytes"
    assert first.count("<svg") == 3
    assert "PED-ANOVA" in first
    assert "train.lr" in first
    few = dataclasses.replace(search, points=search.points[:2], dimensions=space)
    bare = panel(render_page(build({"base": [80.0]}, searches=[few])), "searches")
    assert bare.count("<svg") == 1, "two points say nothing about dimensions"


def test_two_hundred_trials_weigh_less_than_three_megabytes(build: Build) -> None:
    curves = tuple({"epoch": float(epoch), "top1": 50.0 + epoch % 7} for epoch in range(1, 301))
    arms = {f"arm {index}": [80.0 + index, 81.0, 82.0, 83.0, 84.0] for index in range(40)}
    more = {
        label: {"curves": curves, "size": {"parameters": 1e6 * (index + 1), "gmacs": float(index)}}
        for index, label in enumerate(arms)
    }
    assert len(render_page(build(arms, more=more)).encode()) < 3e6
