"""docs/statistics.md shows what its command counts, and the figures on it keep the promises."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ablator.report.sequential import SequentialDesign

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """benchmarks/verdicts.py as a module."""
    spec = importlib.util.spec_from_file_location("statistics_benchmark", ROOT / "benchmarks" / "verdicts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def figures(title: str) -> list[float]:
    """The shares (%) of the page's line that begins with `title`."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {title}"))
    return [float(found) for found in re.findall(r"([\d.]+) ± ", line)]


def test_the_page_has_the_lines_that_the_command_writes(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "BOOTSTRAPPED", 3)
    found = benchmark.measure(32, SequentialDesign(least=3, most=12), 0)
    for line in benchmark.tables(found).splitlines():
        first = line.partition(" | ")[0] if " ± " in line else line
        assert f"\n{first}" in PAGE, first


def test_the_figures_of_the_page_keep_the_promises() -> None:
    assert all(figure <= 5.0 for figure in figures("normal"))
    assert all(figure <= 5.0 for figure in figures("studies in which a row without effect"))
    assert all(94.0 <= figure <= 96.0 for figure in figures("intervals that hold"))
    assert figures("trials trained")[0] <= 60.0
