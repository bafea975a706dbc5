"""A machine that is to be taken away, and one of two GPUs that is too small: a real run with two workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.results.store import Store

# Each step is slow and leaves a line; the second worker's memory holds eight images.
PLUGIN = """
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from ablator.contracts.protocols import Change
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS


@settings
class HurtSettings:
    steps: str = ""
    fit: int = 1000


class Hurt(torch.nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.settings = settings

    def forward(self, x_BCHW):
        if self.training and dist.is_initialized():
            if dist.get_rank() == 1 and len(x_BCHW) > self.settings.fit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")
            if dist.get_rank() == 0 and self.settings.steps:
                with open(self.settings.steps, "a") as file:
                    file.write(f"{os.getpid()}\\n")
                time.sleep(0.1)
        return x_BCHW * 0.5


def attach(seams, settings):
    seam = seams.tokenizer()
    seam.append(Hurt(settings))
    return Change(places=(seam.name,))


COMPONENTS.add("hurt", attach, settings=HurtSettings)
"""


@pytest.mark.slow
def test_a_worker_that_must_go_loses_no_step_and_all_workers_halve_together(
    write_study: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "hurt.py").write_text(PLUGIN)
    steps = tmp_path / "steps"
    study = write_study(
        tmp_path,
        "hurting",
        [
            {"label": "notice", "set": {"hurt.steps": str(steps)}},
            {"label": "memory", "set": {"hurt.fit": 8}},
        ],
        plugins=["hurt.py"],
        seeds=1,
        set={"train.epochs": 2, "data.fraction": 1.0},
    )
    store, log = tmp_path / "store", tmp_path / "log"
    options = ["--workers", "2", "--slots", "1", "--mlflow", "off", "--checkpoint-seconds", "3600"]
    with open(log, "w") as file:
        run = subprocess.Popen(
            [sys.executable, "-m", "ablator", "run", str(study), "--store", str(store), *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 200
        # In the middle of the first epoch.
        while not steps.exists() or len(lines := steps.read_text().splitlines()) < 10:
            assert run.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        os.kill(int(lines[-1]), signal.SIGTERM)
        assert run.wait(240) == 0, log.read_text()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    ledger = Store(store).ledger
    found = {str(r.spec.get("hurt")): r for r in ledger.load(ledger.identities()).values()}
    (notice,) = [record for key, record in found.items() if str(steps) in key]
    (memory,) = [record for key, record in found.items() if "'fit': 8" in key]
    done = steps.read_text().splitlines()
    assert len(set(done)) == 2, "it went on in another process"
    assert len(done) == notice.cost["steps"], "no step was made twice"
    assert (notice.status, notice.attempts) == ("completed", 2)
    assert [(retry.ended, retry.epoch) for retry in notice.retries] == [("notice", 0)]
    assert (memory.status, memory.attempts) == ("completed", 2)
    assert [(retry.ended, retry.epoch) for retry in memory.retries] == [("out of memory", 0)]
    assert memory.cost["accumulate"] == 2
    assert memory.cost["steps"] == notice.cost["steps"]
    assert any("16 images at once on each worker did not fit" in note for note in memory.notes)
    told = " ".join(log.read_text().split())
    assert "Disturbed: notice, seed 0, 2 starts (notice, went on in epoch 1)" in told
