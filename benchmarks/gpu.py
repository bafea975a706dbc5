"""Everything about the `gpu` profile on one GPU, as one command: what to set, what it takes, and the tables.

    python benchmarks/gpu.py                                        # throughput, estimates, other benchmarks
    python benchmarks/gpu.py --parts throughput --minutes 9         # again with the same --results goes on
    python benchmarks/gpu.py --parts studies --studies moto_n combined --seeds 3
    python benchmarks/gpu.py --quick                                # everything tiny, also on a CPU

throughput  images a second and peak memory of every model of the profile: batch size × precision × where
            batches are made, then compilation and several slots at the best of these, as ratios to the plain
            setting (256, fp32, eager, host, one slot), and the fastest setting that fits
estimates   a cell for every different model that the studies train, as their plan has it, and from these the
            minutes of every table; those above 30 are marked
studies     `ablator run` and `ablator figures` of the studies that are named, and what they write
others      benchmarks/moto.py and training_step.py, and orchestration.py where Ray is installed

throughput and estimates need no data set and only torch, timm, torchmetrics, numpy, Pillow, PyYAML and
pydantic. Everything lies in benchmarks/results/DEVICE/ (--results DIR for another place), whose README.md
names device, versions and command. A cell that is there already is not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from gpu_runs import others, studies
from throughput import OOM, Cell, Place, Precision, Setting, Span, measure

from ablator.plan.cost import epochs_worth
from ablator.plan.planning import Plan, plan
from ablator.plan.trial import Trial
from ablator.study.loading import load

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("throughput", "estimates", "studies", "others")
BATCHES = (128, 256, 512, 1024)
SLOTS = (2, 4)
LONG_MINUTES = 30.0
_USABLE = 0.9
"""Part of the device's memory that a recommended setting may take."""
_CONTEXT_MB = 600.0
"""What a CUDA process takes beside its allocator."""
_BETWEEN_SECONDS = 1.0
"""Building, checkpoints and the commit of one trial."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """One backbone of the profile, as a baseline trains it."""

    name: str
    document: dict[str, Any]
    """Its spec."""


class Results:
    """The cells on disk: what is there is not measured again, and a killed command loses one cell."""

    def __init__(self, path: Path, until: float) -> None:
        self.path, self._until = path, until
        held = json.loads(path.read_text()) if path.exists() else []
        self.cells = [Cell.from_json(plain) for plain in held]
        self.left_out = 0

    def get(self, model: str, setting: Setting) -> Cell | None:
        """What was measured."""
        return next((c for c in self.cells if (c.model, c.setting) == (model, setting)), None)

    def ask(self, model: str, setting: Setting, make: Callable[[], Cell]) -> Cell | None:
        """The cell, measured if it must be; None where the time is over."""
        found = self.get(model, setting)
        if found is not None:
            return found
        if time.monotonic() > self._until:
            self.left_out += 1
            return None
        cell = make()
        self.cells.append(cell)
        self.path.write_text(json.dumps([c.to_json() for c in self.cells], indent=1) + "\n")
        rate = cell.error if cell.images_per_second is None else f"{cell.images_per_second:.0f} images/s"
        print(f"{model} | {setting.words()} | {rate}", file=sys.stderr, flush=True)
        return cell


# ---- what the studies train


def plans(options: argparse.Namespace) -> list[Plan]:
    """Every study that trains, at the profile's scale; data need not be there."""
    files = sorted((ROOT / "experiments").glob("*.yaml"))
    if options.quick:
        files = [ROOT / "experiments" / "moto_n.yaml"]
    found = [
        plan(load(file), profile=options.profile, overrides=options.set, fingerprint=lambda _: "")
        for file in files
    ]
    return [planned for planned in found if planned.trials and planned.trials[0].spec.trains]


def models(planned: Iterable[Plan]) -> dict[str, Model]:
    """Every different backbone, without components and objectives."""
    found: dict[str, Model] = {}
    for trial in itertools.chain.from_iterable(p.trials for p in planned):
        spec = trial.spec
        if spec.probe is not None:
            continue
        document = dataclasses.replace(spec, components={}, objectives={}).to_json()
        found.setdefault(spec.model.name, Model(name=spec.model.name, document=document))
    return found


def shape_of(trial: Trial) -> str:
    """A name that is equal for trials whose steps take as long."""
    plain = trial.spec.to_json()
    plain.pop("seed")
    plain["model"] = {**plain["model"], "weights": None}
    kept = ("batch_size", "accumulate", "precision", "mixup", "cutmix", "ema_decay", "optimizer", "clip_grad")
    plain["train"] = {key: plain["train"][key] for key in kept}
    plain["data"] = {"image_size": plain["data"]["image_size"]}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
    parts = (trial.spec.model.name, *trial.spec.components, *trial.spec.objectives)
    return f"{' + '.join(parts)} #{digest}"


# ---- throughput


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    """The grid in one process, without compilation; the plain setting first."""
    yield plain(options)
    for batch, precision, data in itertools.product(options.batches, options.precisions, get_args(Place)):
        setting = Setting(batch=batch, precision=precision, data=data)
        if setting != plain(options):
            yield setting


def plain(options: argparse.Namespace) -> Setting:
    """What ratios are to."""
    return Setting(batch=256 if 256 in options.batches else options.batches[0])


def throughput(
    options: argparse.Namespace,
    found: Mapping[str, Model],
    results: Results,
    span: Span,
    device: torch.device,
) -> None:
    """Measure: the grid of every model first, then compilation and slots at its best setting."""

    def cell(model: Model, setting: Setting) -> Cell | None:
        return results.ask(
            model.name, setting, lambda: measure(model.name, model.document, setting, span, device)
        )

    chosen = [model for name, model in found.items() if not options.models or name in options.models]
    for model in chosen:
        for setting in settings(options):
            cell(model, setting)
    for model in chosen:
        own = int(model.document["train"]["batch_size"])
        bases = dict.fromkeys(s for s in (best(results, model.name), best(results, model.name, own)) if s)
        if options.full:
            bases = dict.fromkeys(settings(options))
        for base in bases:
            for slots in SLOTS[: 1 if options.quick else None]:
                cell(model, dataclasses.replace(base, slots=slots))
        for base in bases if options.compile else ():
            cell(model, dataclasses.replace(base, compile=True))
            if options.full:
                for slots in SLOTS:
                    cell(model, dataclasses.replace(base, compile=True, slots=slots))


def best(
    results: Results, model: str, batch: int | None = None, memory_mb: float = float("inf")
) -> Setting | None:
    """The fastest setting that was measured (of that batch size) and takes at most `memory_mb`."""
    rated = [
        (cell.images_per_second, cell.setting)
        for cell in results.cells
        if cell.model == model
        and cell.images_per_second is not None
        and (batch is None or cell.setting.batch == batch)
        and cell.setting.precision != "tf32"
        and taken_mb(cell) <= memory_mb
    ]
    return max(rated, key=lambda pair: pair[0])[1] if rated else None


def taken_mb(cell: Cell) -> float:
    """What the setting takes of the device's memory, all slots together."""
    return 0.0 if cell.reserved_mb is None else cell.setting.slots * (cell.reserved_mb + _CONTEXT_MB)


def throughput_page(
    results: Results, found: Mapping[str, Model], options: argparse.Namespace, device: torch.device
) -> Iterator[str]:
    """Tables and recommendation."""
    memory_mb = float("inf")
    if device.type == "cuda":
        memory_mb = torch.cuda.get_device_properties(device).total_memory / 2**20 * _USABLE
    yield "## Recommendation\n"
    yield "Fastest by images a second over all slots, within 90 % of the device's memory; `--gpus` 1/slots.\n"
    yield "| model | of | batch | precision | compile | data | slots | images/s | × plain |"
    yield "|---|---|---:|---|---|---|---:|---:|---:|"
    for name, model in found.items():
        own = int(model.document["train"]["batch_size"])
        for label, batch in ((f"the profile's batch, {own}", own), ("any batch", None)):
            setting = best(results, name, batch, memory_mb)
            if setting is not None:
                rate, ratio = rates(results, name, setting, options)
                yield f"| {name} | {label} | {setting.words()} | {rate} | {ratio} |"
    yield "\n## Every cell\n"
    yield "| model | batch | precision | compile | data | slots | images/s | × plain | peak MB | warm s |"
    yield "|---|---:|---|---|---|---:|---:|---:|---:|---:|"
    for cell in results.cells:
        if cell.model in found:
            rate, ratio = rates(results, cell.model, cell.setting, options)
            peak = "" if cell.peak_mb is None else f"{cell.peak_mb:.0f}"
            warm = "" if cell.warm_seconds is None else f"{cell.warm_seconds:.1f}"
            yield f"| {cell.model} | {cell.setting.words()} | {rate} | {ratio} | {peak} | {warm} |"


def rates(results: Results, model: str, setting: Setting, options: argparse.Namespace) -> tuple[str, str]:
    """Images a second and their ratio to the plain setting's, as words."""
    cell, base = results.get(model, setting), results.get(model, plain(options))
    assert cell is not None
    if cell.images_per_second is None:
        return cell.error or OOM, ""
    if base is None or base.images_per_second is None:
        return f"{cell.images_per_second:.0f}", ""
    return f"{cell.images_per_second:.0f}", f"{cell.images_per_second / base.images_per_second:.2f}"


# ---- estimates


def estimates(planned: Sequence[Plan], results: Results, span: Span, device: torch.device) -> Iterator[str]:
    """The table of every study's minutes on one slot, from measured cells."""
    yield "| study | trials | new | minutes | |"
    yield "|---|---:|---:|---:|---|"
    seen: set[str] = set()
    whole = 0.0
    for one in planned:
        unique = one.unique()
        seconds = {key: trial_seconds(trial, results, span, device) for key, trial in unique.items()}
        known = [value for value in seconds.values() if value is not None]
        new = [key for key in unique if key not in seen]
        drawn = sum(search.samples * len(search.seeds) for search in one.searches)
        minutes = (sum(known) + drawn * (sum(known) / len(known) if known else 0.0)) / 60
        whole += sum(seconds[key] or 0.0 for key in new) / 60
        seen |= set(new)
        marks = [f"**above {LONG_MINUTES:.0f}**"] if minutes > LONG_MINUTES else []
        marks += [f"{len(seconds) - len(known)} trials not measured"] if len(known) < len(seconds) else []
        marks += [f"{drawn} drawn by searches, at the others' mean"] if drawn else []
        row = f"{one.study.study} | {len(unique) + drawn} | {len(new) + drawn} | {minutes:.1f}"
        yield f"| {row} | {'; '.join(marks)} |"
    yield f"| all as one plan, without searches | | {len(seen)} | {whole:.1f} | |"


def trial_seconds(trial: Trial, results: Results, span: Span, device: torch.device) -> float | None:
    """Training and evaluation of one trial alone on the device; None where its cell is not there."""
    spec = trial.spec
    setting = Setting(
        batch=spec.train.batch_size // spec.train.accumulate, precision=spec.train.precision, data="device"
    )
    name = shape_of(trial)
    cell = results.ask(
        name, setting, lambda: measure(name, spec.to_json(), setting, span, device, evaluated=True)
    )
    if cell is None or cell.images_per_second is None:
        return None
    images = span.train_images * spec.data.fraction
    if spec.probe is not None:  # forward passes over the training images, and one over the others
        passes = 3 * epochs_worth(spec)
        return (passes * images + span.val_images) / cell.images_per_second + _BETWEEN_SECONDS
    assert cell.evaluated_per_second is not None
    evaluations = -(-spec.train.all_epochs // spec.train.eval_every) * (
        1 if spec.train.ema_decay is None else 2
    )
    trained = spec.train.all_epochs * images / cell.images_per_second
    return trained + evaluations * span.val_images / cell.evaluated_per_second + _BETWEEN_SECONDS


# ---- the command


def device_name(device: torch.device) -> str:
    """As CUDA calls it, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"


def write_page(folder: Path, device: torch.device, sections: Mapping[str, str]) -> None:
    """README.md of the folder: the device, versions and command, then every part's page that is there."""
    names = ("torch", "timm", "torchvision", "numpy", "ray")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    cuda = f", CUDA {torch.version.cuda}" if device.type == "cuda" else ""
    for name, text in sections.items():
        (folder / f"{name}.md").write_text(text + "\n")
    # Folders outside of the repository are this machine's own business.
    words = ["DIR" if word.startswith("/") else word for word in sys.argv[1:]]
    command = " ".join(["python benchmarks/gpu.py", *words])
    history = folder / "commands.txt"
    said = history.read_text().splitlines() if history.exists() else []
    history.write_text("\n".join(dict.fromkeys([*said, command.strip()])) + "\n")
    pages = [path for path in (folder / f"{name}.md" for name in PARTS) if path.exists()]
    head = f"# {device_name(device)}\n\nPython {platform.python_version()}, {', '.join(versions)}{cuda}.\n\n"
    commands = "```sh\n" + history.read_text() + "```\n"
    body = "".join(f"\n# {path.stem}\n\n{path.read_text()}" for path in pages)
    (folder / "README.md").write_text(head + commands + body)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="else all; studies only where named")
    parser.add_argument("--quick", action="store_true", help="everything tiny, also on a CPU")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="some models alone")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), metavar="N")
    parser.add_argument(
        "--precisions", nargs="+", choices=get_args(Precision), default=["fp32", "bf16"], metavar="NAME"
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--full", action="store_true", help="the whole product of all settings: hours")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no cell or study after these")
    parser.add_argument(
        "--studies", nargs="+", default=[], metavar="NAME", help="studies to run, by file name"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of these studies")
    parser.add_argument("--slots", type=int, default=1, help="of these studies, on one device")
    parser.add_argument("--profile", default="gpu", help="another profile")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for every study")
    parser.add_argument("--store", type=Path, default=Path(".ablator"), help="the studies' store")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--device", choices=["cpu", "cuda"])
    options = parser.parse_args()
    options.store, options.results = options.store.resolve(), options.results.resolve()
    if options.quick:
        options.profile, options.batches, options.seeds, options.compile = "laptop", [4, 8], 1, False
        options.models = options.models or ["deit_tiny_patch16_224"]
    if options.parts is None:
        options.parts = [part for part in PARTS if part != "studies" or options.studies]
    return options


def main() -> None:
    """Run the parts one after the other; each is written as soon as it is done."""
    options = arguments()
    there = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(options.device or there)
    if device.type == "cpu" and not options.quick:
        raise SystemExit("no GPU is there; --quick tries the command itself on a CPU")
    span = Span(seconds=0.1, steps=2, train_images=64, val_images=16) if options.quick else Span()
    until = time.monotonic() + 60 * options.minutes
    name = f"{device_name(device)} quick" if options.quick else device_name(device)
    folder = options.results / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "cells.json", until)
    well = True
    for part in options.parts:
        if part == "throughput":
            found = models(plans(options))
            throughput(options, found, results, span, device)
            text = "\n".join(throughput_page(results, found, options, device))
        elif part == "estimates":
            text = "\n".join(estimates(plans(options), results, span, device))
        elif part == "studies":
            text, done = studies(options, folder, until)
            well &= done
        else:
            text, done = others(options, folder, device)
            well &= done
        if results.left_out:
            text += f"\n\n{results.left_out} cells are missing: --minutes was over. The same command goes on."
            results.left_out = 0
        print(text, flush=True)
        write_page(folder, device, {part: text})
    if not well:
        raise SystemExit("a study or benchmark did not end well; its exit code is on the page")


if __name__ == "__main__":
    main()
