"""The machine under a trial: what it is, and what to do where its memory is out."""

from __future__ import annotations

import gc
import os
import platform

import torch

from ablator.contracts.protocols import World
from ablator.contracts.train import TrainSettings
from ablator.errors import SettingError
from ablator.objectives.features import forget_networks
from ablator.plan.packing import MEMORY, SLOTS
from ablator.training.batching import micro_batch_size
from ablator.training.memory import halved


class OutOfMemoryError(Exception):
    """A step did not fit into the device's memory. It holds on to nothing that did."""


def smaller_step(used: TrainSettings, world: World, error: OutOfMemoryError) -> int:
    """The `accumulate` with which to try again. Raises SettingError where micro-batches cannot be halved."""
    accumulate = halved(used, world)
    if accumulate is None:
        raise SettingError(
            f"a step must fit into the GPU's memory: it does not with {micro_batch_size(used, world)} images "
            f"at once (train.batch_size {used.batch_size}, train.accumulate {used.accumulate}), which cannot "
            f"be halved; use a smaller model or data.image_size, train.precision: bf16, or a GPU with more "
            f"memory ({error})"
        )
    return accumulate


def clear(device: torch.device) -> None:
    """Take from a GPU what earlier trials of this process left there and would be counted as this one's peak
    memory: feature networks, and whatever waits for the garbage collection. Images stay."""
    if device.type == "cuda":
        forget_networks()
        gc.collect()
        torch.cuda.empty_cache()


def machine(device: torch.device, *, slots_per_gpu: int = 1) -> dict[str, str]:
    """Name and size of what trains, for records; of a GPU also its memory and how many slots share it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    shared = {}
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory // 2**20
        shared = {SLOTS: str(slots_per_gpu), MEMORY: str(memory)}
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "cores": str(len(os.sched_getaffinity(0))),
        **shared,
    }
