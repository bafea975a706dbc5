"""Small real studies over real images, and a way to run them as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("ablator", deadline=None)
hypothesis.settings.load_profile("ablator")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# One small transformer over the digits; a trial takes a second or two on one core.
RECIPE: dict[str, Any] = {
    "data": {"name": "digits", "image_size": 32, "fraction": 0.4},
    "model": {
        "name": "deit_tiny_patch16_224",
        "drop_path": 0.1,
        "options": {
            "patch_size": 8,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "weight_init": "jax",
        },
    },
    "augment": {
        "crop": "pad",
        "flip": 0.0,
        "rand_augment": None,
        "color_jitter": 0.0,
        "erase": 0.0,
        "repeats": 1,
        "eval_crop": 1.0,
    },
    "train": {
        "epochs": 3,
        "batch_size": 32,
        "lr": 2e-3,
        "lr_batch": None,
        "warmup_epochs": 1,
        "mixup": 0.0,
        "cutmix": 0.0,
    },
}


class Outcome:
    """A finished command line."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def json(self) -> dict[str, Any]:
        """The last line of standard output."""
        found: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return found


def ablator(*arguments: object, timeout: float = 300, **environment: str) -> Outcome:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ablator", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )
    return Outcome(done)


# An S3-compatible server on a free port of this machine, which it says.
_S3_SERVER = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
while True:
    time.sleep(3600)
"""


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Host and port of an S3-compatible server with an empty bucket `bucket`."""
    from pyarrow import fs

    server = subprocess.Popen(
        [sys.executable, "-c", _S3_SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        endpoint = f"127.0.0.1:{server.stdout.readline().strip()}"
        fs.S3FileSystem(
            access_key="testing",
            secret_key="testing-secret",
            endpoint_override=endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        ).create_dir("bucket")
        yield endpoint
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def s3_store(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store in the bucket that nobody has written to. Its folder of this machine is in
    `tmp_path`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    monkeypatch.setenv("ABLATOR_CACHE", str(tmp_path / "cache"))
    return f"s3://bucket/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}&scheme=http"


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    """`cli("run", path, "--json")` runs the command line as a user does."""
    return ablator


@pytest.fixture(scope="session")
def write_study() -> Callable[..., Path]:
    """`write_study(folder, name, arms, **rest)` writes a small study file and returns its path."""

    def write(folder: Path, name: str, arms: Sequence[dict[str, Any]], **rest: Any) -> Path:
        document = {
            "study": name,
            "source": "a test",
            "question": "Does it run?",
            "base": RECIPE,
            "baseline": {"label": "DeiT"},
            "arms": list(arms),
            "seeds": 2,
            **rest,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write
