"""Join the Ray cluster that is there, or start one for this run alone."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.services import find_bootstrap_address

from ablator.errors import ClusterError, SettingError
from ablator.scheduling.slot import SlotShape

_KNOBS = {
    # Report and health polling of a worker group; the default of 2 s delays every restart.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # A cold import of torch on a busy machine takes longer than the default of 60 s allows.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # The ledger is what a resume starts from, so Tune writes no state and no logs of its own.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A slot has several light processes; Ray warns on standard output at four times this many.
    "RAY_worker_maximum_startup_concurrency": "8",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """What the user asked to run on."""

    slots: int | None = None
    """Worker groups at once; None: as many as the cluster holds."""
    shape: SlotShape = dataclasses.field(default_factory=SlotShape)
    address: str | None = None
    """A cluster's address, `local` to start one in any case, or None to join one if there is one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """The Ray cluster of this run."""

    joined: bool
    cpus: float
    gpus: float
    nodes: int


@contextmanager
def cluster(resources: Resources) -> Iterator[Cluster]:
    """Ray, for the body's time. A cluster that this process started ends with it.

    Raises ClusterError where a cluster was named and does not answer.
    """
    for name, value in _KNOBS.items():
        os.environ.setdefault(name, value)
    address = _address(resources.address)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # One processor more than there is pays for Tune's light actors (0.01 each).
        options["num_cpus"] = (os.cpu_count() or 1) + 1
    try:
        ray.init(address=address or "local", **options)
    except Exception as error:
        where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
        raise ClusterError(f"cannot {where}: {error}") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        total = ray.cluster_resources()
        spare = 0 if address else 1
        yield Cluster(
            joined=address is not None,
            cpus=total.get("CPU", 0) - spare,
            gpus=total.get("GPU", 0),
            nodes=len([n for n in ray.nodes() if n["Alive"]]),
        )
    finally:
        ray.shutdown()


def _address(asked: str | None) -> str | None:
    if asked == "local":
        return None
    address = asked or os.environ.get("RAY_ADDRESS")
    if address and address != "auto":
        return address
    # Only clusters of `ray start` leave their address; private ones of other runs are not joined.
    found: str | None = find_bootstrap_address(None)
    if found and _answers(found):
        return found
    if address == "auto":
        raise ClusterError(
            "--address auto: no Ray cluster runs on this machine; start one with `ray start --head`, name "
            "one with --address HOST:PORT, or leave --address away to let the run start its own"
        )
    return None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def slots_for(resources: Resources, cluster: Cluster, trials: int) -> int:
    """How many slots to start: what was asked for, or what fits, and never more than there are trials.

    Raises SettingError where not even one fits.
    """
    shape = resources.shape
    fits = int((cluster.cpus + 1e-6) // (shape.cpus * shape.workers)) if shape.cpus else 10**6
    if shape.gpus:
        fits = min(fits, int((cluster.gpus + 1e-6) // (shape.gpus * shape.workers)))
    if fits < 1:
        raise SettingError(
            f"a slot needs {shape.workers} worker(s) of {shape.cpus:g} CPU and {shape.gpus:g} GPU; the "
            f"cluster has {cluster.cpus:g} CPU and {cluster.gpus:g} GPU: ask for less with --workers, "
            f"--cpus or --gpus"
        )
    if resources.slots is not None and resources.slots > fits:
        raise SettingError(
            f"--slots {resources.slots} do not fit: {fits} slot(s) of {shape.workers} worker(s) x "
            f"{shape.cpus:g} CPU, {shape.gpus:g} GPU fit {cluster.cpus:g} CPU and {cluster.gpus:g} GPU"
        )
    return max(1, min(resources.slots or fits, trials))
