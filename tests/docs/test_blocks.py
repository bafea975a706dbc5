"""Every code block of the documentation is run by a test, or stands here with the reason why it is not.

The commands and the Python of the README and the guides are run as they are written, in a folder like the
checkout whose own profile `laptop` is smaller still. Studies, recipes, profiles and spaces are planned by
test_docs.py, plug-ins are built by test_how_to.py, diagrams are compared by test_site.py, the component of
extending.md is built by test_examples.py, and tests/docs/test_tutorial.py follows the tutorial.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

# Beginning of a command, or of a Python block, to why it is not run here.
_NOT_RUN = {
    "make ": "CI runs it (.ci/run)",
    ". .venv/bin/activate": "tests run in an environment already",
    "ablator ui": "serves until it is interrupted; tests/cli/test_upkeep.py starts it",
    "ablator run experiments/ ": "tests/cli/test_folder.py runs a folder",
    "ablator run experiments/moto_n.yaml --set data.root=/data/imagenet": "needs ImageNet and a GPU",
    "ablator run experiments/moto_n.yaml --profile laptop --mlflow http": "tests/results sends to a server",
    "ablator run experiments/moto_n.yaml --profile laptop --store s3": "needs a bucket; tests/scheduling "
    "runs over one",
    "ablator status experiments/moto_n.yaml --profile laptop --store s3": "needs a bucket",
    "ablator figures docs/figures.yaml --profile laptop": "measures twelve models; tests/analysis draws two",
    "ablator status experiments/moto_norm.yaml": "watches a run; tests/cli/test_status.py follows one",
    "ablator diff ": "needs an older report; tests/cli/test_diff.py compares two",
    "ablator explain ": "needs a search that has run; tests/cli/test_explain.py explains one",
    "ablator run experiments/best.yaml": "is what `ablator explain` writes",
    "ablator sync --mlflow http": "tests/results sends to a server",
    "ablator run experiments/moto_n.yaml --address": "needs a cluster; tests/scheduling joins one",
    "ablator run experiments/moto_n.yaml --profile gpu": "trains for hours without a GPU",
    "ablator run docs/figures.yaml --profile laptop --set data.name=fashion_mnist": "needs its images",
    "ablator run experiments/moto_n.yaml --profile laptop --set data.name=parquet": "tests/data reads them",
    "ablator schema": "writes into the checkout; test_docs.py compares what it writes",
    "ray ": "tests/remote runs them against a second host",
    "ablator status experiments/moto_n.yaml --cluster": "tests/remote asks a second host",
    "ablator report experiments/moto_n.yaml --cluster": "tests/remote asks a second host",
    "ablator run experiments/moto_n.yaml --cluster": "tests/remote runs a study on a second host",
    "ssh -N": "needs machines",
    "export RAY_AUTH_MODE": "needs machines",
    "pip install": "needs a registry",
    "git clone . build/ablator": "prepares `ray up`",
    "apt-get": "needs a registry",
    "dpkg-deb": "needs what apt-get brings",
}
_ELSEWHERE = ("docs/tutorial.md",)
_FILES = (
    *("README.md", "docs/data-and-weights.md", "docs/figures.md", "docs/running.md"),
    "docs/study-files.md",
)
"""Whose commands are run."""


def _commands(docs: Any, file: str | None = None) -> Iterator[tuple[str, str]]:
    for block in docs.blocks("sh"):
        if block.file in _ELSEWHERE or file not in (None, block.file):
            continue
        for line in block.text.splitlines():
            command = re.sub(r"\s+# .*", "", line).strip()
            if command and not command.startswith("#"):
                yield block.file, command


def _reason(text: str) -> str | None:
    return next((start for start in _NOT_RUN if text.startswith(start)), None)


def test_every_block_is_run_or_has_a_reason(docs: Any) -> None:
    assert _languages(docs) <= {"sh", "python", "yaml", "mermaid", "toml"}
    commands = [command for _, command in _commands(docs)]
    pythons = [block.text for block in docs.blocks("python") if not block.path]
    for file, command in _commands(docs):
        runs = command.startswith("ablator ") and file in _FILES
        assert runs or _reason(command) is not None, f"{file}: {command}"
    used = {_reason(text) for text in (*commands, *pythons)}
    assert set(_NOT_RUN) <= used, f"reasons without a block: {sorted(set(_NOT_RUN) - used)}"
    for block in docs.blocks("toml"):
        assert tomllib.loads(block.text)["project"]["entry-points"]["ablator.plugins"]


def _languages(docs: Any) -> set[str]:
    return {name for text in docs.texts.values() for name in re.findall(r"^ *```(\w+)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the checkout in which `--profile laptop` trains for seconds, with images in DIR."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("experiments", "recipes", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "figures.yaml", folder / "docs")
    profile = folder / "recipes" / "profiles" / "laptop.yaml"
    document = yaml.safe_load(profile.read_text(encoding="utf-8"))
    document["set"]["train"] |= {"epochs": 1, "warmup_epochs": 0}
    document["set"]["data"]["fraction"] = 0.1
    document |= {"seeds": 1, "samples": 4}
    profile.write_text(yaml.safe_dump(document), encoding="utf-8")
    rng = np.random.default_rng(0)
    for kind, low in (("dark", 0), ("light", 128)):
        place = folder / "DIR" / kind
        place.mkdir(parents=True)
        for number in range(400):
            pixels = rng.integers(low, low + 127, size=(32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def _bash(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", _FILES)
def test_commands_run_as_they_are_written(docs: Any, small: Path, file: str) -> None:
    (width,) = [b for b in docs.blocks("yaml") if "study: width" in b.text]
    (small / "experiments" / "width.yaml").write_text(width.text, encoding="utf-8")
    for _, command in _commands(docs, file):
        if _reason(command) is None:
            _bash(command, small)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["README.md", "docs/running.md"])
def test_python_runs_as_it_is_written(docs: Any, small: Path, file: str) -> None:
    blocks = [b for b in docs.blocks("python") if b.file == file and _reason(b.text) is None]
    assert blocks
    for block in blocks:
        script = small / "block.py"
        script.write_text(block.text, encoding="utf-8")
        assert _bash("python block.py", small).strip()
