"""Join the Ray cluster that is there, or start one for this run alone."""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private.accelerators import get_accelerator_manager_for_resource

from ablator.errors import ClusterError, SettingError
from ablator.plan.packing import Measured, slots_per_gpu
from ablator.scheduling.address import answers, running_address
from ablator.scheduling.lifeline import Lifeline
from ablator.scheduling.slot import SlotShape

KNOBS = {
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

# Machines of a cluster may be taken away with a notice, which a light process of each slot passes on.
_JOINED = {**KNOBS, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}


_KIND = "accelerator_type:"
"""What Ray's resource for the kind of a node's GPUs begins with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """What the user asked to run on."""

    slots: int | None = None
    """Worker groups at once; None: as many as the cluster holds. Of a cluster that was there before, more
    than it holds may be asked for: the others start when machines join it."""
    shape: SlotShape = dataclasses.field(default_factory=SlotShape)
    pack: bool = False
    """Several slots a GPU where that was measured to fit and to be faster; needs `shape.gpus` None."""
    address: str | None = None
    """A cluster's address, `local` to start one in any case, or None to join one if there is one."""

    def __post_init__(self) -> None:
        if self.pack and (self.shape.gpus is not None or self.shape.workers > 1):
            raise SettingError(
                "--pack finds out how many slots share a GPU and does not go with --gpus, nor with several "
                "--workers, which cannot share one; leave out one of them"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """The Ray cluster of this run."""

    joined: bool
    nodes: tuple[tuple[float, float], ...]
    """CPUs and GPUs of every node."""
    devices: tuple[str, ...] = ()
    """Kinds of GPUs that it has, as Ray names them, such as H100; empty where Ray does not know them."""
    api: str = ""
    """Address of its API server, of one that this run started; empty where it has none."""

    @property
    def cpus(self) -> float:
        """Of all nodes."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> float:
        """Of all nodes."""
        return sum(gpus for _, gpus in self.nodes)


@contextmanager
def cluster(resources: Resources) -> Iterator[Cluster]:
    """Ray, for the body's time. A cluster that this process started ends with it.

    Raises ClusterError where a cluster was named and does not answer, and SettingError, before Ray is
    started, where this machine has no room for a single slot.
    """
    for name, value in KNOBS.items():
        os.environ.setdefault(name, value)
    address = _address(resources.address)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        # A cluster that runs already has an environment of its own.
        options["runtime_env"] = {"env_vars": {k: v for k, v in _JOINED.items() if "TUNE" not in k}}
    else:
        slots_for(resources, _this_machine(), trials=resources.slots or 1)
        options["num_cpus"] = _cores()
    try:
        context = ray.init(address=address or "local", **options)
    except Exception as error:
        where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
        hint = "; where it asks for a token, set RAY_AUTH_MODE=token" if address else ""
        raise ClusterError(f"cannot {where}: {error}{hint}") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    # An actor that died is started again and told as an event; Tune prints each with a traceback.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    # Nothing is restored from Tune's own state; on a full disk it would print a traceback before our error.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    try:
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = tuple((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in found)
        devices = tuple(
            sorted({name.removeprefix(_KIND) for node in found for name in node if _KIND in name})
        )
        if address is not None:
            there = Cluster(joined=True, nodes=nodes, devices=devices)
        else:
            url = context.dashboard_url
            there = dataclasses.replace(_this_machine(), devices=devices, api=f"http://{url}" if url else "")
        # A client of Ray (ray://) has no raylet on this machine.
        raylet = getattr(context, "address_info", {}).get("raylet_socket_name")
        with Lifeline(raylet) if raylet else nullcontext():
            yield there
    finally:
        _leave()


def _leave() -> None:
    """`ray.shutdown`, without its race: a reference to a Ray object that another thread's garbage collection
    finds while Ray is on its way out ends the process at once, with exit code 1 and no word."""
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


def _address(asked: str | None) -> str | None:
    address = asked or os.environ.get("RAY_ADDRESS")
    if address == "local":
        return None
    said = f"--address {address}" if asked else f"RAY_ADDRESS={address}"
    if address and address != "auto":
        if not answers(address):
            raise ClusterError(
                f"{said}: nothing answers there; an address is HOST:PORT of a cluster that `ray start "
                "--head` or `ray up` started, auto for this machine's, or local to start one for this run"
            )
        return address
    found = running_address()
    if found is not None:
        return found
    if address == "auto":
        raise ClusterError(
            f"{said}: no Ray cluster runs on this machine; start one with `ray start --head`, name one with "
            "--address HOST:PORT, or let the run start its own with --address local"
        )
    return None


def _cores() -> int:
    """Processors that this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0))


def _this_machine() -> Cluster:
    """What a private cluster will have, as Ray itself will find it."""
    manager = get_accelerator_manager_for_resource("GPU")
    visible = manager.get_current_process_visible_accelerator_ids()
    gpus = manager.get_current_node_num_accelerators()
    return Cluster(joined=False, nodes=((_cores(), gpus if visible is None else min(gpus, len(visible))),))


def shape_on(resources: Resources, cluster: Cluster) -> SlotShape:
    """The slots' shape with its GPUs: where none are asked for, one a worker if the cluster has any.

    Raises SettingError for GPUs that cannot be divided so.
    """
    shape = resources.shape
    gpus = shape.gpus if shape.gpus is not None else min(1.0, cluster.gpus)
    if gpus > 1 and gpus != int(gpus):
        raise SettingError(f"--gpus {gpus:g}: a worker takes whole GPUs or a part of one; use 0.5, 1 or 2")
    if gpus % 1 and shape.workers > 1:
        raise SettingError(
            f"--gpus {gpus:g} with --workers {shape.workers}: workers of one trial cannot share a GPU (NCCL "
            "refuses it); use --gpus 1, or --workers 1 for several trials on one GPU"
        )
    return dataclasses.replace(shape, gpus=gpus)


def packed(resources: Resources, cluster: Cluster, specs: Sequence[Sequence[Measured]]) -> Resources:
    """With a part of a GPU a worker, where `pack` asks for it and the measurements of what is ahead (`specs`,
    by footprint) allow more than one slot a GPU."""
    if not resources.pack:
        return resources
    count = slots_per_gpu(specs, cluster.devices) if cluster.gpus else 1
    if count == 1:
        return resources
    # Ray counts in ten-thousandths.
    share = math.floor(1e4 / count) / 1e4
    return dataclasses.replace(resources, pack=False, shape=dataclasses.replace(resources.shape, gpus=share))


def sharing(shape: SlotShape) -> int:
    """Slots that share a GPU under a shape of slots."""
    return int((1 + 1e-6) // shape.gpus) if shape.gpus and shape.gpus < 1 else 1


def slots_in(cluster: Cluster, shape: SlotShape) -> int:
    """Slots of that shape that the cluster's machines hold."""
    assert shape.gpus is not None
    return sum(_workers_on(node, shape.cpus, shape.gpus) for node in cluster.nodes) // shape.workers


def slots_for(resources: Resources, cluster: Cluster, trials: int) -> int:
    """How many slots to start: what was asked for, or what fits, and never more than there are trials.

    Raises SettingError where not even one fits, and where more are asked for than this machine holds, which
    nothing can join.
    """
    shape = shape_on(resources, cluster)
    fits = slots_in(cluster, shape)
    where = "the cluster" if cluster.joined else "this machine"
    if fits < 1:
        raise SettingError(
            f"a slot needs {shape.workers} worker(s) of {shape.cpus:g} CPU and {shape.gpus:g} GPU; {where} "
            f"has {cluster.cpus:g} CPU and {cluster.gpus:g} GPU: ask for less with --workers, --cpus or "
            "--gpus"
        )
    if resources.slots is not None and resources.slots > fits and not cluster.joined:
        raise SettingError(
            f"--slots {resources.slots} do not fit: {where} has {cluster.cpus:g} CPU and {cluster.gpus:g} "
            f"GPU, room for {fits} slot(s) of {shape.workers} worker(s) x {shape.cpus:g} CPU, "
            f"{shape.gpus:g} GPU"
        )
    return max(1, min(resources.slots or fits, trials))


def _workers_on(node: tuple[float, float], cpus: float, gpus: float) -> int:
    """Workers that one node holds; a worker's GPU is never pieced together from two."""
    has_cpus, has_gpus = node
    fits = int((has_cpus + 1e-6) // cpus) if cpus else 10**6
    if gpus:
        on_gpus = int(has_gpus) * int((1 + 1e-6) // gpus) if gpus <= 1 else int(has_gpus // gpus)
        fits = min(fits, on_gpus)
    return fits
