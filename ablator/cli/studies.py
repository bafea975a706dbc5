"""The commands about studies: plan, run, report, status."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ablator.cli import objects, output, remote, stores
from ablator.cli import options as o
from ablator.cli.app import app, examples
from ablator.errors import SettingError

if TYPE_CHECKING:
    from ablator.contracts.record import Record
    from ablator.scheduling.cluster import Resources
    from ablator.worker.execution import Execution


@app.command(
    epilog=examples(
        "ablator plan experiments/moto_n.yaml --profile laptop --set train.epochs=4",
        "ablator plan experiments/ --no-size",
    ),
    short_help="Show every trial, its size and its cost.",
)
def plan(
    studies: o.StudyFiles,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    rows: o.Rows = None,
    store: o.StoreFolder = o.STORE,
    sized: o.Sized = True,
    as_json: o.Json = False,
) -> None:
    """Show every trial, its size and its cost, before any is paid for.

    Of several studies, also what they share, which is trained once.

    The cost is 3 · 2 · GMACs · training images · epochs operations (forward and backward,
    two a multiply-add), and the time is an estimate from finished trials of the same data and model.
    """
    from ablator import api
    from ablator.cli.pricing import priced_plans
    from ablator.report.planned import bound_line, render_plan

    plans = api.plan_all(studies, profile=profile, overrides=overrides or (), rows=rows or ())
    priced, starts = priced_plans(plans, stores.readable(store), sized)
    human = output.console(stderr=as_json)
    for planned, items, below in zip(plans, priced, starts, strict=True):
        human.print(render_plan(planned, items, below))
        if len(plans) > 1:
            human.print()
    if len(plans) > 1:
        output.say(human, bound_line(plans, priced, starts), "bold")
    if as_json:
        objects.print_json(objects.plans_json(plans, priced, starts))


@app.command(
    epilog=examples(
        "ablator run experiments/moto_n.yaml --profile laptop",
        "ablator run experiments/moto_n.yaml --profile laptop --row 'n = 8, soft'",
        "ablator run experiments/ --gpus 0.5 --mlflow http://tracking:5000",
        "ablator run experiments/moto_n.yaml --cluster cluster.yaml",
    ),
    short_help="Train what is missing and print the table; again to go on.",
)
def run(
    ctx: typer.Context,
    studies: o.StudyFiles,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    rows: o.Rows = None,
    store: o.StoreFolder = o.STORE,
    repair: o.Repair = False,
    slots: o.Slots = None,
    workers: o.Workers = 1,
    cpus: o.Cpus = 1.0,
    gpus: o.Gpus = None,
    pack: o.Pack = False,
    cluster: o.Cluster = None,
    address: o.Address = None,
    compile_models: o.Compile = False,
    loader_workers: o.LoaderWorkers = 0,
    checkpoint_seconds: o.CheckpointSeconds = 60.0,
    stall_seconds: o.StallSeconds = 1800.0,
    keep_weights: o.KeepWeights = False,
    mlflow: o.Mlflow = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Train what is missing of the studies, and print their tables.

    Several studies, or a folder of them, are one plan: a trial that some of them share is trained once.
    What is finished is never trained again, so that the same command goes on after whatever ended it.
    The exit code is 0 only where every planned trial has a result.

    With --cluster the studies are sent to a cluster and trained there; this command shows the progress, may
    be interrupted, and attaches to the run when it is given again.
    """
    if (there := remote.elsewhere(cluster, address)) is not None:
        remote.send(ctx, there)
    from ablator import api
    from ablator.results.read_once import ReadOnce
    from ablator.watching import Ahead

    human = output.console(stderr=as_json)
    plans = api.plan_all(studies, profile=profile, overrides=overrides or (), rows=rows or ())
    opened = stores.made(store)
    known = ReadOnce(opened.ledger)
    ahead = Ahead.of(plans, opened, known)
    resources, execution = None, None
    if ahead.todo or repair:
        resources = _resources(slots, workers, cpus, gpus, pack, address)
        execution = _execution(
            checkpoint_seconds, stall_seconds, loader_workers, compile_models, keep_weights
        )
    if len(plans) > 1:
        output.say(human, ahead.line())
    elif ahead.needed:
        output.say(human, ahead.needed_line())
    with output.watcher(human, plans, ahead, opened, known, quiet=quiet) as on_event:
        found = api.run_planned(
            plans,
            known=known,
            profile=profile,
            overrides=overrides or (),
            store=opened,
            resources=resources,
            execution=execution,
            mlflow=mlflow,
            repair=repair,
            on_event=on_event,
        )
    output.print_run(human, found, store, mlflow, quiet=quiet)
    if as_json:
        objects.print_json(objects.run_json(found))
    raise typer.Exit(0 if found.summary.ok else 1)


class _Format(enum.StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


_FILES = {_Format.MARKDOWN: "table.md", _Format.LATEX: "table.tex", _Format.CSV: "table.csv"}


@app.command(
    epilog=examples(
        "ablator report experiments/moto_n.yaml --format markdown > table.md",
        "ablator report experiments/ --profile laptop",
    ),
    short_help="Print tables from what is trained already; of a folder also as one page.",
)
def report(
    ctx: typer.Context,
    studies: o.StudyFiles,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    rows: o.Rows = None,
    store: o.StoreFolder = o.STORE,
    form: Annotated[
        _Format, typer.Option("--format", "-f", help="What is printed.", rich_help_panel="Output")
    ] = _Format.TABLE,
    cluster: o.Cluster = None,
    as_json: o.Json = False,
) -> None:
    """Print the studies' tables from the ledger alone, and write their files. Exit code 1 where one has
    holes.

    Several studies, or a folder of them, are bound into one page as well. Formats other than `table` are
    printed one study after the other, with an empty line between two. Of a cluster the files are brought
    here, into .ablator/clusters/NAME/reports.
    """
    if cluster is not None:
        remote.send(ctx, cluster, _FILES.get(form))
    from ablator import api
    from ablator.report.terminal import print_table

    bound = api.report_all(
        studies, profile=profile, overrides=overrides or (), rows=rows or (), store=stores.made(store)
    )
    human = output.console(stderr=as_json or form is not _Format.TABLE)
    for number, results in enumerate(bound.results):
        if form is _Format.TABLE:
            print_table(results.table, human)
        else:
            # Beside the JSON object or alone on standard output, so that the table can go into a file.
            text = results.files[_FILES[form]].read_text(encoding="utf-8")
            print("\n" * (number > 0) + text, end="", file=sys.stderr if as_json else sys.stdout)
        output.print_failures(human, results)
        output.print_files(human, results)
        if form is _Format.TABLE and len(bound.results) > 1:
            human.print()
    output.print_bound(human, bound)
    if as_json:
        objects.print_json(objects.report_json(bound))
    raise typer.Exit(0 if all(map(objects.whole, bound.results)) else 1)


@app.command(
    epilog=examples(
        "ablator status experiments/moto_n.yaml --profile laptop --watch", "ablator status experiments/"
    ),
    short_help="Show where studies stand, also while they run.",
)
def status(
    ctx: typer.Context,
    studies: o.StudyFiles,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    rows: o.Rows = None,
    store: o.StoreFolder = o.STORE,
    watch: o.Watch = False,
    cluster: o.Cluster = None,
    as_json: o.Json = False,
) -> None:
    """Show where studies stand, also while another process runs them, here or on a machine that shares the
    store.

    Who runs them, the slots with their trials, the time left, and the table as it fills; of several studies
    the tables of those that are being trained. There are no p values and no verdicts before all is trained.
    """
    from ablator import api
    from ablator.cli import states
    from ablator.watching import State, state_of

    if watch and as_json:
        raise SettingError(
            "--watch shows the state again and again, and --json is one object; give one of them (a program "
            "calls `ablator status --json` as often as it likes)"
        )
    if cluster is not None:
        remote.send(ctx, cluster)
    plans = api.plan_all(studies, profile=profile, overrides=overrides or (), rows=rows or ())
    opened = stores.made(store)
    known: dict[str, Record] = {}

    def ask() -> dict[str, State]:
        return {p.study.study: state_of(p, profile, overrides or (), opened, known=known) for p in plans}

    human = output.console(stderr=as_json)
    if watch:
        states.watch_states(human, ask)
        return
    found = ask()
    states.print_states(human, found)
    if as_json:
        objects.print_json(objects.states_json(found))


def _resources(
    slots: int | None, workers: int, cpus: float, gpus: float | None, pack: bool, address: str | None
) -> Resources:
    from ablator.scheduling.cluster import Resources
    from ablator.scheduling.slot import SlotShape

    shape = SlotShape(workers=workers, cpus=cpus, gpus=gpus)
    return Resources(slots=slots, shape=shape, pack=pack, address=address)


def _execution(
    checkpoint_seconds: float,
    stall_seconds: float,
    loader_workers: int,
    compile_models: bool,
    keep_weights: bool,
) -> Execution:
    from ablator.worker.execution import Execution

    return Execution(
        checkpoint_seconds=checkpoint_seconds,
        stall_seconds=stall_seconds,
        loader_workers=loader_workers,
        compile=compile_models,
        keep_weights=keep_weights,
    )
