"""The command about trained models: figures."""

from __future__ import annotations

from typing import Annotated

import typer

from ablator.cli import objects, output, stores
from ablator.cli import options as o
from ablator.cli.app import app, examples

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

    human = output.console(stderr=as_json)
    drawn = api.figures(
        study,
        profile=profile,
        overrides=overrides or (),
        store=stores.existing(store),
        steps=steps,
        retrain=retrain,
        redraw=redraw,
        on_note=lambda text: output.say(human, text),
    )
    skipped = drawn.data.skipped
    for label, why in skipped.items():
        output.say(human, f"{label}: left out, {why}", "yellow")
    for path in drawn.files.values():
        output.say(human, str(path))
    if as_json:
        files = {name: str(path) for name, path in drawn.files.items()}
        objects.print_json({"files": files, "skipped": dict(skipped)})
    raise typer.Exit(1 if skipped else 0)
