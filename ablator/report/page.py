"""The table as one HTML page that needs nothing beside itself: no script, no network, no font."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ablator.report import formatting, plots
from ablator.report.columns import GROUP_TITLES, Column, columns, detail_columns, grouped, search_columns
from ablator.report.table import Cell, Row, Table

TEMPLATES = Path(__file__).parent / "templates"


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


def with_section(page: str, section: str) -> str:
    """`page` with one more section (HTML) at its end."""
    before, end, after = page.rpartition("</main>")
    assert end, "a page has a main part"
    return f"{before}{section}{end}{after}"


def render_page(table: Table, costs: bool = True) -> str:
    """The page; with `costs=False` without measured costs and environment, so that the same records always
    give the same bytes. Every text of the study is escaped."""
    title = f"{table.spec.study} · {table.spec.profile}"
    return _template("page.html.j2").render(title=title, body=_body(table, costs, level=1))


def render_bound(tables: Sequence[Table], costs: bool = True) -> str:
    """One page of all tables: a list of contents with links, then what each study's own page shows."""
    studies = [
        {
            "anchor": f"study-{number}",
            "name": table.spec.study,
            "question": table.spec.question,
            "source": table.spec.source,
            "summary": formatting.summary(table),
            "trials": formatting.results_text(table),
            "holes": not table.complete,
            "body": _body(table, costs, level=2),
        }
        for number, table in enumerate(tables, start=1)
    ]
    title = formatting.studies_text(tables)
    profiles = dict.fromkeys(f"profile {table.spec.profile}" for table in tables)
    contents = _template("bound.html.j2").render(title=title, profiles=list(profiles), studies=studies)
    return _template("page.html.j2").render(title=title, body=Markup(f'<div class="bound">{contents}</div>'))


def _body(table: Table, costs: bool, *, level: int) -> Markup:
    """What the page shows of one study, with headings from `level` (1 to 5) on."""
    shown, tests = columns(table, costs=costs), detail_columns(table)
    text = _template("study.html.j2").render(
        level=level,
        spec=table.spec,
        summary=formatting.summary(table),
        rule=formatting.rule(),
        table=table,
        heads=[(GROUP_TITLES[group], group, count) for group, count in grouped(shown)],
        main=_grid(shown),
        seeds=_seed_grid(table),
        tests=_grid(tests) if len(tests) > 1 else None,
        forest=Markup(plots.forest(table)),
        curves=Markup(plots.curves(table)),
        drawn=len(plots.drawn_rows(table)),
        searches=[
            {
                "label": search.label,
                "summary": search.summary(),
                "grid": _grid(search_columns(search)),
                "history": Markup(plots.search_history(search)),
            }
            for search in table.searches
        ],
        costs=_cost_grid(table) if costs and table.seconds else None,
        duration=formatting.duration(table.seconds),
        environment=[(name, ", ".join(found)) for name, found in table.versions.items()] if costs else [],
    )
    return Markup(text)


def _grid(shown: Sequence[Column]) -> dict[str, Any]:
    """Titles and rows of (column, text) for the template."""
    lines = zip(*(column.cells for column in shown), strict=True)
    return {"columns": shown, "rows": [list(zip(shown, line, strict=True)) for line in lines]}


def _text_grid(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> dict[str, Any]:
    """`_grid` from lines; the first column is the arm."""
    shown = [
        Column(
            key="label" if index == 0 else title,
            title=title,
            group="arm" if index == 0 else "result",
            cells=tuple(line[index] for line in lines),
            numeric=index > 0 and title != "why this verdict",
        )
        for index, title in enumerate(titles)
    ]
    return _grid(shown)


def _seed_grid(table: Table) -> dict[str, Any]:
    digits = formatting.table_decimals(table)
    seeds = sorted({cell.seed for row in table.rows for cell in row.cells})

    def text(cell: Cell | None) -> str:
        if cell is None:
            return ""
        return formatting.number(cell.value, digits) if cell.value is not None else cell.word or cell.status

    lines = []
    for row in table.rows:
        cells = {cell.seed: cell for cell in row.cells}
        why = row.comparison.reason if row.comparison else ""
        lines.append([row.label, *(text(cells.get(seed)) for seed in seeds), why])
    return _text_grid(["arm", *(f"seed {seed}" for seed in seeds), "why this verdict"], lines)


def _cost_grid(table: Table) -> dict[str, Any]:
    def line(row: Row) -> list[str]:
        cost = row.cost
        return [
            row.label,
            formatting.number(cost.step_ms, 1),
            formatting.number(cost.images_per_second, 0),
            formatting.number(cost.peak_memory_mb, 0),
            formatting.millions(row.size.training_parameters),
            formatting.duration(cost.seconds),
        ]

    titles = ["arm", "step (ms)", "images/s", "peak memory (MB)", "params in training (M)", "time, all seeds"]
    return _text_grid(titles, [line(row) for row in table.rows])
