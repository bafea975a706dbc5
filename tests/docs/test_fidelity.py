"""docs/fidelity.md shows what its command gives, and backbones have the sizes of their originals."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/fidelity.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fidelity")


@pytest.mark.parametrize("backbone", ["DeiT_C-S", "PVTv2-B1"])
def test_the_page_shows_what_the_command_gives(fidelity: ModuleType, backbone: str) -> None:
    lines = (ROOT / "docs" / "fidelity.md").read_text().splitlines()
    shown = [line for line in lines if line.startswith(f"| {backbone} |")]
    assert shown == fidelity.table(fidelity.rows(backbone)).splitlines()[2:]


def test_the_page_has_every_row_and_the_current_explanations(fidelity: ModuleType) -> None:
    text = (ROOT / "docs" / "fidelity.md").read_text()
    for name, backbone in fidelity.BACKBONES.items():
        assert text.count(f"| {name} |") == len(fidelity.variants(backbone))
    assert fidelity.NOTES in text


def test_backbones_have_the_sizes_of_their_originals(fidelity: ModuleType) -> None:
    for backbone in fidelity.BACKBONES.values():
        if backbone.original is not None:
            size = fidelity.size_of(backbone, {})
            assert size.parameters / 1e6 == pytest.approx(backbone.original[0], abs=0.1), backbone.model
            assert size.gmacs == pytest.approx(backbone.original[1], abs=0.1), backbone.model
