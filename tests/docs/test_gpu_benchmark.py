"""benchmarks/gpu.py measures, recommends and estimates on a machine without a GPU as it would on one."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/gpu.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    precision = torch.get_float32_matmul_precision()
    yield importlib.import_module("gpu")
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def options() -> argparse.Namespace:
    return argparse.Namespace(
        quick=True, profile="laptop", set=[], models=[], batches=[256], precisions=["fp32"]
    )


def cell(gpu: ModuleType, rate: float | None, reserved_mb: float = 1000.0, **setting: Any) -> Any:
    return gpu.Cell(
        model="m",
        setting=gpu.Setting(**{"batch": 256, **setting}),
        images_per_second=rate,
        reserved_mb=reserved_mb,
        error=None if rate else gpu.OOM,
    )


def test_a_cell_is_measured_once(gpu: ModuleType, options: argparse.Namespace, tmp_path: Path) -> None:
    model = gpu.models(gpu.plans(options))["deit_tiny_patch16_224"]
    span = gpu.Span(seconds=0.0, steps=1, train_images=16, val_images=8)
    setting = gpu.Setting(batch=4, data="device")

    def make() -> Any:
        return gpu.measure(model.name, model.document, setting, span, CPU, evaluated=True)

    found = gpu.Results(tmp_path / "cells.json", float("inf")).ask(model.name, setting, make)
    assert found.images_per_second > 0
    assert found.evaluated_per_second > 0
    again = gpu.Results(tmp_path / "cells.json", 0.0)  # its time is over
    assert again.ask(model.name, setting, make) == found
    assert again.ask("another", setting, make) is None
    assert again.left_out == 1


def test_the_fastest_setting_that_fits_is_recommended(
    gpu: ModuleType, options: argparse.Namespace, tmp_path: Path
) -> None:
    results = gpu.Results(tmp_path / "cells.json", 0.0)
    results.cells = [
        cell(gpu, 100.0),
        cell(gpu, 150.0, data="device"),
        cell(gpu, 400.0, 30_000.0, data="device", slots=4),
        cell(gpu, 900.0, precision="tf32"),  # no run can be told to use it
        cell(gpu, 300.0, batch=1024, compile=True),
        cell(gpu, None, batch=512),
    ]
    assert gpu.best(results, "m", memory_mb=80_000) == gpu.Setting(batch=1024, compile=True)
    assert gpu.best(results, "m", 256, memory_mb=80_000) == gpu.Setting(batch=256, data="device")
    assert gpu.best(results, "m").slots == 4
    assert gpu.best(results, "another") is None
    assert gpu.rates(results, "m", gpu.Setting(batch=256, data="device"), options) == ("150", "1.50")
    assert gpu.rates(results, "m", gpu.Setting(batch=512), options) == ("OOM", "")


def test_minutes_are_those_of_all_trials_of_the_plan(
    gpu: ModuleType, options: argparse.Namespace, tmp_path: Path
) -> None:
    options.set = ["train.epochs=6", "train.eval_every=4", "train.warmup_epochs=0"]
    planned = gpu.plans(options)
    results = gpu.Results(tmp_path / "cells.json", 0.0)
    span = gpu.Span(train_images=3000, val_images=500)
    for trial in planned[0].trials:
        train = trial.spec.train
        setting = gpu.Setting(batch=train.batch_size, precision=train.precision, data="device")
        results.cells.append(
            gpu.Cell(
                model=gpu.shape_of(trial), setting=setting, images_per_second=10.0, evaluated_per_second=20.0
            )
        )
    # 6 epochs of 3000 images at 10 a second, 2 evaluations of 500 at 20, and a second between trials.
    assert gpu.trial_seconds(planned[0].trials[0], results, span, CPU) == 6 * 300 + 2 * 25 + 1
    line = next(line for line in gpu.estimates(planned, results, span, CPU) if line.startswith("| moto_n |"))
    trials = len(planned[0].unique())
    assert f"| {trials} | {trials} | {trials * 1851 / 60:.1f} | **above 30** |" in line


def test_throughput_needs_neither_ray_nor_mlflow_nor_a_table() -> None:
    """The modules that a machine may lack when images a second and minutes are all that is wanted."""
    lacking = (
        "ray",
        "mlflow",
        "optuna",
        "pyarrow",
        "pandas",
        "scipy",
        "statsmodels",
        "sklearn",
        "matplotlib",
    )
    code = (
        f"import sys\nfor name in {lacking}: sys.modules[name] = None\n"
        f"sys.path.append({str(ROOT / 'benchmarks')!r})\n"
        "import argparse, gpu\n"
        "options = argparse.Namespace(quick=False, profile='gpu', set=[])\n"
        "print(len(gpu.models(gpu.plans(options))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 9


@pytest.mark.slow
def test_the_quick_command_fills_its_folder(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "gpu.py"
    words = ["--quick", "--device", "cpu", "--parts", "throughput", "studies", "--studies", "moto_n"]
    words += ["--results", str(tmp_path), "--store", str(tmp_path / "store")]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [folder] = [path for path in tmp_path.iterdir() if path.name.endswith("-quick")]
    assert {path.name for path in (folder / "moto_n").iterdir()} >= {"table.md", "table.tex", "page.html"}
    page = (folder / "README.md").read_text()
    assert "--studies moto_n" in page
    assert f"torch {torch.__version__.split('+')[0]}" in page
    assert "ablator run experiments/moto_n.yaml --profile laptop" in page
    assert "## Recommendation" in page
