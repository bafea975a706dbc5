"""The table as one HTML page that needs nothing beside itself: no network, no font, and one script, named by
its hash, without which everything is there below each other."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ablator.report import formatting, panels, plots, search_plots, tradeoff
from ablator.report.columns import (
    GROUP_TITLES,
    Column,
    columns,
    detail_columns,
    grouped,
    interaction_columns,
    search_columns,
)
from ablator.report.design import design
from ablator.report.disturbed import disturbed_line
from ablator.report.drawing import scoped
from ablator.report.interactions import RULE
from ablator.report.search import SearchTable
from ablator.report.table import Table

TEMPLATES = Path(__file__).parent / "templates"
PANELS = {
    "results": "Results",
    "design": "Design",
    "effects": "Effects",
    "curves": "Curves",
    "cost": "Cost",
    "seeds": "Seeds",
    "searches": "Searches",
    "models": "Models",
    "environment": "Environment",
}
"""Parts of a study's page and their titles, in order; those with nothing to show are left out."""


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


@functools.cache
def script() -> str:
    """The page's only script, the same on every page."""
    return (TEMPLATES / "script.js").read_text(encoding="utf-8")


@functools.cache
def policy() -> str:
    """What the page may load: nothing, but its own script, styles and pictures."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def render_page(table: Table, costs: bool = True, models: str = "") -> str:
    """The page; with `costs=False` without measured costs, environment and links, so that the same records
    always give the same bytes. Every text of the study is escaped. `models` is HTML of what its trained
    models learned."""
    title = f"{table.spec.study} · {table.spec.profile}"
    return _page(title, _body(table, costs, level=1, scope="", models=models))


def render_bound(tables: Sequence[Table], costs: bool = True) -> str:
    """One page of all tables: a list of contents with links, then what each study's own page shows."""
    anchors = _anchors([table.spec.study for table in tables])
    studies = [
        {
            "anchor": anchor,
            "name": table.spec.study,
            "question": table.spec.question,
            "source": table.spec.source,
            "summary": formatting.summary(table),
            "trials": formatting.results_text(table),
            "holes": not table.complete,
            "body": _body(table, costs, level=2, scope=f"{anchor}-"),
        }
        for anchor, table in zip(anchors, tables, strict=True)
    ]
    title = formatting.studies_text(tables)
    profiles = dict.fromkeys(f"profile {table.spec.profile}" for table in tables)
    shared, seconds = panels.shared_between(tables)
    contents = _template("bound.html.j2").render(
        title=title,
        profiles=list(profiles),
        studies=studies,
        shared=shared,
        saved=formatting.duration(seconds) if costs and seconds else "",
    )
    return _page(title, Markup(f'<div class="bound">{contents}</div>'))


def _page(title: str, body: Markup) -> str:
    fixed = {"policy": Markup(policy()), "script": Markup(script())}
    return _template("page.html.j2").render(title=title, body=body, **fixed)


def _anchors(names: Sequence[str]) -> list[str]:
    """A name for each study that can stand in an address."""
    made: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "study"
        number = 2
        anchor = plain
        while anchor in made:
            anchor, number = f"{plain}-{number}", number + 1
        made.append(anchor)
    return made


def _body(table: Table, costs: bool, *, level: int, scope: str, models: str = "") -> Markup:
    """What the page shows of one study, with headings from `level` (1 to 4) on and `scope` before its ids."""
    shown = columns(table, costs=costs)
    figure = functools.partial(_figure, scope=scope)
    arms = sum(row.comparison is not None for row in table.rows)
    tests = detail_columns(table)
    parts: dict[str, Any] = {
        "tests": _grid(tests, table) if len(tests) > 1 else None,
        "forest": figure(plots.forest(table)),
        "curves": figure(plots.curves(table)),
        "tradeoffs": [figure(tradeoff.draw(table, price)) for price in tradeoff.prices(table, costs)],
        "costs": _grid(panels.cost_columns(table), table) if costs and table.seconds else None,
        "searches": [_search(search, scope) for search in table.searches],
        "design": design(table),
        "interactions": _grid(interaction_columns(table)) if table.interactions else None,
        "environment": panels.environment(table) if costs else None,
        "models": Markup(models),
    }
    there = {
        **parts,
        "results": True,
        "design": parts["design"].keys or table.spec.command,
        "effects": parts["forest"] or parts["interactions"] or parts["tests"],
        "cost": parts["tradeoffs"] or parts["costs"],
        "seeds": True,
    }
    return Markup(
        _template("study.html.j2").render(
            **parts,
            panels=[
                {"key": key, "id": f"{scope}{key}", "title": title}
                for key, title in PANELS.items()
                if there[key]
            ],
            scope=scope,
            level=level,
            spec=table.spec,
            summary=formatting.summary(table),
            rule=_coded(formatting.rule(table.spec)),
            interaction_rule=RULE,
            table=table,
            heads=[(GROUP_TITLES[group], group, count) for group, count in grouped(shown)],
            reported=any(column.group == "reported" for column in shown),
            main=_grid(shown, table, together=True),
            hidden=max(0, arms - plots.FOREST_ROWS),
            largest=plots.FOREST_ROWS,
            drawn=len(plots.drawn_rows(table)),
            seeds=panels.seed_numbers(table),
            seed_rows=panels.seed_map(table, links=costs),
            commands=[(row.label, row.command) for row in table.spec.rows if row.command],
            time=panels.time_lines(table),
            duration=formatting.duration(table.seconds),
            disturbed=disturbed_line(table.disturbed) if costs and table.disturbed else "",
        )
    )


def _figure(text: str, scope: str) -> Markup:
    return Markup(scoped(text, scope.removesuffix("-")) if scope else text)


def _coded(text: str) -> Markup:
    """The text with what stands between backticks as code."""
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text))))


def _search(search: SearchTable, scope: str) -> dict[str, Any]:
    return {
        "label": search.label,
        "summary": search.summary(),
        "grid": _grid(search_columns(search)),
        "history": _figure(plots.search_history(search), scope),
        "importances": _figure(search_plots.importances(search), scope),
        "coordinates": _figure(search_plots.coordinates(search), scope),
    }


def _grid(shown: Sequence[Column], table: Table | None = None, *, together: bool = False) -> dict[str, Any]:
    """Titles, and groups of rows of (column, text), for the template. The columns are those of the table's
    rows, if there is one; `together` puts the rows that have the same baseline into a group."""
    lines = [list(zip(shown, line, strict=True)) for line in zip(*(c.cells for c in shown), strict=True)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for index, cells in enumerate(lines):
        row = table.rows[index] if table else None
        group = (row.against or row.label) if row and together else ""
        groups.setdefault(group, []).append({"cells": cells, "baseline": bool(row and row.is_baseline)})
    return {"columns": shown, "groups": [{"rows": rows} for rows in groups.values()] or [{"rows": []}]}
