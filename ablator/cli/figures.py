"""The command about trained models: figures."""

from __future__ import annotations

from typing import Annotated

import typer

from ablator.cli import objects, output, stores
from ablator.cli import options as o
from ablator.cli.app import app, examples
from ablator.errors import StoreError

_STEPS = 500


@app.command(
    epilog=examples(
        "ablator run docs/figures.yaml --profile laptop --keep-weights",
        "ablator figures docs/figures.yaml --profile laptop",
    ),
    short_help="Draw what trained models learned: layouts, features, token diversity.",
)
def figures(
    study: o.StudyFile,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    steps: Annotated[
        int, typer.Option(min=0, metavar="N", help="Steps of each decoder that bounds H(A|B); 0 for none.")
    ] = _STEPS,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Train finished trials without kept weights once more, here."),
    ] = False,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Draw the stored numbers again and look at no model.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Draw what the study's trained models learned, into the folder of its report and into its page.

    Weights must have been kept (`ablator run --keep-weights`). Without --retrain, trials that have none are
    left out and named. Exit code 1 where any was.
    """
    from ablator import api
    from ablator.report.figures import FOLDER, draw
    from ablator.results import figure_data

    human = output.console(stderr=as_json)
    planned = api.plan(study, profile=profile, overrides=overrides or ())
    opened = stores.existing(store)
    folder = opened.reports(planned.study.study) / planned.profile / FOLDER
    if redraw:
        data = figure_data.load(folder)
        if data is None:
            raise StoreError(f"{folder} holds no figures to redraw; run `ablator figures` without --redraw")
    else:
        from ablator.analysis.study import analyse

        data = analyse(
            planned, opened, steps=steps, again=retrain, on_note=lambda text: output.say(human, text)
        )
        figure_data.save(data, folder)
    files = draw(data, folder)
    api.report(study, profile=profile, overrides=overrides or (), store=opened)
    for label, why in data.skipped.items():
        output.say(human, f"{label}: left out, {why}", "yellow")
    for path in files.values():
        output.say(human, str(path))
    if as_json:
        found = {name: str(path) for name, path in files.items()}
        objects.print_json({"files": found, "skipped": dict(data.skipped)})
    raise typer.Exit(1 if data.skipped else 0)
