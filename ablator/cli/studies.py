"""The commands about studies: plan, run, report, status."""

from __future__ import annotations

import dataclasses
import enum
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ablator.cli import options as o
from ablator.cli import output, stores
from ablator.cli.app import app, examples

if TYPE_CHECKING:
    from ablator.api import Results
    from ablator.plan.planning import Plan
    from ablator.results.store import Store
    from ablator.scheduling.cluster import Resources
    from ablator.worker.trial import Execution


@app.command(
    epilog=examples("ablator plan experiments/moto_n.yaml --profile laptop --set train.epochs=4"),
    short_help="Show every trial, its size and its cost.",
)
def plan(
    study: o.StudyFile,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    sized: o.Sized = True,
    as_json: o.Json = False,
) -> None:
    """Show every trial, its size and its cost, before any is paid for.

    The cost is 3 · 2 · GMACs · training images · epochs operations (forward and backward,
    two a multiply-add), and the time is an estimate from finished trials of the same data and model.
    """
    from ablator import api
    from ablator.cli.pricing import priced_trials
    from ablator.report.planned import render_plan

    planned = api.plan(study, profile=profile, overrides=overrides or ())
    priced = priced_trials(planned, stores.readable(store), sized)
    output.console(stderr=as_json).print(render_plan(planned, priced))
    if as_json:
        output.print_json(output.plan_json(planned, priced))


@app.command(
    epilog=examples(
        "ablator run experiments/moto_n.yaml --profile laptop",
        "ablator run experiments/*.yaml --gpus 0.5 --mlflow http://tracking:5000",
    ),
    short_help="Train what is missing and print the table; again to go on.",
)
def run(
    studies: o.StudyFiles,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    repair: o.Repair = False,
    slots: o.Slots = None,
    workers: o.Workers = 1,
    cpus: o.Cpus = 1.0,
    gpus: o.Gpus = None,
    address: o.Address = None,
    compile_models: o.Compile = False,
    loader_workers: o.LoaderWorkers = 0,
    checkpoint_seconds: o.CheckpointSeconds = 60.0,
    mlflow: o.Mlflow = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Train what is missing of the studies, and print their tables.

    What is finished is never trained again, so that the same command goes on after whatever ended it.
    The exit code is 0 only where every planned trial has a result.
    """
    from ablator import api

    human = output.console(stderr=as_json)
    # All are planned first, so that a mistake in the last one shows before the first one is paid for.
    plans = [api.plan(study, profile=profile, overrides=overrides or ()) for study in studies]
    opened = stores.made(store)
    found = []
    for planned in plans:
        todo = _todo(planned, opened)
        resources, execution = None, None
        if todo or repair:
            resources = _resources(slots, workers, cpus, gpus, address)
            execution = _execution(checkpoint_seconds, loader_workers, compile_models)
        with output.watcher(human, planned, todo, quiet=quiet) as on_event:
            results = api.run(
                planned.study,
                profile=profile,
                overrides=overrides or (),
                store=opened,
                resources=resources,
                execution=execution,
                mlflow=mlflow,
                repair=repair,
                on_event=on_event,
            )
        output.print_results(human, results, store, mlflow, quiet=quiet)
        found.append(results)
    if as_json:
        output.print_json(output.run_json(found))
    raise typer.Exit(0 if all(results.summary.ok for results in found) else 1)


class _Format(enum.StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


_FILES = {_Format.MARKDOWN: "table.md", _Format.LATEX: "table.tex", _Format.CSV: "table.csv"}


@app.command(
    epilog=examples("ablator report experiments/moto_n.yaml --format markdown > table.md"),
    short_help="Print a study's table from what is trained already.",
)
def report(
    study: o.StudyFile,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    form: Annotated[
        _Format, typer.Option("--format", "-f", help="What is printed.", rich_help_panel="Output")
    ] = _Format.TABLE,
    as_json: o.Json = False,
) -> None:
    """Print a study's table from the ledger alone, and write its files. Exit code 1 where it has holes."""
    from ablator import api
    from ablator.report.terminal import print_table

    results = api.report(study, profile=profile, overrides=overrides or (), store=stores.made(store))
    human = output.console(stderr=as_json or form is not _Format.TABLE)
    if form is _Format.TABLE:
        print_table(results.table, human)
    else:
        # Beside the JSON object or alone on standard output, so that the table can go into a file.
        text = results.files[_FILES[form]].read_text(encoding="utf-8")
        print(text, end="", file=sys.stderr if as_json else sys.stdout)
    output.print_failures(human, results)
    output.print_files(human, results)
    whole = results.table.complete and _searches_whole(results)
    if as_json:
        account = {k: v for k, v in dataclasses.asdict(results.table.account).items() if k != "cached"}
        output.print_json({**output.where_json(results), **account, "complete": whole})
    raise typer.Exit(0 if whole else 1)


@app.command(
    epilog=examples("ablator status experiments/moto_n.yaml --profile laptop"),
    short_help="Show where a study stands, also while it runs.",
)
def status(
    study: o.StudyFile,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    as_json: o.Json = False,
) -> None:
    """Show where a study stands, also while another process runs it."""
    from ablator import api

    state = api.status(study, profile=profile, overrides=overrides or (), store=stores.made(store))
    human = output.console(stderr=as_json)
    output.say(human, state.account.line())
    for label, seed in state.running:
        output.say(human, f"running: {label} · seed {seed}")
    for label, (drawn, samples) in state.samples.items():
        output.say(human, f"search {label}: {drawn} of {samples} samples drawn")
    if state.waiting:
        output.say(human, "MLflow has not got everything; `ablator sync` sends the rest", "yellow")
    if as_json:
        account = {k: v for k, v in dataclasses.asdict(state.account).items() if k != "cached"}
        running = [{"label": label, "seed": seed} for label, seed in state.running]
        drawn_of = {label: list(counts) for label, counts in state.samples.items()}
        output.print_json({**account, "running": running, "samples": drawn_of, "waiting": state.waiting})


def _resources(
    slots: int | None, workers: int, cpus: float, gpus: float | None, address: str | None
) -> Resources:
    from ablator.scheduling.cluster import Resources
    from ablator.scheduling.slot import SlotShape

    return Resources(slots=slots, shape=SlotShape(workers=workers, cpus=cpus, gpus=gpus), address=address)


def _execution(checkpoint_seconds: float, loader_workers: int, compile_models: bool) -> Execution:
    from ablator.worker.trial import Execution

    return Execution(
        checkpoint_seconds=checkpoint_seconds, loader_workers=loader_workers, compile=compile_models
    )


def _todo(planned: Plan, store: Store) -> int:
    """Trials without a result; all samples of searches count, because only the run knows their points."""
    missing = planned.unique().keys() - store.ledger.identities()
    return len(missing) + sum(search.samples * len(search.seeds) for search in planned.searches)


def _searches_whole(results: Results) -> bool:
    """Whether every sample of every search has its result."""
    asked = sum(search.samples for search in results.plan.searches)
    there = sum(table.samples for table in results.table.searches)
    failed = any(point.status == "failed" for table in results.table.searches for point in table.points)
    return there == asked and not failed
