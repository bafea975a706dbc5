"""The command that takes a search's best point apart: explain."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ablator.cli import objects, output, stores
from ablator.cli import options as o
from ablator.cli.app import app, examples
from ablator.errors import SettingError


@app.command(
    epilog=examples(
        "ablator explain experiments/search_all.yaml --profile laptop --output experiments/best.yaml",
        "ablator run experiments/best.yaml --profile laptop",
    ),
    short_help="Write the study that takes a search's best point apart.",
)
def explain(
    study: o.StudyFile,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    search: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Which search, where the study has several.", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Seeds, those of the search first.")] = 3,
    to: o.SchemaFile = None,
    as_json: o.Json = False,
) -> None:
    """Write the study that explains a search: its best point, then the point without each of its parts.

    Switches go first, then every dimension goes back to the baseline's value. `ablator run` runs the file as
    it is, with the same profile; what the search has trained is not trained again.
    """
    from ablator import api
    from ablator.study.writing import to_yaml

    made = api.explain(
        study,
        profile=profile,
        overrides=overrides or (),
        store=stores.existing(store),
        search=search,
        seeds=seeds,
    )
    options = [f"--profile {profile}"] if profile else []
    options += [f"--set {shlex.quote(override)}" for override in overrides or ()]
    command = " ".join(["ablator run", str(to or "FILE"), *options])
    text = f"# {command}\n{to_yaml(made, to or study.with_name('explained.yaml'), study)}"
    human = output.console(stderr=as_json)
    if to is None and not as_json:
        print(text, end="")
    elif to is not None:
        _write(to, text)
        output.say(human, f"{to}: {made.question} Next: {command}")
    if as_json:
        objects.print_json({"study": made.study, "file": str(to) if to else None, "text": text})


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"--output {path} cannot be written: {error.strerror}") from None
