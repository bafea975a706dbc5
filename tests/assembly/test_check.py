"""Sizes counted without memory."""

from __future__ import annotations

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
    import dataclasses

    spec = resolve({"model": {"name": "deit_small_patch16_224"}, "data": {"image_size": 224}}, "test")
    thousand = dataclasses.replace(info, classes=tuple(str(i) for i in range(1000)))
    size = check(spec, thousand)
    assert size.parameters == pytest.approx(22.05e6, abs=0.01e6)
    assert size.gmacs == pytest.approx(4.6, abs=0.05), "attention is counted"


def test_check_needs_no_memory_and_no_random_numbers(spec_of: Make, info: DataInfo) -> None:
    state = torch.random.get_rng_state()
    check(spec_of(changes={"moto.n": 4}), info)
    assert torch.equal(torch.random.get_rng_state(), state)
