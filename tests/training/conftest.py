"""Tiny models, a tiny task and a tiny data set; `child.py` uses them in processes of its own.

Shape legend: B batch, C channels, H W height and width, N images, K classes.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from torch import Tensor, nn

import ablator
from ablator.contracts.protocols import DataInfo, OnProgress, Outcome, World
from ablator.contracts.train import TrainSettings
from ablator.training.batching import micro_batch_size
from ablator.training.loop import train
from ablator.training.randomness import seed_everything

CLASSES = 4
ALONE = World()
CPU = torch.device("cpu")


class Interrupted(Exception):
    """Raised by `ToyBatches` in place of a machine that goes away."""


class ToyBatches:
    """48 training and 20 validation images (3×8×8); the brightest channel tells the class (3: none does).

    `fail` is called with (epoch, micro-batch) before the micro-batch is handed out.
    """

    info = DataInfo(
        name="toy",
        classes=("r", "g", "b", "none"),
        train_size=48,
        val_size=20,
        fingerprint="",
        licence="",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )

    def __init__(
        self,
        micro: int,
        world: World = ALONE,
        *,
        fail: Callable[[int, int], None] | None = None,
    ) -> None:
        self.micro, self.world, self.fail = micro, world, fail
        images_NCHW, labels_N = self._draw(68)
        self.train_images, self.train_labels = images_NCHW[:48], labels_N[:48]
        self.val_images, self.val_labels = images_NCHW[48:], labels_N[48:]
        self.handed_out = 0

    @staticmethod
    def _draw(count: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(5)
        labels_N = torch.randint(0, CLASSES, (count,), generator=draw)
        images_NCHW = torch.randn(count, 3, 8, 8, generator=draw)
        for channel in range(3):
            images_NCHW[labels_N == channel, channel] += 1.5
        return images_NCHW, labels_N

    @property
    def steps_per_epoch(self) -> int:
        return 48 // (self.micro * self.world.size)

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(48, generator=torch.Generator().manual_seed(100 + epoch))
        for micro in range(start, self.steps_per_epoch):
            if self.fail is not None:
                self.fail(epoch, micro)
            first = (micro * self.world.size + self.world.rank) * self.micro
            chosen = order[first : first + self.micro]
            self.handed_out += 1
            yield self.train_images[chosen], self.train_labels[chosen]

    def evaluate(self) -> Iterator[tuple[Tensor, Tensor]]:
        mine = torch.arange(self.world.rank, 20, self.world.size)
        for chosen in mine.split(8):
            yield self.val_images[chosen], self.val_labels[chosen]

    def notes(self) -> tuple[str, ...]:
        return ()


class ToyMetrics:
    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)

    def update(self, output: Tensor, target: Tensor) -> None:
        assert output.dtype == torch.float32
        loss = nn.functional.cross_entropy(output, target, reduction="sum")
        self.sums += torch.tensor(
            [(output.argmax(1) == target).sum(), loss, len(target)], dtype=torch.float64
        )

    def compute(self) -> dict[str, float]:
        if dist.is_initialized():
            dist.all_reduce(self.sums)
        right, loss, count = self.sums.tolist()
        return {"top1": 100 * right / count, "loss": loss / count}


class ToyTask:
    metric = "top1"
    mode = "max"
    measures = ("top1", "loss")

    def loss(self, output: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        return {"ce": nn.functional.cross_entropy(output, target)}

    def metrics(self, device: Any) -> ToyMetrics:
        return ToyMetrics()


class ToyModel(nn.Module):
    """Two layers; `arm` puts a module that draws nothing between them, `poison` makes a term of the n-th
    training forward pass (from 1) nan."""

    def __init__(
        self, *, dropout: float = 0.0, batch_norm: bool = False, arm: bool = False, poison: int | None = None
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(3 * 64, 16)
        self.norm = nn.BatchNorm1d(16) if batch_norm else nn.Identity()
        self.arm = nn.Sequential(nn.Linear(16, 16, bias=False), nn.GELU()) if arm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(16, CLASSES)
        self.poison = poison
        self.passes = 0
        self.kept: list[Tensor] = []

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        hidden_BD = self.arm(nn.functional.gelu(self.norm(self.inner(images_BCHW.flatten(1)))))
        dropped_BD = self.dropout(hidden_BD)
        output_BK = self.outer(dropped_BD)
        if not self.training:
            return output_BK, {}
        self.passes += 1
        if self.dropout.p:
            self.kept.append((dropped_BD != 0).detach())
        aux = 1e-3 * output_BK.square().mean()
        return output_BK, {"aux": aux * float("nan") if self.passes == self.poison else aux}


class TimmModel(nn.Module):
    """A real DeiT of timm with 32 channels and 2 blocks, with stochastic depth."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            "deit_tiny_patch16_224",
            img_size=8,
            patch_size=4,
            embed_dim=32,
            depth=2,
            num_heads=2,
            num_classes=CLASSES,
            drop_path_rate=0.3,
        )

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.backbone(images_BCHW), {}


PLAIN = TrainSettings(
    epochs=3,
    batch_size=12,
    lr=0.01,
    lr_batch=None,
    warmup_epochs=1,
    warmup_lr=1e-3,
    min_lr=1e-4,
    mixup=0,
    cutmix=0,
)
FULL = TrainSettings(
    epochs=3,
    batch_size=12,
    accumulate=2,
    lr=0.01,
    lr_batch=None,
    warmup_epochs=1,
    warmup_lr=1e-3,
    min_lr=1e-4,
    clip_grad=1.0,
    ema_decay=0.8,
)
"""Everything on: mixup, CutMix, accumulation, clipping and weight average (24 micro-batches, 12 steps)."""


def run_toy(
    settings: TrainSettings = PLAIN,
    *,
    model: Callable[[], nn.Module] = ToyModel,
    seed: int = 0,
    world: World = ALONE,
    fail: Callable[[int, int], None] | None = None,
    checkpoint: Path | None = None,
    tag: str = "toy",
    checkpoint_seconds: float = 60.0,
    on_progress: OnProgress | None = None,
) -> tuple[Outcome, Any]:
    """Build the model from `seed` and train it; returns the outcome and the trained model."""
    seed_everything(seed)
    made = model()
    batches = ToyBatches(micro_batch_size(settings, world), world, fail=fail)
    outcome = train(
        made,
        ToyTask(),  # type: ignore[arg-type]
        batches,
        settings,
        seed=seed,
        num_classes=CLASSES,
        device=CPU,
        world=world,
        checkpoint=checkpoint,
        tag=tag,
        checkpoint_seconds=checkpoint_seconds,
        on_progress=on_progress,
    )
    return outcome, made


def digest(model: nn.Module) -> str:
    """Hash over every bit of the model's state."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


def resumable_model() -> nn.Module:
    """What the resume tests train: dropout, running statistics and an extra term."""
    return ToyModel(dropout=0.3, batch_norm=True)


def kill_at(epoch: int, micro: int) -> Callable[[int, int], None]:
    """Kills this process, without any goodbye, when that micro-batch is asked for."""

    def fail(now_epoch: int, now_micro: int) -> None:
        if (now_epoch, now_micro) == (epoch, micro):
            os.kill(os.getpid(), signal.SIGKILL)

    return fail


@pytest.fixture
def toy() -> Any:
    """What this file defines, for test files, which cannot import it."""
    return SimpleNamespace(
        PLAIN=PLAIN,
        FULL=FULL,
        CLASSES=CLASSES,
        Interrupted=Interrupted,
        Batches=ToyBatches,
        Task=ToyTask,
        Model=ToyModel,
        TimmModel=TimmModel,
        run=run_toy,
        digest=digest,
        resumable_model=resumable_model,
    )


@pytest.fixture(scope="session")
def run_child() -> Callable[..., list[Any]]:
    """Starts `child.py` with each of the given argument lists at once; returns the finished processes."""
    root = str(Path(ablator.__file__).parents[1])

    def start(*commands: list[str]) -> list[Any]:
        environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        running = [
            subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("child.py")), *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]
        return [(child, *child.communicate(timeout=120)) for child in running]

    return start


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Sums in a fixed order, here and in the children."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
