"""Follow docs/tutorial.md word for word as somebody new does, and say how long each step takes.

    python benchmarks/new_user.py            # a fresh environment: what a new user waits for
    python benchmarks/new_user.py --reuse    # this environment, without installing

The checkout is cloned into a temporary folder as it lies here, uncommitted files included. Every shell block
is run, and every block that the text says to save is saved; a command that fails ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(
    r"^## (?P<title>[^\n]+)$|^Save this as `(?P<path>[^`]+)`:$|^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_INSTALLING = ("make install", ". .venv/bin/activate")


@dataclass(frozen=True)
class Step:
    """One block of the tutorial."""

    title: str
    """The heading that it stands under."""
    text: str
    path: str | None
    """Where it is saved; None for commands."""


def steps(tutorial: str) -> Iterator[Step]:
    """The blocks of the tutorial in order."""
    title, path = "", None
    for match in _BLOCK.finditer(tutorial):
        if match["title"]:
            title = match["title"]
        elif match["path"]:
            path = match["path"]
        else:
            assert (path is None) == (match["kind"] == "sh"), "a block is saved or run"
            yield Step(title, match["text"], path)
            path = None


def follow(folder: Path, *, reuse: bool, quick: bool = False) -> dict[str, float]:
    """Do what the tutorial says, in `folder`; seconds by heading. `quick`: for one epoch a trial. Raises
    CalledProcessError."""
    place, taken = folder, dict[str, float]()
    environment = {**os.environ, "ABLATOR": str(_clone(folder / "repository", quick))}
    if reuse:
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for step in steps(TUTORIAL.read_text(encoding="utf-8")):
        began = time.monotonic()
        if step.path is not None:
            (place / step.path).write_text(step.text, encoding="utf-8")
        for line in step.text.splitlines() if step.path is None else ():
            if line.startswith("cd "):
                place = place / line.removeprefix("cd ")
                if reuse:
                    environment["PYTHONPATH"] = str(place)
            elif line.startswith(". "):
                environment["PATH"] = f"{place / line[2:].removesuffix('/activate')}:{environment['PATH']}"
            elif not (reuse and line in _INSTALLING):
                print(f"$ {line}", flush=True)
                line = f"python -m {line}" if reuse and line.startswith("ablator ") else line
                subprocess.run(line, shell=True, check=True, cwd=place, env=environment)
        taken[step.title] = taken.get(step.title, 0.0) + time.monotonic() - began
    return taken


def _clone(target: Path, quick: bool) -> Path:
    """A repository of what lies in this checkout now."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    if quick:
        profile = target / "recipes" / "profiles" / "laptop.yaml"
        text = profile.read_text(encoding="utf-8")
        shorter = {"\n    epochs: 10\n": "\n    epochs: 1\n", "warmup_epochs: 2": "warmup_epochs: 0"}
        for long, short in shorter.items():
            assert text.count(long) == 1, "the profile has changed"
            text = text.replace(long, short)
        profile.write_text(text, encoding="utf-8")
    author = ("-c", "user.name=Ablator", "-c", "user.email=ablator@localhost")
    for arguments in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "As it lies here")):
        subprocess.run(["git", "-C", str(target), *arguments], check=True)
    return target


def main() -> None:
    """Follow the tutorial and print the minutes of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reuse", action="store_true", help="use this environment instead of a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        taken = follow(Path(folder), reuse=arguments.reuse)
    for title, seconds in taken.items():
        print(f"{seconds / 60:6.1f} min  {title}")
    print(f"{sum(taken.values()) / 60:6.1f} min  in all")


if __name__ == "__main__":
    main()
