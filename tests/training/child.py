"""Trials in a process of their own: `child.py kill CHECKPOINT EPOCH MICRO` dies at that micro-batch;
`child.py rank RANK SIZE FOLDER` is one worker of the distributed trials, and writes FOLDER/RANK.json."""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from conftest import FULL, PLAIN, ToyModel, digest, kill_at, resumable_model, run_toy

from ablator.contracts.protocols import World
from ablator.errors import StoreError


def kill(checkpoint: str, epoch: str, micro: str) -> None:
    """Train until the signal."""
    run_toy(
        FULL,
        model=resumable_model,
        checkpoint=Path(checkpoint),
        checkpoint_seconds=0,
        fail=kill_at(int(epoch), int(micro)),
    )


def told(outcome: Any, model: Any) -> dict[str, Any]:
    """What the test compares."""
    return {
        "status": outcome.status,
        "error": outcome.error,
        "metrics": outcome.metrics,
        "curves": outcome.curves,
        "weights": torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(),
        "digest": digest(model),
    }


def rank(number: str, size: str, folder: str) -> None:
    """Run every distributed trial after the other."""
    world = World(rank=int(number), size=int(size))
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=world.rank, world_size=world.size)
    run = partial(run_toy, world=world)
    full = dataclasses.replace(FULL, batch_size=16)
    everything = partial(ToyModel, batch_norm=True, dropout=0.3)
    poisoned = partial(ToyModel, poison=3 if world.rank == 1 else None)
    # Each worker has a folder of its own, so that only rank 0 can find the checkpoint.
    own = Path(folder) / number / "checkpoint.pt"
    found = {
        "plain": told(*run(PLAIN)),
        "accumulated": told(*run(dataclasses.replace(PLAIN, accumulate=2))),
        "full": told(*run(full, model=everything)),
        "nan": told(*run(model=poisoned)),
        "stopped": told(*run(full, model=everything, checkpoint=own, on_progress=lambda _: world.rank != 1)),
        "resumed": told(*run(full, model=everything, checkpoint=own)),
    }
    if world.rank == 0:
        own.write_bytes(b"damaged")
    try:
        run(full, model=everything, checkpoint=own)
    except StoreError as error:
        found["damaged"] = {"error": str(error)}
    (Path(folder) / f"{number}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"kill": kill, "rank": rank}[sys.argv[1]](*sys.argv[2:])
