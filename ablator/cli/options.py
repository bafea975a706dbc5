"""Options, each said once. Panels group them in the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ablator.cli.completion import complete_profile, complete_setting, complete_study

STORE = ".ablator"

_STUDY, _MACHINE, _OUTPUT = "Study", "Machine", "Output"

StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="Study file (YAML).", autocompletion=complete_study, show_default=False
    ),
]
StudyFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="STUDY...",
        help="Study files (YAML), or folders: of these every *.yaml that lies directly in them.",
        autocompletion=complete_study,
        show_default=False,
    ),
]
SomeStudies = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[STUDY...]",
        help="Study files or folders; else all that is there.",
        autocompletion=complete_study,
        show_default=False,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME",
        help="Scale: paper (as published, the default), gpu, laptop, or one of yours.",
        autocompletion=complete_profile,
        rich_help_panel=_STUDY,
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Set a key in every row, such as train.epochs=10; may be given several times.",
        autocompletion=complete_setting,
        rich_help_panel=_STUDY,
        show_default=False,
    ),
]
Rows = Annotated[
    list[str] | None,
    typer.Option(
        "--row",
        metavar="LABEL",
        help="Only this row and what it is compared with; may be given several times.",
        rich_help_panel=_STUDY,
        show_default=False,
    ),
]
StoreFolder = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="DIR|URI",
        envvar="ABLATOR_STORE",
        help="Folder of ledger, checkpoints and reports, or s3://BUCKET/PREFIX (gs://, abfss://).",
        rich_help_panel=_STUDY,
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Move damaged records and checkpoints aside and train their trials again.",
        rich_help_panel=_STUDY,
    ),
]
Slots = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Trials at once; else as many as fit.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Processes that train one trial together.", rich_help_panel=_MACHINE
    ),
]
Cpus = Annotated[
    float, typer.Option(min=0.1, metavar="N", help="Processors per worker.", rich_help_panel=_MACHINE)
]
Gpus = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="N",
        help="GPUs per worker, or a fraction; else 1 where this machine has one, and 0 where not.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Pack = Annotated[
    bool,
    typer.Option(
        "--pack",
        help="Several slots a GPU: as many as trials so far were fastest with and fit, or one more to try.",
        rich_help_panel=_MACHINE,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster to join; auto is this machine's, local starts one in any case. As http://HOST:PORT "
        "the job server that the studies are sent to.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="Do it on the cluster that `ray up FILE` made, or that has the job server at http://HOST:PORT.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile models with torch.compile.", rich_help_panel=_MACHINE)
]
LoaderWorkers = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Processes per worker that read images.", rich_help_panel=_MACHINE),
]
KeepWeights = Annotated[
    bool,
    typer.Option(
        "--keep-weights",
        help="Keep the final weights of the trials that are trained, for `ablator figures`.",
        rich_help_panel=_MACHINE,
    ),
]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        min=0.0, metavar="S", help="Seconds between checkpoints of a trial.", rich_help_panel=_MACHINE
    ),
]
StallSeconds = Annotated[
    float,
    typer.Option(
        min=0.0,
        metavar="S",
        help="Start a trial again that makes no progress for so long; 0: never.",
        rich_help_panel=_MACHINE,
    ),
]
Mlflow = Annotated[
    str | None,
    typer.Option(
        metavar="URI|off",
        help="MLflow to write to; else the store's own database.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="End standard output with one JSON object; text for people goes to standard error.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no table.", rich_help_panel=_OUTPUT)
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        "-w",
        help="Show it again every 2 seconds, until every trial has an outcome.",
        rich_help_panel=_OUTPUT,
    ),
]
Sized = Annotated[
    bool,
    typer.Option(
        "--size/--no-size",
        help="Count parameters, GMACs and cost of every model (built without memory).",
        rich_help_panel=_OUTPUT,
    ),
]
Host = Annotated[
    str, typer.Option(metavar="HOST", help="Interface to listen on; whoever reaches it sees all.")
]
Port = Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Port to listen on.")]
SchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="File to write; else standard output.", show_default=False
    ),
]
