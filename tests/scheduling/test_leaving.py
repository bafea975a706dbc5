"""Leaving a cluster while other threads of the driver go on."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Object references in cycles, as Tune leaves them, and a thread that collects garbage while Ray shuts down.
SCRIPT = """
import gc, threading
import ray
from ray._private.worker import global_worker
from ablator.scheduling.cluster import Resources, cluster

class Knot:
    pass

def collect():
    while global_worker.connected:
        pass
    gc.collect()

gc.disable()
with cluster(Resources(address="local")):
    for _ in range(3000):
        knot = Knot()
        knot.itself, knot.reference = knot, ray.put(1)
    collector = threading.Thread(target=collect)
    collector.start()
collector.join()
print("still here")
"""


@pytest.mark.slow
def test_garbage_of_ray_in_another_thread_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "still here"), done.stderr
