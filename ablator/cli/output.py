"""What commands print: for people through rich, for programs as one JSON object."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from ablator.api import Results
    from ablator.doctor import Check
    from ablator.plan.planning import Plan
    from ablator.report.live import Watcher
    from ablator.report.planned import Priced

_PIPE_WIDTH = 120
"""Columns of tables that go into a file or a pipe, where COLUMNS does not say otherwise."""
_FAILURES = 10
_ACCOUNT = ("planned", "trained", "completed", "cached", "failed", "diverged", "pruned", "missing")
_STATES = {"ok": "green", "missing": "yellow", "problem": "bold red"}


class _Console(Console):
    """One whose reader may go away (`| head`) without ending the command, as rich would."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # What is still in Python's buffer must go somewhere when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console(stderr: bool) -> Console:
    """Where text for people goes: standard error where standard output belongs to a program."""
    made = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made.width = _PIPE_WIDTH
    return made


def say(to: Console, text: str, style: str = "") -> None:
    """One message: wrapped at words on a terminal, one line elsewhere."""
    to.print(Text(text, style=style), soft_wrap=not to.is_terminal)


def say_error(text: str, head: str = "error") -> None:
    """A message about what went wrong, on standard error."""
    to = console(stderr=True)
    to.print(Text(f"{head}: ", style="bold red") + Text(text, style=""), soft_wrap=not to.is_terminal)


def print_json(value: Mapping[str, Any]) -> None:
    """The command's result as the last line of standard output."""
    print(json.dumps(value, default=str, allow_nan=False), flush=True)


# ---- plan


def plan_json(planned: Plan, priced: Sequence[Priced]) -> dict[str, Any]:
    """The plan with a line for every trial."""
    from ablator.plan.cost import total

    one_each = {item.trial.identity: item for item in priced}
    costs = [item.cost for item in one_each.values() if not item.cached and item.cost is not None]
    cost = total(costs) if costs else None
    return {
        "study": planned.study.study,
        "profile": planned.profile,
        "planned": len(one_each),
        "cached": sum(item.cached for item in one_each.values()),
        "pflop": cost.pflop if cost else None,
        "seconds": cost.seconds if cost else None,
        "searches": [
            {
                "label": search.label,
                "samples": search.samples,
                "sampler": search.sampler,
                "seeds": list(search.seeds),
                "cells": search.space.cells(),
            }
            for search in planned.searches
        ],
        "trials": [
            {
                "identity": item.trial.identity,
                "label": item.trial.label,
                "seed": item.trial.seed,
                "changes": item.trial.changes,
                "cached": item.cached,
                "parameters": item.parameters,
                "gmacs": item.gmacs,
                "pflop": item.cost.pflop if item.cost else None,
                "seconds": item.cost.seconds if item.cost else None,
            }
            for item in priced
        ],
    }


# ---- run and report


def watcher(to: Console, planned: Plan, todo: int, *, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    """What follows a run: a live region on a terminal, lines elsewhere, nothing where nothing is trained."""
    from ablator.report.live import LineLog, Live, Progress

    if quiet or not todo:
        return contextlib.nullcontext()
    total = len(planned.unique()) + sum(s.samples * len(s.seeds) for s in planned.searches)
    progress = Progress(total, total - todo)
    kind = Live if to.is_terminal and not to.is_dumb_terminal else LineLog
    watch: Watcher = kind(to, progress, metric=planned.study.report.metric)
    return watch


def print_results(to: Console, results: Results, store: Path, mlflow: str | None, *, quiet: bool) -> None:
    """Table, account, what failed, where the files are, and what MLflow has not got."""
    from ablator.report.table import Account
    from ablator.report.terminal import print_table

    summary = results.summary
    if quiet:
        say(to, summary.line(), "" if summary.ok else "bold red")
    else:
        counts = {name: getattr(summary, name) for name in _ACCOUNT if name != "trained"}
        print_table(results.table, to, account=Account(**counts))
    print_failures(to, results)
    say(to, f"trained {summary.trained} in {summary.seconds:.1f} s")
    print_files(to, results)
    say(to, f"{'MLflow':<7} {_mlflow(store, mlflow)}")
    if results.mirror_left:
        why = f" ({results.mirror_problem})" if results.mirror_problem else ""
        left = f"{results.mirror_left} entries are not in MLflow yet{why}; `ablator sync` sends them"
        say(to, left, "" if mlflow == "off" else "yellow")


def print_failures(to: Console, results: Results) -> None:
    """Why trials failed, the first few of them."""
    from ablator.report.formatting import reason

    cells = [(row, cell) for row in results.table.rows for cell in row.cells if cell.status == "failed"]
    for row, cell in cells[:_FAILURES]:
        say(to, f"failed: {row.label} · seed {cell.seed}: {reason(cell.error)}", "red")
    if len(cells) > _FAILURES:
        say(to, f"… and {len(cells) - _FAILURES} more", "red")


def print_files(to: Console, results: Results) -> None:
    """Where the page and the tables are."""
    folder = results.files["page.html"].parent
    tables = ", ".join(path.name for name, path in results.files.items() if name != "page.html")
    say(to, f"{'page':<7} {_short(results.files['page.html'])}")
    say(to, f"{'tables':<7} {_short(folder)}/ ({tables})")


def run_json(found: Sequence[Results]) -> dict[str, Any]:
    """A run as numbers; of several studies the sums, with each of them under `studies`."""
    each = [{**_summary_json(results), **where_json(results)} for results in found]
    if len(each) == 1:
        return each[0]
    sums = {key: sum(one[key] for one in each) for key in (*_ACCOUNT, "seconds", "mlflow_left")}
    return {**sums, "studies": each}


def where_json(results: Results) -> dict[str, Any]:
    """Which study it is, and where its files are."""
    return {
        "study": results.plan.study.study,
        "profile": results.plan.profile,
        "table": str(results.files["table.md"]),
        "page": str(results.files["page.html"]),
    }


def _summary_json(results: Results) -> dict[str, Any]:
    summary = dataclasses.asdict(results.summary)
    counts = {key: summary[key] for key in _ACCOUNT}
    return {**counts, "seconds": round(summary["seconds"], 3), "mlflow_left": results.mirror_left}


def _mlflow(store: Path, uri: str | None) -> str:
    from ablator.results.tracking import OFF, without_secrets

    if uri == OFF:
        return "off; `ablator sync` writes everything to the store's own database"
    if uri is not None:
        return without_secrets(uri)
    # As it was called here, which in a fresh checkout is a path into .venv.
    command = "ablator" if shutil.which("ablator") else os.path.relpath(sys.argv[0])
    return f"{command} ui" + ("" if store == Path(".ablator") else f" --store {store}")


def _short(path: Path) -> str:
    """Relative to the working folder where it lies in it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


# ---- doctor


def print_checks(to: Console, checks: Sequence[Check]) -> None:
    """One row a check; advice only where there is some."""
    table = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold", ratio=1)
    table.add_column("what to do", overflow="fold", ratio=1)
    group = ""
    for check in _merged(checks):
        if check.group != group and group:
            table.add_section()
        table.add_row(
            Text(check.group if check.group != group else "", style="bold"),
            Text(check.name),
            Text(check.state, style=_STATES[check.state]),
            Text(check.found),
            Text(check.advice, style="" if check.state == "problem" else "dim"),
        )
        group = check.group
    to.print(table)


def _merged(checks: Sequence[Check]) -> list[Check]:
    """The installed packages as one row; everything else as it is."""
    packages = [c for c in checks if c.group == "Python" and c.state == "ok"]
    if not packages:
        return list(checks)
    versions = ", ".join(f"{check.name} {check.found}" for check in packages)
    one = dataclasses.replace(packages[0], name="packages", found=versions)
    return [one, *(check for check in checks if check not in packages)]
