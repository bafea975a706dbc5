"""`--cluster`: the same command on a Ray cluster, from this machine."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
import typer.core
from rich.text import Text

from ablator.cli import objects, output
from ablator.errors import ClusterError, SettingError

if TYPE_CHECKING:
    from rich.console import Console

    from ablator.remote.following import Outcome
    from ablator.remote.jobs import Job, JobServer
    from ablator.remote.request import Request

_HERE = ("studies", "cluster", "address")
"""Parameters that are not passed on as they are."""
_WHAT = ("profile", "overrides", "rows", "store")
"""Those that say which trials, and where they are kept."""
_SERVERS = ("http://", "https://")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Ray's own warnings have some; of other control characters nothing is obeyed."""
_FILES = Path(".ablator") / "clusters"
"""Where reports of clusters are brought to, below the working folder."""


def elsewhere(cluster: str | None, address: str | None = None) -> str | None:
    """The cluster file or job server that the command is for; None for one that runs here. Raises
    SettingError."""
    if address is not None and address.startswith(_SERVERS):
        if cluster is not None:
            raise SettingError(
                f"--cluster {cluster} and --address {address} name two clusters; give one of them"
            )
        return address
    if cluster is not None and address is not None:
        raise SettingError(
            f"--address {address} is how a run joins a cluster from one of its machines, and --cluster "
            f"{cluster} sends it there; give one of them"
        )
    return cluster


def send(ctx: typer.Context, where: str, form: str | None = None) -> NoReturn:
    """Run the command of `ctx` on the cluster `where`, show what it says, and exit with its code. With
    `form`, the name of one of a report's files, that is printed and nothing else."""
    from ablator.remote.bundle import bundle_of
    from ablator.remote.request import Request

    given = ctx.params
    bundle = bundle_of(given["studies"], given["profile"], given["overrides"] or ())
    human = output.console(stderr=given["as_json"])
    options = _options(ctx, skip=_HERE)
    assert ctx.command.name is not None
    request = Request(
        command=ctx.command.name,
        bundle=bundle,
        options=tuple(options),
        what=tuple(_options(ctx, only=_WHAT)),
        columns=human.width,
    )
    with _server(where) as (server, name):
        _warn_of_versions(server, human)
        outcome = _followed(server, request, where, _writer(ctx, form, human), human)
    raise typer.Exit(_shown(ctx, outcome, _FILES / name / "reports", form))


def _options(ctx: typer.Context, only: Sequence[str] | None = None, skip: Sequence[str] = ()) -> list[str]:
    """The options that stand on this command line, as words. What comes from this machine's environment (a
    store) is not the cluster's."""
    words: list[str] = []
    for option in ctx.command.params:
        name = option.name or ""
        if not isinstance(option, typer.core.TyperOption) or name in skip or name not in (only or name):
            continue
        source = ctx.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params[name]
        if option.is_flag:
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for item in value if option.multiple else [value]:
            words += [max(option.opts, key=len), str(item)]
    return words


@contextlib.contextmanager
def _server(where: str) -> Iterator[tuple[JobServer, str]]:
    """The job server of a cluster, with the cluster's name as a folder's. Raises UserError."""
    from ablator.remote.head import head_of
    from ablator.remote.jobs import JobServer
    from ablator.remote.tunnel import Tunnel

    if where.startswith(_SERVERS):
        place = where.partition("://")[2].rpartition("@")[2]
        yield JobServer(lambda: where.rstrip("/"), where), _folder_name(place)
        return
    head = head_of(Path(where))
    tunnel = Tunnel(head)
    try:
        yield JobServer(tunnel.url, f"--cluster {where}"), _folder_name(head.name)
    finally:
        tunnel.close()


def _folder_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def _warn_of_versions(server: JobServer, human: Console) -> None:
    from importlib import metadata

    there, here = server.version(), metadata.version("ray")
    if there != here:
        output.say(human, f"the cluster has Ray {there} and this machine {here}", "yellow")


def _job(server: JobServer, request: Request) -> tuple[Job, str]:
    """The job of a run that is under way already, or a new one; and what to say of it."""
    if request.command == "run" and (job := server.attach(request)) is not None:
        return job, f"attached to {job.name}, which runs already, with the options that it was given"
    with tempfile.TemporaryDirectory(prefix="ablator-") as folder:
        request.bundle.write(Path(folder))
        job, new = server.submit(request, folder)
    return job, f"{'submitted' if new else 'attached to'} {job.name}"


def _followed(
    server: JobServer, request: Request, where: str, write: Callable[[str], None], human: Console
) -> Outcome:
    from ablator.remote.following import Follower

    job, text = _job(server, request)
    try:
        if request.command == "run":
            output.say(human, text)
        outcome = Follower(job, write, lambda text: output.say(human, text, "yellow")).follow()
    except KeyboardInterrupt:
        if request.command != "run":
            job.stop()
            raise
        output.say_error(_detached(job, where), head="detached")
        raise typer.Exit(130) from None
    if request.command != "run":
        # Nobody asks for it again.
        with contextlib.suppress(ClusterError):
            job.forget()
    return outcome


def _detached(job: Job, where: str) -> str:
    if where.startswith(_SERVERS):
        stop = f"`ray job stop --address {where} {job.name}`"
    else:
        stop = f"`ray exec {shlex.quote(where)} 'ray job stop {job.name}'`"
    return f"the run goes on there; the same command attaches to it again, and {stop} ends it"


def _writer(ctx: typer.Context, form: str | None, human: Console) -> Callable[[str], None]:
    """What to do with a line of the job's log."""
    if ctx.params["as_json"] or form is None:
        return lambda line: human.print(Text(_COLOUR.sub("", line)), soft_wrap=True)
    # The text that was asked for comes with the files.
    errors = output.console(stderr=True)
    return lambda line: errors.print(Text(line), soft_wrap=True) if line.startswith("error:") else None


def _shown(ctx: typer.Context, outcome: Outcome, folder: Path, form: str | None) -> int:
    """Bring files here, say what ended the job, and print what a program waits for. Returns the exit code."""
    if outcome.problem:
        output.say_error(outcome.problem)
        if ctx.params["as_json"] and not outcome.stdout:
            objects.print_json({"error": outcome.problem})
    names = _unpacked(outcome.files, folder) if outcome.files else []
    if form is not None and not ctx.params["as_json"]:
        texts = [(folder / name).read_text(encoding="utf-8") for name in names if Path(name).name == form]
        print("\n".join(texts), end="")
    beside = output.console(stderr=ctx.params["as_json"] or form is not None)
    for page in (name for name in names if name.endswith("page.html")):
        output.say(beside, f"{'here':<7} {folder / page}")
    if outcome.stdout:
        said = json.loads(outcome.stdout.decode().splitlines()[-1])
        objects.print_json(_placed(said, folder, names))
    return outcome.code


def _unpacked(content: bytes, folder: Path) -> list[str]:
    """Unpack a report's files below `folder`; returns their names. What lies outside of it, or is no plain
    file, is refused (`data` filter)."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
            return archive.getnames()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ClusterError(f"the report cannot be written to {folder}: {error}") from None


def _placed(said: dict[str, Any], folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """A report's object with the paths of the files here."""
    made = dict(said)
    for key in ("page", "table"):
        here = next((name for name in names if str(said.get(key, "")).endswith(f"/reports/{name}")), None)
        if here is not None:
            made[key] = str(folder / here)
    if "studies" in said:
        made["studies"] = [_placed(one, folder, names) for one in said["studies"]]
    return made
