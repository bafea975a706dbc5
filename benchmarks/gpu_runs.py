"""What `gpu.py` starts as commands of their own: studies through `ablator`, and the other benchmarks."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
# No file of this folder may stand in for a module of the standard library that has its name.
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1"}
TABLES = ("table.md", "table.tex", "results.json", "page.html")


def studies(options: argparse.Namespace, folder: Path, until: float) -> tuple[str, bool]:
    """Run every study that is named, draw its figures, and copy what they wrote to FOLDER/STUDY/.

    Returns the page (wall time and exit code of each, and its table) and whether all went well. A study
    whose trials have failed has exit code 1 and its holes in the table, and is copied all the same.
    """
    lines = ["| study | seconds | exit code | figures |", "|---|---:|---:|---|"]
    tables: list[str] = []
    well = True
    for name in options.studies:
        if time.monotonic() > until:
            lines.append(f"| {name} | | | not begun: --minutes was over |")
            continue
        common = [f"experiments/{name}.yaml", "--profile", options.profile]
        common += ["--store", str(options.store)]
        for setting in [f"seeds={options.seeds}", *_small(options), *options.set]:
            common += ["--set", setting]
        # A cluster that happens to run on this machine is not what is measured.
        machine = ["--keep-weights", "--mlflow", "off", "--address", "local", *_share(options)]
        machine += ["--compile"] if options.compile and options.full else []
        start = time.perf_counter()
        code = _ablator(["run", *common, *machine], options.store / "logs" / f"{name}.run.txt")
        seconds = time.perf_counter() - start
        well &= code == 0
        steps = ["--steps", "5"] if options.quick else []
        drawn = _ablator(["figures", *common, *steps], options.store / "logs" / f"{name}.figures.txt")
        written = options.store / "reports" / name / options.profile
        files = _copied(written, folder / name)
        shown = ", ".join(path.name for path in files if path.suffix == ".png") or f"none (exit code {drawn})"
        lines.append(f"| {name} | {seconds:.0f} | {code} | {shown} |")
        if (folder / name / "table.md").exists():
            tables.append(f"\n## {name}\n\n{(folder / name / 'table.md').read_text()}")
    return "\n".join([*lines, *tables]), well


def _small(options: argparse.Namespace) -> Sequence[str]:
    return ("train.epochs=1", "train.warmup_epochs=0", "data.fraction=0.1") if options.quick else ()


def _share(options: argparse.Namespace) -> Sequence[str]:
    """`--slots` on one device."""
    if not torch.cuda.is_available() or options.device == "cpu":
        return ("--gpus", "0", "--slots", str(options.slots))
    return ("--gpus", f"{1 / options.slots:g}", "--slots", str(options.slots))


def _ablator(words: Sequence[str], log: Path) -> int:
    """Exit code of `ablator WORDS`; what it says is shown and kept in `log`."""
    return _shown([sys.executable, "-m", "ablator", *words], log)


def _shown(command: Sequence[str], log: Path) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            kept.write(line)
    return process.returncode


def _copied(written: Path, place: Path) -> list[Path]:
    """Tables and figures of one study's report."""
    place.mkdir(parents=True, exist_ok=True)
    there = [path for path in (written / name for name in TABLES) if path.exists()]
    there += sorted((written / "figures").glob("*.png")) + sorted((written / "figures").glob("*.svg"))
    return [Path(shutil.copy(path, place / path.name)) for path in there]


def others(options: argparse.Namespace, folder: Path, device: torch.device) -> tuple[str, bool]:
    """The other benchmarks that a GPU changes; their figures are FOLDER/NAME.json, their tables in the page
    that is returned, with whether all went well."""
    quick = options.quick
    commands = {
        "moto": ["--device", device.type, *(["--quick"] if quick else ["--batch", "32"])],
        "training_step": [
            *("--device", device.type),
            *(["--quick", "--models", "laptop", "--rounds", "2"] if quick else []),
        ],
    }
    if importlib.util.find_spec("ray") is not None:
        commands["orchestration"] = ["--trials", "5", "--plain", "0"] if quick else ["--trials", "50"]
    pages, well = [], True
    for name, words in commands.items():
        script, output = ROOT / "benchmarks" / f"{name}.py", folder / f"{name}.json"
        code = _shown([sys.executable, str(script), *words, "--output", str(output)], folder / f"{name}.txt")
        well &= code == 0
        said = (folder / f"{name}.txt").read_text()
        table = "\n".join(line for line in said.splitlines() if line.startswith("|"))
        pages.append(f"## {name}, exit code {code}\n\n{table or said}")
    return "\n\n".join(pages), well
