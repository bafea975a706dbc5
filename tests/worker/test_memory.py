"""A GPU whose memory is out: the trial goes on in smaller micro-batches, and its record says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ablator.contracts.events import Ticket
from ablator.contracts.protocols import OnProgress, World
from ablator.contracts.record import Record
from ablator.contracts.train import TrainSettings
from ablator.plan.planning import plan as make_plan
from ablator.plan.trial import ticket_of
from ablator.results.store import Store
from ablator.study.loading import load
from ablator.training.kept import kept_weights
from ablator.training.memory import Pieces, halved
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner

# What a GPU does, in the place where it does it: more images than fit raise torch's own error.
SMALL_GPU = """
import json
from pathlib import Path

import torch

from ablator.contracts.protocols import Change
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS


@settings
class SmallGpuSettings:
    limits: str = ""


class SmallGpu(torch.nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.limits = Path(settings.limits)

    def forward(self, x_BCHW):
        fit = json.loads(self.limits.read_text())["train" if self.training else "eval"]
        if not x_BCHW.is_meta and len(x_BCHW) > fit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x_BCHW)} GiB.")
        return x_BCHW * 0.5


def attach(seams, settings):
    seam = seams.tokenizer()
    seam.append(SmallGpu(settings))
    return Change(places=(seam.name,))


COMPONENTS.add("small_gpu", attach, settings=SmallGpuSettings)
"""


class Machine:
    """A trial of three epochs, with batches of 32, on a GPU on which so many images fit."""

    def __init__(self, folder: Path, write_study: Callable[..., Path]) -> None:
        self.folder, self.limits = folder, folder / "limits.json"
        (folder / "small_gpu.py").write_text(SMALL_GPU)
        self.write_study = write_study

    def fits(self, *, train: int = 1000, eval: int = 1000) -> None:
        self.limits.write_text(json.dumps({"train": train, "eval": eval}))

    def ticket(self, **changes: Any) -> Ticket:
        study = self.write_study(
            self.folder,
            "small",
            [{"label": "small", "set": {"small_gpu.limits": str(self.limits)}}],
            seeds=1,
            plugins=["small_gpu.py"],
            # adamw makes steps of the rounding where there is no gradient, such as in the bias of keys.
            set={"model.drop_path": 0.0, "train.optimizer": "sgd", "train.lr": 0.05, **changes},
        )
        planned = make_plan(load(study), fingerprint=lambda _: "data")
        return ticket_of(planned.trials[1], keep_weights=True)

    def store(self, name: str) -> Store:
        return Store.open(self.folder / name)

    def run(
        self, ticket: Ticket, store: str, on_progress: OnProgress = lambda progress: True
    ) -> tuple[Record, dict[str, Tensor]]:
        """The record, and the weights that were trained."""
        opened = self.store(store)
        opened.keep_plugin(SMALL_GPU.encode())
        runner = TrialRunner(opened, Execution(), world=World(), device=torch.device("cpu"))
        record = runner.run(ticket, attempts=1, on_progress=on_progress)
        assert record is not None
        weights = kept_weights(opened.weights(ticket.identity), ticket.identity, "top1")
        return record, weights or {}


@pytest.fixture
def machine(tmp_path: Path, write_study: Callable[..., Path]) -> Machine:
    made = Machine(tmp_path, write_study)
    made.fits()
    return made


def check_same(found: tuple[Record, dict[str, Tensor]], plain: tuple[Record, dict[str, Tensor]]) -> None:
    """The same steps: what is left of a difference is rounding."""
    assert found[0].status == plain[0].status == "completed", found[0].error
    assert found[0].identity == plain[0].identity
    assert found[0].spec == plain[0].spec
    assert found[0].cost["steps"] == plain[0].cost["steps"]
    torch.testing.assert_close(found[1], plain[1], rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(found[0].curves, plain[0].curves, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)


def test_a_step_that_does_not_fit_is_trained_in_smaller_parts(machine: Machine) -> None:
    ticket = machine.ticket()
    plain = machine.run(ticket, "plain")
    machine.fits(train=8)
    found = machine.run(ticket, "small")
    check_same(found, plain)
    record = found[0]
    assert record.cost["accumulate"] == 4
    assert "accumulate" not in plain[0].cost
    assert record.attempts == 3
    assert [retry.ended for retry in record.retries] == ["out of memory"] * 2
    (note,) = [note for note in record.notes if "memory" in note]
    assert note.startswith("32 images at once did not fit into the GPU's memory: trained with 8 at once and")
    assert "train.accumulate 4 in place of 1, the same 32 a step; nothing that is known" in note


def test_it_goes_on_from_the_checkpoint_of_larger_micro_batches(machine: Machine) -> None:
    ticket = machine.ticket()
    plain = machine.run(ticket, "plain")
    epochs: list[int] = []

    def shrink(progress: Any) -> bool:
        epochs.append(progress.epoch)
        machine.fits(train=16 if progress.epoch == 1 else 1000)
        return True

    found = machine.run(ticket, "small", shrink)
    check_same(found, plain)
    assert epochs == [1, 1, 2, 3], "the first epoch is told once more, and not trained again"
    assert [(retry.ended, retry.epoch) for retry in found[0].retries] == [("out of memory", 1)]
    assert found[0].cost["accumulate"] == 2


def test_what_is_drawn_for_a_micro_batch_is_named(machine: Machine) -> None:
    ticket = machine.ticket(**{"model.drop_path": 0.1, "train.mixup": 0.8})
    machine.fits(train=16)
    record, _ = machine.run(ticket, "small")
    (note,) = [note for note in record.notes if "memory" in note]
    assert note.endswith("mixup and CutMix, drop path differ from a run with 32 at once")


def test_an_evaluation_that_does_not_fit_goes_in_pieces(machine: Machine) -> None:
    ticket = machine.ticket()
    plain = machine.run(ticket, "plain")
    machine.fits(eval=9)
    found = machine.run(ticket, "small")
    assert found[0].metrics == pytest.approx(plain[0].metrics, rel=1e-5)
    assert found[0].attempts == 1
    assert "accumulate" not in found[0].cost
    assert "evaluated with 8 images at once, as more did not fit into the GPU's memory" in found[0].notes


def test_where_no_step_fits_the_trial_fails_and_says_what_helps(machine: Machine) -> None:
    ticket = machine.ticket(**{"train.batch_size": 24})
    machine.fits(train=2)
    record, _ = machine.run(ticket, "small")
    assert record.status == "failed"
    assert record.attempts == 4
    assert "it does not with 3 images at once (train.batch_size 24, train.accumulate 8)" in str(record.error)
    assert "use a smaller model or data.image_size" in str(record.error)
    assert "Tried to allocate 3 GiB" in str(record.error)


@pytest.mark.parametrize(
    ("batch", "accumulate", "workers", "mixup", "expected"),
    [
        (32, 1, 1, 0.0, 2),
        (32, 16, 1, 0.0, 32),
        (32, 32, 1, 0.0, None),
        (24, 8, 1, 0.0, None),
        (32, 8, 1, 0.8, 16),
        (32, 16, 1, 0.8, None),
        (32, 2, 4, 0.0, 4),
    ],
)
def test_micro_batches_are_halved_as_long_as_they_can_be(
    batch: int, accumulate: int, workers: int, mixup: float, expected: int | None
) -> None:
    settings = TrainSettings(batch_size=batch, accumulate=accumulate, mixup=mixup, cutmix=0.0)
    assert halved(settings, World(size=workers)) == expected


def test_pieces_give_what_the_whole_gives_and_other_errors_pass() -> None:
    images_BCHW = torch.arange(40.0).reshape(10, 1, 2, 2)

    def call(part_BCHW: Tensor) -> Tensor:
        if len(part_BCHW) > 3:
            raise RuntimeError("CUDA error: out of memory")
        return part_BCHW + 1

    pieces = Pieces()
    assert torch.equal(pieces(call, images_BCHW), images_BCHW + 1)
    assert pieces.at_once == 2
    assert torch.equal(pieces(call, images_BCHW[:3]), images_BCHW[:3] + 1)

    def broken(part_BCHW: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        pieces(broken, images_BCHW)
    with pytest.raises(torch.OutOfMemoryError):
        Pieces()(lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")), images_BCHW)
