"""The command line: thin over `ablator.api`. Rooms are imported by the commands that need them, so that help
and completion stay quick.

With `--json` the last line of standard output is one JSON object, and everything for people goes to standard
error. Exit codes: 0 all is well, 1 something is failed or missing, 2 a mistake that the user can mend, 130
interrupted.
"""

from __future__ import annotations

import io
import sys


def main() -> None:
    """The console script."""
    # In the order in which the help lists their commands.
    from ablator.cli import studies, explaining, figures, diff, upkeep  # noqa: F401  # isort: skip
    from ablator.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A λ in a label is no reason to fail where the terminal knows ASCII only.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="ablator")
