"""The designs of arXiv 2212.11115, Table 1, weigh what the paper prints for them."""

from __future__ import annotations

import dataclasses

import pytest

from ablator.assembly.check import Size, check
from ablator.contracts.protocols import DataInfo
from ablator.plan.spec import resolve

PRINTED = {
    "frozen": (22.1, 4.6),
    "intra": (22.3, 4.7),
    "intra_local": (22.3, 5.1),
    "intra_local_inter": (25.7, 6.9),
}
"""Parameters in millions and multiply-adds in billions, of DeiT-S (22.1, 4.6) at 224²."""


@pytest.fixture(scope="module")
def sizes(info: DataInfo) -> dict[str | None, Size]:
    """By kind; None is DeiT-S itself."""
    thousand = dataclasses.replace(info, classes=tuple(str(i) for i in range(1000)))
    deit_s = {"model": {"name": "deit_small_patch16_224"}, "data": {"image_size": 224}}
    specs = {kind: {**deit_s, "tokenizer": {"kind": kind}} for kind in PRINTED}
    found: dict[str | None, Size] = {None: check(resolve(deit_s, "test"), thousand)}
    return found | {kind: check(resolve(spec, "test"), thousand) for kind, spec in specs.items()}


@pytest.mark.parametrize("kind", PRINTED)
def test_multiply_adds_round_to_what_the_paper_prints(sizes: dict[str | None, Size], kind: str) -> None:
    assert round(sizes[kind].gmacs, 1) == PRINTED[kind][1]


@pytest.mark.parametrize(
    ("kind", "onto", "parameters", "gmacs"),
    [
        ("frozen", None, 0.0, 0.0),
        ("intra", None, 0.2, 0.1),
        ("intra_local", "intra", 0.0, 0.4),
        ("intra_local_inter", "intra_local", 3.4, 1.8),
    ],
)
def test_every_step_adds_what_the_paper_prints(
    sizes: dict[str | None, Size], kind: str, onto: str | None, parameters: float, gmacs: float
) -> None:
    added, before = sizes[kind], sizes[onto]
    assert (added.parameters - before.parameters) / 1e6 == pytest.approx(parameters, abs=0.1)
    assert added.gmacs - before.gmacs == pytest.approx(gmacs, abs=0.1)
