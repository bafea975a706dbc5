"""What commands print: for people through rich, for programs as one JSON object."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from ablator.doctor import Check
    from ablator.plan.planning import Plan
    from ablator.report.live import Watcher
    from ablator.results.read_once import ReadOnce
    from ablator.results.store import Store
    from ablator.tables import Bound, Results, Summary
    from ablator.watching import Ahead

_PIPE_WIDTH = 120
"""Columns of tables that go into a file or a pipe, where COLUMNS does not say otherwise."""
_FAILURES = 10
ACCOUNT = (
    *("planned", "trained", "completed", "cached", "failed", "diverged", "pruned", "missing"),
    *("shared", "needed"),
)
_BESIDE = ("trained", "shared", "needed")
"""Of these what is no part of the sum."""
_STATES = {"ok": "green", "missing": "yellow", "problem": "bold red"}


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a text from a file may not do to the terminal."""


class _Console(Console):
    """One whose reader may go away (`| head`) without ending the command, as rich would, and which shows the
    control characters of texts instead of obeying them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and _CONTROL.search(segment.text):
                text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", segment.text)
                yield Segment(text, segment.style)
            else:
                yield segment

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


# ---- run and report


def watcher(
    to: Console, plans: Sequence[Plan], ahead: Ahead, store: Store, known: ReadOnce, *, quiet: bool
) -> contextlib.AbstractContextManager[Any]:
    """What follows a run: a live region on a terminal, lines elsewhere, nothing where nothing is trained."""
    from ablator.report.live import LineLog, Live
    from ablator.watching import board_of

    if quiet or not ahead.todo:
        return contextlib.nullcontext()
    metric = plans[0].study.report.metric
    watch: Watcher
    if to.is_terminal and not to.is_dumb_terminal:
        watch = Live(to, ahead.progress(), metric=metric, board=board_of(plans, store, known))
    else:
        watch = LineLog(to, ahead.progress(), metric=metric)
    return watch


def print_run(to: Console, found: Bound, store: str, mlflow: str | None, *, quiet: bool) -> None:
    """Every study's results; of several also the account of all and where all tables are."""
    if len(found.results) == 1:
        print_results(to, found.results[0], store, mlflow, quiet=quiet)
        return
    for results in found.results:
        if quiet:
            say(to, f"{results.plan.study.study}: {results.summary.line()}", _style(results))
        else:
            print_table(results, to)
        print_failures(to, results)
        if not quiet:
            print_files(to, results)
            to.print()
    summary = found.summary
    say(to, f"{len(found.results)} studies: {summary.line()}", "bold" if summary.ok else "bold red")
    shared = f"; {summary.shared} trials are shared between studies" if summary.shared else ""
    say(to, f"{_done([results.plan for results in found.results], summary)}{shared}")
    print_bound(to, found)
    say(to, f"{'MLflow':<7} {_mlflow(store, mlflow)}")
    problem = next((r.mirror_problem for r in found.results if r.mirror_problem), None)
    _print_left(to, sum(r.mirror_left for r in found.results), problem, mlflow)


def _done(plans: Sequence[Plan], summary: Summary) -> str:
    from ablator.report.planned import PAST, verb

    needed = f", and {summary.needed} before them that they start from" if summary.needed else ""
    return f"{PAST[verb(plans)]} {summary.trained} in {summary.seconds:.1f} s{needed}"


def _style(results: Results) -> str:
    return "" if results.summary.ok else "bold red"


def print_table(results: Results, to: Console) -> None:
    """The study's table with the run's account."""
    from ablator.report import terminal
    from ablator.report.table import Account

    counts = {name: getattr(results.summary, name) for name in ACCOUNT if name not in _BESIDE}
    terminal.print_table(results.table, to, account=Account(**counts))


def print_bound(to: Console, found: Bound) -> None:
    """Where the tables of all studies are, if there are several."""
    if found.files:
        say(to, f"{'all':<7} {_short(found.files['page.html'])}, {found.files['tables.md'].name}", "bold")


def print_results(to: Console, results: Results, store: str, mlflow: str | None, *, quiet: bool) -> None:
    """Table, account, what failed, where the files are, and what MLflow has not got."""
    summary = results.summary
    if quiet:
        say(to, summary.line(), _style(results))
    else:
        print_table(results, to)
    print_failures(to, results)
    say(to, _done([results.plan], summary))
    print_files(to, results)
    say(to, f"{'MLflow':<7} {_mlflow(store, mlflow)}")
    _print_left(to, results.mirror_left, results.mirror_problem, mlflow)


def _print_left(to: Console, left: int, problem: str | None, mlflow: str | None) -> None:
    if left:
        why = f" ({problem})" if problem else ""
        text = f"{left} entries are not in MLflow yet{why}; `ablator sync` sends them"
        say(to, text, "" if mlflow == "off" else "yellow")


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


def _mlflow(store: str, uri: str | None) -> str:
    from ablator.contracts.secrets import without_secrets
    from ablator.results.tracking import OFF

    if uri == OFF:
        return "off; `ablator sync` writes everything to the store's own database"
    if uri is not None:
        return without_secrets(uri)
    # As it was called here, which in a fresh checkout is a path into .venv.
    command = "ablator" if shutil.which("ablator") else os.path.relpath(sys.argv[0])
    return f"{command} ui" + ("" if store == ".ablator" else f" --store {shlex.quote(store)}")


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
