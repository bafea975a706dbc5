"""The columns of the table, once for every output: which there are, what they are called, what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from ablator.report import formatting
from ablator.report.interactions import Interaction
from ablator.report.search import SearchTable
from ablator.report.statistics import Comparison
from ablator.report.table import Reported, Row, Table

Group = Literal["arm", "result", "test", "further", "size", "cost", "reported"]
GROUP_TITLES: dict[Group, str] = {
    "arm": "",
    "result": "This run",
    "test": "This run",
    "further": "This run",
    "size": "Size",
    "cost": "Cost, relative",
    "reported": "Reported",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column as text; every cell is what a reader sees, before an output escapes it."""

    key: str
    title: str
    group: Group
    cells: tuple[str, ...]
    """One for each row of the table; empty where there is nothing to say."""
    numeric: bool = True
    """Aligned to the right."""


def columns(table: Table, *, costs: bool = True) -> list[Column]:
    """Every column with something in it, in reading order; `costs` adds what was measured in time and
    memory, which differs from run to run."""
    groups = [
        _arm(table),
        *_results(table),
        *_further(table),
        *_reported(table),
        *_sizes(table),
        *(_costs(table) if costs else ()),
    ]
    return [column for column in groups if any(column.cells)]


def detail_columns(table: Table) -> list[Column]:
    """What stands behind each verdict: effect size, what the pairs could see, what further metrics did."""
    digits = formatting.table_decimals(table)

    def column(key: str, title: str, cell: Callable[[Comparison], str]) -> Column:
        return _column(table, key, title, "test", lambda row: cell(row.comparison) if row.comparison else "")

    def further(metric: str) -> Column:
        decimals = formatting.decimals_of(row.further[metric].mean for row in table.rows)

        def cell(row: Row) -> str:
            pair = row.further[metric].paired
            if pair is None or pair.delta is None:
                return ""
            ends = formatting.interval(pair.low, pair.high, decimals)
            return f"{formatting.signed(pair.delta, decimals)} {ends}".rstrip()

        return _column(table, f"further_{metric}_delta", f"Δ {metric}", "further", cell)

    shown = [
        _arm(table),
        column("effect", "effect (Hedges' g)", lambda one: formatting.signed(one.effect, 2)),
        column(
            "effect_interval",
            "95 % interval of the effect",
            lambda one: formatting.interval(one.effect_low, one.effect_high, 2),
        ),
        column(
            "bootstrap",
            "95 % interval of Δ, bootstrap",
            lambda one: formatting.interval(one.bootstrap_low, one.bootstrap_high, digits),
        ),
        column("detectable", "smallest Δ to be found", lambda one: formatting.number(one.detectable, digits)),
        column(
            "seeds_needed",
            "seeds for the Δ seen",
            lambda one: "" if one.seeds_needed is None else str(one.seeds_needed),
        ),
        *map(further, table.spec.columns),
    ]
    return [column for column in shown if any(column.cells)]


def grouped(shown: Sequence[Column]) -> list[tuple[Group, int]]:
    """Neighbouring columns under one heading: (first group, number of columns)."""
    spans: list[tuple[Group, int]] = []
    for column in shown:
        if spans and GROUP_TITLES[spans[-1][0]] == GROUP_TITLES[column.group]:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans


def _column(
    table: Table, key: str, title: str, group: Group, cell: Callable[[Row], str], *, numeric: bool = True
) -> Column:
    return Column(key=key, title=title, group=group, cells=tuple(map(cell, table.rows)), numeric=numeric)


def _arm(table: Table) -> Column:
    return _column(table, "label", "arm", "arm", formatting.label_text, numeric=False)


def _against(table: Table) -> list[Column]:
    """Which row each one is compared with, where that is not the same for all."""
    if not table.several_baselines:
        return []
    return [_column(table, "against", "against", "result", lambda row: row.against or "", numeric=False)]


def _results(table: Table) -> list[Column]:
    digits = formatting.table_decimals(table)
    title = f"{table.spec.metric} {formatting.ARROWS[table.spec.mode]}"

    def delta(row: Row) -> str:
        return formatting.signed(row.comparison.delta, digits) if row.comparison else ""

    def interval(row: Row) -> str:
        found = row.comparison
        return formatting.interval(found.low, found.high, digits) if found else ""

    def p(row: Row) -> str:
        return formatting.p_value(row.comparison.p_holm) if row.comparison else ""

    def verdict(row: Row) -> str:
        return row.comparison.verdict if row.comparison and table.spec.test != "none" else ""

    return [
        _column(table, "value", title, "result", lambda row: formatting.value_text(row, digits)),
        _column(table, "n", "n", "result", formatting.count_text),
        *_against(table),
        _column(table, "delta", "Δ", "result", delta),
        _column(table, "interval", "95 % interval", "result", interval),
        _column(table, "p", "p (Holm)", "test", p),
        _column(table, "verdict", "verdict", "test", verdict, numeric=False),
    ]


def _further(table: Table) -> list[Column]:
    def column(metric: str) -> Column:
        digits = formatting.decimals_of(row.further[metric].mean for row in table.rows)
        return _column(
            table,
            f"further_{metric}",
            metric,
            "further",
            lambda row: formatting.further_text(row.further[metric], digits),
        )

    return [column(metric) for metric in table.spec.columns]


def _sizes(table: Table) -> list[Column]:
    return [
        _column(
            table, "parameters", "params (M)", "size", lambda row: formatting.millions(row.size.parameters)
        ),
        _column(table, "gmacs", "GFLOPs", "size", lambda row: formatting.giga(row.size.gmacs)),
    ]


def _costs(table: Table) -> list[Column]:
    def unless_baseline(text: Callable[[Row], str]) -> Callable[[Row], str]:
        return lambda row: "" if row.is_baseline else text(row)

    def overhead(row: Row) -> str:
        text = formatting.signed(row.cost.overhead_percent, 1)
        return f"{text} %" if text else ""

    return [
        _column(table, "overhead", "step time", "cost", unless_baseline(overhead)),
        _column(
            table,
            "throughput",
            "images/s",
            "cost",
            unless_baseline(lambda row: formatting.ratio(row.cost.throughput_ratio)),
        ),
        _column(
            table,
            "memory",
            "memory",
            "cost",
            unless_baseline(lambda row: formatting.ratio(row.cost.memory_ratio)),
        ),
    ]


def _reported(table: Table) -> list[Column]:
    metric = table.spec.metric
    keys = dict.fromkeys([metric, *(key for row in table.rows for key in row.reported)])
    made = []
    for key in keys:
        column = [row.reported.get(key) for row in table.rows]
        digits = formatting.printed_decimals(item.value for item in column if item is not None)
        title = key.replace("_", " ")
        cells = tuple(_reported_text(item, digits) for item in column)
        made.append(Column(key=f"reported_{key}", title=f"reported {title}", group="reported", cells=cells))
        if key == metric:
            deltas = tuple(formatting.signed(item.delta, digits) if item else "" for item in column)
            made.append(Column(key="reported_delta", title="reported Δ", group="reported", cells=deltas))
    return made


def _reported_text(item: Reported | None, digits: int) -> str:
    if item is None:
        return ""
    return item.word or formatting.number(item.value, digits)


def interaction_columns(table: Table) -> list[Column]:
    """Every interaction with its effect: a line each, and the columns with something in them."""
    digits = formatting.table_decimals(table)
    printed = formatting.printed_decimals(item.reported for item in table.interactions)
    tested = table.spec.test != "none"

    def column(
        key: str, title: str, group: Group, cell: Callable[[Interaction], str], *, numeric: bool = True
    ) -> Column:
        return Column(
            key=key, title=title, group=group, cells=tuple(map(cell, table.interactions)), numeric=numeric
        )

    found = [
        column("label", "interaction", "arm", lambda item: " ".join(item.label.split()), numeric=False),
        column("n", "n", "result", lambda item: str(item.comparison.pairs)),
        column("effect", "effect", "result", lambda item: formatting.signed(item.comparison.delta, digits)),
        column(
            "interval",
            "95 % interval",
            "result",
            lambda item: formatting.interval(item.comparison.low, item.comparison.high, digits),
        ),
        column("p", "p (Holm)", "test", lambda item: formatting.p_value(item.comparison.p_holm)),
        column(
            "verdict",
            "verdict",
            "test",
            lambda item: item.comparison.verdict if tested else "",
            numeric=False,
        ),
        column("reported", "reported", "reported", lambda item: formatting.signed(item.reported, printed)),
    ]
    return [one for one in found if any(one.cells)]


def search_columns(search: SearchTable) -> list[Column]:
    """The best points of a search: rank, value, and one column for each sampled key."""
    digits = formatting.decimals_of(point.value for point in search.points)

    def column(key: str, title: str, cells: list[str], *, numeric: bool = True) -> Column:
        return Column(key=key, title=title, group="result", cells=tuple(cells), numeric=numeric)

    def param(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())

    return [
        Column(
            key="label",
            title="rank",
            group="arm",
            cells=tuple(str(rank) for rank in range(1, len(search.top) + 1)),
            numeric=False,
        ),
        column(
            "value",
            f"{search.metric} {formatting.ARROWS[search.mode]}",
            [formatting.number(point.value, digits) for point in search.top],
        ),
        *(
            column(
                key,
                key,
                [param(point.params[key]) if key in point.params else "" for point in search.top],
                numeric=all(isinstance(point.params.get(key, 0), (int, float)) for point in search.top),
            )
            for key in search.sampled_keys()
        ),
    ]
