"""The commands about the store and the machine: sync, ui, clean, doctor, schema."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from typing import Annotated

import typer

from ablator.cli import objects, output, stores
from ablator.cli import options as o
from ablator.cli.app import app, examples
from ablator.errors import ClusterError, SettingError, StoreError


@app.command(
    epilog=examples("ablator sync --mlflow http://tracking:5000"),
    short_help="Send MLflow what it missed.",
)
def sync(store: o.StoreFolder = o.STORE, mlflow: o.Mlflow = None, as_json: o.Json = False) -> None:
    """Send MLflow what it missed. Exit code 1 where something is left."""
    from ablator import api

    result = api.sync(stores.existing(store), mlflow=mlflow)
    human = output.console(stderr=as_json)
    for name, (sent, left) in result.by_study.items():
        output.say(human, f"{name}: {sent} sent, {left} left")
    for problem in result.problems:
        output.say(human, problem, "yellow")
    output.say(human, f"{result.sent} sent, {result.left} left")
    if as_json:
        objects.print_json(dataclasses.asdict(result))
    raise typer.Exit(1 if result.left else 0)


@app.command(epilog=examples("ablator ui --port 5001"), short_help="Serve MLflow's pages over the store.")
def ui(
    store: o.StoreFolder = o.STORE,
    host: o.Host = "127.0.0.1",
    port: o.Port = 5000,
) -> None:
    """Serve MLflow's pages over the store, until interrupted."""
    from ablator.results.ui import ui_command, ui_environment

    opened = stores.existing(store)
    if not opened.database.exists():
        raise StoreError(
            f"{opened.root} holds no MLflow database yet: `ablator run` makes one, and after runs with "
            "--mlflow off `ablator sync` does; or name another store with --store DIR"
        )
    _check_port(host, port)
    print(f"MLflow: http://{host}:{port}  (up in some seconds; Ctrl-C ends it)", flush=True)
    command = ui_command(opened, host=host, port=port)
    os.execvpe(command[0], command, {**os.environ, **ui_environment()})


@app.command(
    epilog=examples("ablator clean", "ablator clean experiments/moto_n.yaml --profile laptop --yes"),
    short_help="List the weights that runs kept, and remove them.",
)
def clean(
    studies: o.SomeStudies = None,
    profile: o.Profile = None,
    overrides: o.Overrides = None,
    store: o.StoreFolder = o.STORE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them; else they are only listed.")] = False,
    as_json: o.Json = False,
) -> None:
    """List the weights that runs kept (--keep-weights, or because other trials start from them), with their
    sizes, and with --yes remove them: those of the named studies' trials, or all.

    Records stay. A trial whose weights are needed again is trained once more for them.
    """
    from ablator import api

    opened = stores.existing(store)
    kept = opened.kept_weights()
    names: dict[str, str] = {}
    if studies:
        plans = api.plan_all(studies, profile=profile, overrides=overrides or ())
        names = {t.identity: f"{t.label} · seed {t.seed}" for plan in plans for t in plan.trials}
        kept = {identity: size for identity, size in kept.items() if identity in names}
    human = output.console(stderr=as_json)
    for identity, size in kept.items():
        output.say(human, f"{size / 1e6:10.1f} MB  {identity[:12]}  {names.get(identity, '')}".rstrip())
    for identity in kept if yes else ():
        opened.remove(opened.weights(identity))
    count = f"{len(kept)} trial{'' if len(kept) == 1 else 's'}"
    total = f"weights of {count}, {sum(kept.values()) / 1e6:.1f} MB"
    output.say(human, f"removed {total}" if yes else f"{total}" + ("; --yes removes them" if kept else ""))
    if as_json:
        objects.print_json({"removed": yes, "bytes": sum(kept.values()), "weights": kept})


@app.command(epilog=examples("ablator doctor --json | tail -n 1"), short_help="Say what this machine has.")
def doctor(store: o.StoreFolder = o.STORE, as_json: o.Json = False) -> None:
    """Say what is installed, which devices, data and weights are found, and what to do about the rest.

    Exit code 1 where something is missing or broken that --profile laptop needs.
    """
    from ablator.doctor import examine, healthy
    from ablator.results.store import Store

    checks = examine(Store(store))
    good = healthy(checks)
    human = output.console(stderr=as_json)
    output.print_checks(human, checks)
    verdict = "everything that --profile laptop needs is there"
    output.say(human, verdict if good else f"not {verdict}", "green" if good else "bold red")
    if as_json:
        objects.print_json({"ok": good, "checks": [dataclasses.asdict(check) for check in checks]})
    raise typer.Exit(0 if good else 1)


@app.command(
    epilog=examples("ablator schema --output docs/schema/study.json"),
    short_help="Write the JSON schema of study files, for editors.",
)
def schema(
    space: Annotated[bool, typer.Option("--space", help="Of search_spaces/ instead.")] = False,
    recipe: Annotated[bool, typer.Option("--recipe", help="Of recipes/ instead.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Of recipes/profiles/ instead.")] = False,
    to: o.SchemaFile = None,
) -> None:
    """Write the JSON schema of study files (or of another kind), for editors to complete and check."""
    from ablator.plan import json_schema as schemas

    chosen = {"--space": space, "--recipe": recipe, "--profile": profile}
    asked = [name for name, on in chosen.items() if on]
    if len(asked) > 1:
        raise SettingError(f"{' and '.join(asked)}: one kind of schema at a time")
    makers = {
        "--space": schemas.space_schema,
        "--recipe": schemas.recipe_schema,
        "--profile": schemas.profile_schema,
    }
    make = makers[asked[0]] if asked else schemas.study_schema
    text = json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
    if to is None:
        print(text, end="")
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"--output {to} cannot be written: {error.strerror}") from None


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise ClusterError(
            f"--host {host} --port {port} cannot be listened on ({error.strerror}); name another --port"
        ) from None
