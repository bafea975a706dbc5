"""How many images a second one setting trains: the cells that `gpu.py` measures.

A cell is the training loop's own work (`training.step.Stepper` on `data.loading`'s batches) for a fixed time,
after steps that do not count, on random images of CIFAR-10's shape. Several slots are as many processes on
one device, which start together; their images are added up. Needs neither data nor Ray, MLflow or Optuna.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ablator.assembly.build import Assembly, assemble
from ablator.contracts.protocols import World
from ablator.data import fast
from ablator.data.catalog import describe
from ablator.data.loading import Loader, load
from ablator.data.source import ArrayImages, Source
from ablator.plan.spec import TrialSpec
from ablator.training.loop import evaluate
from ablator.training.step import Stepper, autocast

CLASSES = 10
SIDE = 32
TRAIN_IMAGES, VAL_IMAGES = 50_000, 10_000
WARM_STEPS = 4
_START_SECONDS = 900.0
OOM = "OOM"

Precision = Literal["fp32", "tf32", "bf16"]
Place = Literal["device", "host"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """How a model is trained."""

    batch: int
    precision: Precision = "fp32"
    """fp32: as torch's defaults have it (convolutions may use TF32, matrix products not); tf32: both may."""
    compile: bool = False
    data: Place = "host"
    """Where batches are made."""
    slots: int = 1
    """Processes on the device."""

    def words(self) -> str:
        """For tables."""
        compiled = "compiled" if self.compile else "eager"
        return f"{self.batch} | {self.precision} | {compiled} | {self.data} | {self.slots}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """What is measured of a cell."""

    seconds: float = 2.0
    """Least time; whole steps are counted."""
    steps: int = 20
    """Least steps."""
    train_images: int = TRAIN_IMAGES
    val_images: int = VAL_IMAGES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What one setting of one model came to; OOM has only its word."""

    model: str
    setting: Setting
    images_per_second: float | None = None
    """Trained, over all slots, waiting for data included."""
    evaluated_per_second: float | None = None
    """Evaluated, where that was asked for."""
    peak_mb: float | None = None
    """CUDA's allocated 2²⁰ bytes of one slot at its fullest, without the data set's images."""
    reserved_mb: float | None = None
    """What its allocator took from the device for that, images included."""
    warm_seconds: float | None = None
    """Building and the steps that do not count, compilation included."""
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Cell:
        """The inverse of `to_json`."""
        return cls(**{**plain, "setting": Setting(**plain["setting"])})


@functools.lru_cache(maxsize=1)
def random_images(train: int, val: int) -> Source:
    """A data set of CIFAR-10's shape; what its images show changes no time."""
    draw = np.random.default_rng(0)

    def split(count: int, name: str) -> ArrayImages:
        pixels = draw.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        return ArrayImages(pixels=pixels, labels=np.arange(count, dtype=np.int64) % CLASSES, label=name)

    return Source(
        name="random",
        classes=tuple(str(index) for index in range(CLASSES)),
        train=split(train, "train"),
        val=split(val, "val"),
        fingerprint="",
        licence="",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


class Training:
    """One model being trained at one setting."""

    def __init__(
        self, document: Mapping[str, Any], setting: Setting, span: Span, device: torch.device
    ) -> None:
        plain = copy.deepcopy(dict(document))
        precision = "bf16" if setting.precision == "bf16" else "fp32"
        plain["train"] |= {"batch_size": setting.batch, "accumulate": 1, "precision": precision}
        plain["model"]["weights"] = None
        plain["data"]["fraction"] = 1.0
        spec = TrialSpec.from_json(plain)
        source = random_images(span.train_images, span.val_images)
        self.device, self.setting = device, setting
        self.loader = self._load(spec, source)
        self.loader.place()
        self.assembly: Assembly = assemble(spec, describe(source, spec.data))
        self.precision: Literal["fp32", "bf16"] = spec.train.precision
        self.stepper: Stepper | None = None
        if self.assembly.heads is None:
            self.stepper = self._stepper(spec)
        else:  # a probe: what costs time is the frozen backbone's pass
            self.assembly.model.to(device).eval()
        self._batches = self._endless()
        self._done = 0

    def _load(self, spec: TrialSpec, source: Source) -> Loader:
        place = self.device if self.setting.data == "device" else torch.device("cpu")
        return load(
            spec.data,
            spec.augment,
            seed=0,
            batch_size=self.setting.batch,
            world=World(),
            source=source,
            device=place,
        )

    def _stepper(self, spec: TrialSpec) -> Stepper:
        return Stepper(
            self.assembly.model.train(),
            self.assembly.task,
            spec.train,
            10**6,
            num_classes=CLASSES,
            seed=0,
            device=self.device,
            world=World(),
            compile=self.setting.compile,
        )

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            yield from self.loader.train(epoch)
            epoch += 1

    def step(self) -> None:
        """One optimiser step, as the loop does it; of a probe one pass."""
        images_BCHW, labels_B = next(self._batches)
        if self.stepper is None:
            with torch.no_grad(), autocast(self.device, self.precision):
                self.assembly.model(images_BCHW.to(self.device, non_blocking=True))
            return
        self.stepper.micro_step(images_BCHW, labels_B, 0, self._done, closes=True)
        self.stepper.update(self._done, self._done + 1)
        self._done += 1
        if self.stepper.losses.close_step(1):
            self.stepper.losses.flush(1, self._done)

    def evaluate(self) -> float:
        """Images evaluated a second."""
        start = self.now()
        evaluate(self.assembly.model, self.assembly.task, self.loader, self.device, self.precision)
        return self.loader.info.val_size / (self.now() - start)

    def now(self) -> float:
        """Seconds, with the device's queue empty."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def rate(self, span: Span) -> float:
        """Images trained a second."""
        steps, start = 0, self.now()
        while steps < span.steps or time.perf_counter() - start < span.seconds:
            self.step()
            steps += 1
        return steps * self.setting.batch / (self.now() - start)


def measure(
    model: str,
    document: Mapping[str, Any],
    setting: Setting,
    span: Span,
    device: torch.device,
    *,
    evaluated: bool = False,
) -> Cell:
    """One cell. What does not fit into the device's memory is a cell with the error OOM."""
    if setting.slots > 1:
        return _measure_together(model, document, setting, span, device)
    try:
        return _measure_here(model, document, setting, span, device, None, evaluated=evaluated)
    except torch.OutOfMemoryError:
        return Cell(model=model, setting=setting, error=OOM)
    finally:
        if setting.compile:
            torch.compiler.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _measure_here(
    model: str,
    document: Mapping[str, Any],
    setting: Setting,
    span: Span,
    device: torch.device,
    together: Barrier | None,
    *,
    evaluated: bool = False,
) -> Cell:
    torch.set_float32_matmul_precision("high" if setting.precision == "tf32" else "highest")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    training = Training(document, setting, span, device)
    for _ in range(WARM_STEPS):
        training.step()
    warm_seconds = training.now() - start
    if together is not None:
        together.wait(_START_SECONDS)
    rate = training.rate(span)
    cell = Cell(
        model=model,
        setting=setting,
        images_per_second=rate,
        evaluated_per_second=training.evaluate() if evaluated and training.stepper is not None else None,
        warm_seconds=warm_seconds,
    )
    if device.type != "cuda":
        return cell
    return dataclasses.replace(
        cell,
        peak_mb=(torch.cuda.max_memory_allocated(device) - fast.held_bytes(device)) / 2**20,
        reserved_mb=torch.cuda.max_memory_reserved(device) / 2**20,
    )


def _measure_together(
    model: str, document: Mapping[str, Any], setting: Setting, span: Span, device: torch.device
) -> Cell:
    """Several processes on one device: rates are added up, memory is the largest of one."""
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(setting.slots), spawn.Queue()
    arguments = (model, dict(document), setting, span, str(device), together, answers)
    processes = [spawn.Process(target=_slot, args=arguments, daemon=True) for _ in range(setting.slots)]
    for process in processes:
        process.start()
    found: list[Cell] = [answers.get(timeout=2 * _START_SECONDS) for _ in processes]
    for process in processes:
        process.join()
    errors = [cell.error for cell in found if cell.error is not None]
    if errors:
        # One that has no room breaks the others' wait; its word is the reason.
        return Cell(model=model, setting=setting, error=OOM if OOM in errors else errors[0])

    def largest(name: str) -> float | None:
        values = [getattr(cell, name) for cell in found]
        return None if None in values else max(values)

    return Cell(
        model=model,
        setting=setting,
        images_per_second=sum(cell.images_per_second or 0.0 for cell in found),
        peak_mb=largest("peak_mb"),
        reserved_mb=largest("reserved_mb"),
        warm_seconds=largest("warm_seconds"),
    )


def _slot(
    model: str,
    document: Mapping[str, Any],
    setting: Setting,
    span: Span,
    device: str,
    together: Barrier,
    answers: Queue[Cell],
) -> None:
    """One process of several: its cell, or one with the error's name."""
    torch.set_num_threads(1)
    try:
        answers.put(_measure_here(model, document, setting, span, torch.device(device), together))
    except Exception as error:  # noqa: BLE001 - told to the process that waits
        together.abort()
        word = OOM if isinstance(error, torch.OutOfMemoryError) else f"{type(error).__name__}: {error}"
        answers.put(Cell(model=model, setting=setting, error=word))
