"""The command group: what every command shares."""

from __future__ import annotations

import errno
import json
from typing import Annotated, Any

import typer
import typer.core

from ablator.cli import output
from ablator.contracts.secrets import scrubbed
from ablator.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}


class _Commands(typer.core.TyperGroup):
    """Turns what a user can mend into one message, whichever command raises it."""

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args  # which the command itself reads only later
        try:
            return super().invoke(ctx)
        except (UserError, OSError) as error:
            text = _explained(error)
            output.say_error(text)
            if as_json:
                print(json.dumps({"error": text}))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            output.say_error("run the same command again to go on", head="interrupted")
            raise typer.Exit(130) from None


def _explained(error: UserError | OSError) -> str:
    """What a user is told; raises `error` where no user can mend it."""
    if isinstance(error, UserError):
        return scrubbed(str(error))
    if error.errno not in _FULL:
        raise error
    where = f" for {error.filename}" if error.filename else ""
    return f"no space is left{where}: make room and run the same command again, which goes on"


def examples(*lines: str) -> str:
    """The end of a help text."""
    # Blank lines keep them on lines of their own in the help.
    return "\n\n".join(("Examples:" if len(lines) > 1 else "Example:", *lines))


app = typer.Typer(
    name="ablator",
    cls=_Commands,
    help="Ablation studies as short YAML files: planned, trained once, and printed with honest statistics.",
    epilog=examples(
        "ablator plan experiments/moto_n.yaml --profile laptop",
        "ablator run experiments/moto_n.yaml --profile laptop",
        "ablator run experiments/moto_n.yaml --set data.root=/data/imagenet --gpus 1",
        "ablator report experiments/moto_n.yaml --format latex > table.tex",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        import ablator

        print(f"ablator {ablator.__version__}")
        raise typer.Exit(0)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass
