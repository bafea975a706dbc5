"""The command, on the cluster: `python -m ablator.remote.inside VERSION run STUDY... OPTIONS`.

It is `ablator run STUDY... OPTIONS`, with checks before it that only the cluster can make. What belongs to a
program, standard output with `--json` and the files of a report, goes into the job's log in lines of its own
(`frames.py`), because there is no other way back.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablator import __version__
from ablator.remote.frames import Kind, framed

STORE = "ABLATOR_STORE"
_LAUNCHER = Path("~/ray_bootstrap_config.yaml").expanduser()
"""What the launcher tells the autoscaler, as JSON."""
_NODES_SECONDS = 900.0
_NODES_EVERY = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; 2 where this cluster cannot run it as it was asked."""
    asked, command, *rest = arguments
    if (problem := _problem(asked, rest)) is not None:
        print(f"error: {problem}", flush=True)
        if "--json" in rest:
            _say("stdout", json.dumps({"error": problem}).encode())
        return 2
    if command == "run":
        _wait_for_nodes()
    for_program = "--json" in rest
    if command == "report" and not for_program:
        # Where its files are stands in the object alone.
        rest.append("--json")
    captured = subprocess.PIPE if "--json" in rest else None
    done = subprocess.run(
        [sys.executable, "-m", "ablator", command, *rest], stdout=captured, text=True, check=False
    )
    if for_program:
        _say("stdout", done.stdout.encode())
    if command == "report" and done.returncode in (0, 1):
        _say("files", _packed(json.loads(done.stdout.splitlines()[-1])))
    return done.returncode


def _wait_for_nodes() -> None:
    """Until the nodes are there that the launcher keeps in any case: slots are counted once."""
    wanted = nodes_wanted(_LAUNCHER)
    if wanted <= 1:
        return
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    try:
        end, told = time.monotonic() + _NODES_SECONDS, -1
        while (there := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < end:
            if there != told:
                print(f"waiting for nodes: {there} of {wanted} are up", flush=True)
            told = there
            time.sleep(_NODES_EVERY)
    finally:
        ray.shutdown()
    if there < wanted:
        print(f"going on with {there} of {wanted} nodes", flush=True)


def nodes_wanted(launcher: Path) -> int:
    """How many nodes `ray up` keeps at least, by the file that it leaves on the head; 1 without one."""
    try:
        kinds = json.loads(launcher.read_text(encoding="utf-8"))["available_node_types"]
        return 1 + sum(int(kind.get("min_workers") or 0) for kind in kinds.values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return 1


def _problem(asked: str, rest: Sequence[str]) -> str | None:
    if asked != __version__:
        return (
            f"the command comes from ablator {asked} and the cluster has {__version__}, which may read "
            "studies in another way; bring them to one version (`ray up` installs build/ablator)"
        )
    if not os.environ.get(STORE) and "--store" not in rest:
        return (
            f"the cluster has no {STORE} and the command no --store; name a folder there that all its "
            "machines share (the cluster files of Ablator set the variable)"
        )
    return None


def _say(kind: Kind, content: bytes) -> None:
    sys.stdout.writelines(framed(kind, content))
    sys.stdout.flush()


def _packed(said: dict[str, Any]) -> bytes:
    """The folders that a report's object names, as a tar archive; paths are those below `reports/`."""
    each = said.get("studies", [said])
    pages = {Path(one["page"]) for one in [said, *each] if "page" in one}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for page in sorted(pages):
            folder = page.parent
            root = next(parent for parent in page.parents if parent.name == "reports")
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    archive.add(path, str(path.relative_to(root)))
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
