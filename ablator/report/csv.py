"""The table as numbers: a data frame, CSV and JSON, at full precision."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ablator.contracts.settings import as_plain
from ablator.report import formatting
from ablator.report.interactions import Interaction
from ablator.report.statistics import Comparison
from ablator.report.table import STATUSES, Row, Table

_COMPARED = tuple(field.name for field in dataclasses.fields(Comparison))


def to_frame(table: Table, costs: bool = True) -> pd.DataFrame:
    """One line an arm: label, status counts, mean, std, n, the comparison's fields, sizes, measured costs
    (columns `cost_*`, left out with `costs=False`), further metrics (mean, `*_std`, and
    their differences `*_delta`, `*_low`, `*_high`, `*_p_holm`), reported values
    (`reported_*`) and one column `seed_<seed>` for each seed. What is undefined is empty. Interactions follow
    as further lines, whose `delta` is the effect."""
    seeds = sorted({cell.seed for row in table.rows for cell in row.cells})
    sources = list(dict.fromkeys(key for row in table.rows for key in row.reported))
    lines = [_line(table, row, costs, seeds, sources) for row in table.rows]
    return pd.DataFrame(lines + [_interaction(item) for item in table.interactions])


def render_csv(table: Table, costs: bool = True) -> str:
    """`to_frame` as CSV; floats are written such that reading them gives the same bits."""
    text = to_frame(table, costs).to_csv(index=False, lineterminator="\n")
    assert isinstance(text, str)
    return text


def render_json(table: Table, costs: bool = True) -> str:
    """Everything that the table holds. Measured costs, the environment and disturbances, which differ from
    run to run, lie under keys of their own, `costs`, `environment`, `origins` and `disturbed`; `costs=False`
    leaves these out. `spec` is the baseline's resolved spec, dotted, and each row's own `spec` how it differs
    from that; `command` is what a shell is told to get the table, or the row, again."""
    base, specs = _specs(table)
    commands = {row.label: row.command for row in table.spec.rows}
    rows = []
    for row in table.rows:
        plain: dict[str, Any] = as_plain(dict(vars(row)) | {"changes": dict(row.changes)})
        del plain["cost"]
        if (spec := specs.get(row.label)) is not None:
            plain["spec"] = spec
        plain["command"] = commands[row.label]
        rows.append(plain)
    document = {
        "format": 1,
        "study": _spec(table),
        "summary": formatting.summary(table),
        "account": {**as_plain(table.account), "line": table.account.line()},
        "spec": base,
        "rows": rows,
        "interactions": as_plain(table.interactions),
        "searches": as_plain(table.searches),
        "footnotes": list(table.footnotes),
        "notes": list(table.notes),
    }
    if costs:
        document["costs"] = {
            "seconds": table.seconds,
            "rows": [{"label": row.label, **as_plain(row.cost)} for row in table.rows],
        }
        document["costs"]["spending"] = as_plain(table.spending)
        document["environment"] = as_plain(dict(table.versions))
        document["origins"] = as_plain(table.origins)
        document["disturbed"] = as_plain(table.disturbed)
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _interaction(item: Interaction) -> dict[str, Any]:
    return {"arm": item.label, "changes": "interaction"} | {
        key: getattr(item.comparison, key) for key in _COMPARED
    }


def _specs(table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """The baseline's resolved spec, and by label what each row has `with` other values and `without`."""
    resolved = {row.label: row.resolved for row in table.spec.rows}
    base = resolved.get(table.spec.baseline, {})
    if not base:
        return {}, {}
    differs = {
        label: {
            "with": {key: value for key, value in spec.items() if key not in base or base[key] != value},
            "without": [key for key in base if key not in spec],
        }
        for label, spec in resolved.items()
        if spec
    }
    plain: dict[str, Any] = as_plain(differs)
    return as_plain(dict(base)), plain


def _spec(table: Table) -> dict[str, Any]:
    shown = {"study", "question", "source", "profile", "metric", "mode", "baseline", "command"}
    plain = {key: value for key, value in vars(table.spec).items() if key in shown}
    return plain | ({"sequential": as_plain(table.spec.sequential)} if table.spec.sequential else {})


def _line(
    table: Table, row: Row, costs: bool, seeds: Sequence[int], sources: Sequence[str]
) -> dict[str, Any]:
    """One arm: `seeds` and `sources` (metrics that the source reports) are those of the whole table."""
    comparison = row.comparison
    reported: dict[str, Any] = {}
    for key in sources:
        item = row.reported.get(key)
        reported[f"reported_{key}"] = (
            None if item is None else item.word if item.value is None else item.value
        )
        reported[f"reported_{key}_delta"] = item.delta if item else None
    further: dict[str, Any] = {}
    for key, found in row.further.items():
        further[key] = found.mean if found.mean is not None else " ".join(dict.fromkeys(found.words)) or None
        further[f"{key}_std"] = found.std
        for name in ("delta", "low", "high"):
            further[f"{key}_{name}"] = getattr(found.paired, name) if found.paired else None
        further[f"{key}_p_holm"] = found.p_holm
    cells = {cell.seed: cell.word if cell.value is None else cell.value for cell in row.cells}
    return {
        "arm": row.label,
        **({"against": row.against} if table.several_baselines else {}),
        "changes": json.dumps(as_plain(dict(row.changes)), ensure_ascii=False, default=str),
        "planned": len(row.cells),
        **{status: row.counts[status] for status in STATUSES},
        "mean": row.mean,
        "std": row.std,
        "n": row.n,
        **{key: getattr(comparison, key) if comparison else None for key in _COMPARED},
        **vars(row.size),
        **({f"cost_{key}": value for key, value in vars(row.cost).items()} if costs else {}),
        **further,
        **reported,
        **{f"seed_{seed}": cells.get(seed) for seed in seeds},
        "footnotes": "; ".join(table.footnotes[number - 1] for number in row.footnotes),
    }
