"""docs/sizes.md shows what its command gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sizes() -> ModuleType:
    """benchmarks/sizes.py as a module."""
    spec = importlib.util.spec_from_file_location("sizes_benchmark", ROOT / "benchmarks" / "sizes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("backbone", ["DeiT-S", "T2T-ViT-14", "PVTv2-B2"])
def test_the_page_shows_what_the_command_gives(sizes: ModuleType, backbone: str) -> None:
    lines = (ROOT / "docs" / "sizes.md").read_text().splitlines()
    shown = [line for line in lines if line.startswith(f"| {backbone} |")]
    assert shown == sizes.table(sizes.rows(backbone)).splitlines()[2:]


def test_the_page_has_every_backbone_and_the_current_explanations(sizes: ModuleType) -> None:
    text = (ROOT / "docs" / "sizes.md").read_text()
    for backbone, paper in sizes.PAPER.items():
        assert text.count(f"| {backbone} |") == len(sizes.variants(paper.stages, paper.stem))
    assert sizes.CONVENTIONS in text
    assert sizes.DIFFERENCES in text


def test_the_stem_on_deit_s_has_the_papers_size(sizes: ModuleType) -> None:
    paper = sizes.PAPER["DeiT-S"]
    size = sizes.size_of(paper.timm, {"placement": "stem"})
    assert paper.moto_parameters == 22.5
    assert size.parameters / 1e6 == pytest.approx(paper.moto_parameters, abs=0.1)


@pytest.mark.parametrize("backbone", ["DeiT-S", "PVT-Small", "PVTv2-B2"])
def test_baselines_round_to_what_the_paper_prints(sizes: ModuleType, backbone: str) -> None:
    paper = sizes.PAPER[backbone]
    size = sizes.size_of(paper.timm, None)
    assert round(size.parameters / 1e6, 1) == paper.parameters
    assert round(size.gmacs, 1) == paper.gmacs
