"""What MoTo and TokenProp cost in a training step: forward, backward and optimiser.

    python benchmarks/training_step.py           # laptop model, and DeiT-S at 224², on every device there is
    python benchmarks/training_step.py --quick   # the same, with small batches and few repeats

A step is the training loop's own (`training.step.Stepper`), recipe and all, on random images. The variants
take turns, and a ratio is the median over rounds of a variant's time by its neighbour baseline's, so that a
busy machine slows both alike. Peak memory (CUDA) is what a variant alone holds and needs beyond the images.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ablator import plan
from ablator.assembly.build import assemble
from ablator.contracts.protocols import DataInfo, World
from ablator.plan.spec import TrialSpec
from ablator.study.loading import recipe
from ablator.training.step import Stepper

ROOT = Path(__file__).resolve().parents[1]
WARM_STEPS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A model at a scale."""

    name: str
    document: dict[str, Any]
    """The baseline's spec."""
    classes: int
    decoder_scale: int
    """TokenProp's reconstruction, pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant of one case on one device."""

    device: str
    case: str
    batch: int
    variant: str
    parameters: float
    """Millions that are trained, decoder included."""
    milliseconds: float
    """Median of a step."""
    ratio: float
    """To the baseline: median over rounds."""
    low: float
    """First quartile of the rounds' ratios."""
    high: float
    """Third quartile."""
    peak_mb: float | None
    """CUDA: the variant's weights, gradients, optimiser state and activations at their highest, 2²⁰ bytes."""


def cases() -> dict[str, Case]:
    """The laptop profile's model, and DeiT-S as published."""
    laptop = plan(ROOT / "experiments" / "moto_n.yaml", profile="laptop").trials[0].spec.to_json()
    paper = recipe(ROOT / "recipes" / "deit_s_imagenet.yaml", "DeiT-S")
    return {
        "laptop": Case(name="laptop", document=laptop, classes=10, decoder_scale=8),
        "deit_s": Case(name="deit_s", document=paper, classes=1000, decoder_scale=64),
    }


def variants(case: Case) -> dict[str, dict[str, Any]]:
    """Name to the optional sections of the spec."""
    tokenprop = {"loss": "l2", "scale": case.decoder_scale}
    return {
        "baseline": {},
        "MoTo post": {"moto": {"placement": "post"}},
        "MoTo stem": {"moto": {"placement": "stem"}},
        "TokenProp L2": {"tokenprop": tokenprop},
        "MoTo post + TokenProp L2": {"moto": {"placement": "post"}, "tokenprop": tokenprop},
    }


def build(
    case: Case, sections: dict[str, Any], batch: int, device: torch.device
) -> tuple[Callable[[], None], float]:
    """A function that makes one optimiser step, and how many million parameters it changes."""
    document = {**case.document, **sections}
    # bf16 is emulated on most CPUs; there the step is measured in fp32.
    precision = document["train"]["precision"] if device.type == "cuda" else "fp32"
    document["train"] = {**document["train"], "batch_size": batch, "precision": precision}
    spec = TrialSpec.from_json(document)
    info = DataInfo(
        name="random",
        classes=tuple(str(index) for index in range(case.classes)),
        train_size=batch,
        val_size=batch,
        fingerprint="",
        licence="",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    assembly = assemble(spec, info)
    model = assembly.model.train()
    stepper = Stepper(
        model,
        assembly.task,
        spec.train,
        1000,
        num_classes=case.classes,
        seed=0,
        device=device,
        world=World(),
        compile=False,
    )
    side = spec.data.image_size
    images_BCHW = torch.randn(batch, 3, side, side, device=device)
    labels_B = torch.randint(case.classes, (batch,), device=device)
    done = 0

    def step() -> None:
        nonlocal done
        stepper.micro_step(images_BCHW, labels_B, 0, done, closes=True)
        stepper.update(done, done + 1)
        done += 1
        if stepper.losses.close_step(1):
            stepper.losses.flush(1, done)

    return step, sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Wall time of one step, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_mb(case: Case, sections: dict[str, Any], batch: int, device: torch.device) -> float | None:
    """Most memory that the variant alone takes on the device; None on CPU."""
    if device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    # The first use of a library takes memory that it keeps, such as cuBLAS its workspace; no variant's own.
    torch.mm(*torch.ones(2, 8, 8, device=device))
    before = torch.cuda.memory_allocated()
    step, _ = build(case, sections, batch, device)
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure(case: Case, batch: int, rounds: int, device: torch.device) -> Iterator[Cell]:
    """Every variant of `case` on `device`, the baseline first."""
    named = variants(case)
    peaks = {name: peak_mb(case, sections, batch, device) for name, sections in named.items()}
    built = {name: build(case, sections, batch, device) for name, sections in named.items()}
    for step, _ in built.values():
        for _ in range(WARM_STEPS):
            step()
    times: dict[str, list[float]] = {name: [] for name in named}
    ratios: dict[str, list[float]] = {name: [] for name in named}
    for _ in range(rounds):
        for name, (step, _) in built.items():
            # Each variant has its own neighbour: what slows the machine for a while slows both.
            before = seconds(built["baseline"][0], device)
            times["baseline"].append(before)
            if name == "baseline":
                before_again = seconds(step, device)
                times[name].append(before_again)
                ratios[name].append(before_again / before)
            else:
                times[name].append(seconds(step, device))
                ratios[name].append(times[name][-1] / before)
    for name, (_, parameters) in built.items():
        low, middle, high = statistics.quantiles(ratios[name], n=4, method="inclusive")
        yield Cell(
            device=device.type,
            case=case.name,
            batch=batch,
            variant=name,
            parameters=parameters,
            milliseconds=statistics.median(times[name]) * 1e3,
            ratio=middle,
            low=low,
            high=high,
            peak_mb=peaks[name],
        )


HEADER = "| device | model | batch | variant | trained M | step ms | ratio (quartiles) | peak MB |"


def line(cell: Cell) -> str:
    """The table's line of one cell."""
    peak = "" if cell.peak_mb is None else f"{cell.peak_mb:.0f}"
    ratio = f"{cell.ratio:.2f} ({cell.low:.2f}–{cell.high:.2f})"
    numbers = f"{cell.parameters:.3f} | {cell.milliseconds:.1f} | {ratio} | {peak}"
    return f"| {cell.device} | {cell.case} | {cell.batch} | {cell.variant} | {numbers} |"


def run(
    names: Sequence[str], devices: Sequence[torch.device], quick: bool, rounds: int | None
) -> Iterator[Cell]:
    """Every cell, as it is measured."""
    batches = {"cpu": {"laptop": 32, "deit_s": 2 if quick else 8}, "cuda": {"laptop": 256, "deit_s": 128}}
    known = cases()
    for device in devices:
        for name in names:
            small = device.type == "cuda" or name == "laptop"
            repeats = rounds or (5 if quick else 40 if small else 7)
            yield from measure(known[name], batches[device.type][name], repeats, device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small batches and few rounds")
    parser.add_argument(
        "--models", nargs="+", choices=["laptop", "deit_s"], default=["laptop", "deit_s"], help="which models"
    )
    parser.add_argument("--rounds", type=int, help="times that every variant is measured")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="one device instead of all that are there")
    parser.add_argument("--output", type=Path, help="also write the cells as JSON here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    devices = [torch.device(name) for name in ([options.device] if options.device else there)]
    print(f"torch {torch.__version__}, {options.threads} CPU thread(s)\n\n{HEADER}")
    print("|---|---|---:|---|---:|---:|---:|---:|")
    cells = []
    for cell in run(options.models, devices, options.quick, options.rounds):
        print(line(cell), flush=True)
        cells.append(dataclasses.asdict(cell))
    if options.output is not None:
        options.output.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main()
