"""Sizes counted without memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from ablator.assembly.build import assemble
from ablator.assembly.check import check
from ablator.contracts.protocols import DataInfo
from ablator.plan.spec import TrialSpec, resolve

Make = Callable[..., TrialSpec]


def test_counts_are_those_of_the_built_model(spec_of: Make, info: DataInfo, family: str) -> None:
    spec = spec_of(family, {"moto.n": 4, "tokenprop.scale": 16})
    size = check(spec, info)
    model = assemble(spec, info).model
    assert size.parameters == sum(p.numel() for p in model.backbone.parameters())
    assert size.training_parameters == sum(p.numel() for p in model.parameters())
    assert size.training_parameters > size.parameters, "the decoder is not deployed"


def test_deit_s_weighs_what_papers_print(info: DataInfo) -> None:
    spec = resolve({"model": {"name": "deit_small_patch16_224"}, "data": {"image_size": 224}}, "test")
    thousand = dataclasses.replace(info, classes=tuple(str(i) for i in range(1000)))
    size = check(spec, thousand)
    assert size.parameters == pytest.approx(22.05e6, abs=0.01e6)
    assert size.gmacs == pytest.approx(4.6, abs=0.05), "attention is counted"


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [
        ("t2t_vit_14", 21.546, 4.783),
        ("t2t_vit_19", 39.177, 8.480),
        ("pvt_small", 24.486, 3.816),
        ("pvt_medium", 44.208, 6.659),
    ],
)
def test_models_that_are_written_here_weigh_what_their_authors_say(
    info: DataInfo, name: str, parameters: float, gmacs: float
) -> None:
    """T2T-ViT: 21.5M and 4.8G, 39.2M and 8.5G; PVT: 24.5M and 3.8G, 44.2M and 6.7G."""
    spec = resolve({"model": {"name": name}, "data": {"image_size": 224}}, "test")
    size = check(spec, dataclasses.replace(info, classes=tuple(str(i) for i in range(1000))))
    assert size.parameters / 1e6 == pytest.approx(parameters, abs=1e-3)
    assert size.gmacs == pytest.approx(gmacs, abs=1e-3)


def test_check_needs_no_memory_and_no_random_numbers(spec_of: Make, info: DataInfo) -> None:
    state = torch.random.get_rng_state()
    check(spec_of(changes={"moto.n": 4}), info)
    assert torch.equal(torch.random.get_rng_state(), state)
