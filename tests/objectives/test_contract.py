"""What every registered objective and feature network has to keep.

Shape legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

import ablator.objectives
from ablator.contracts.settings import as_plain
from ablator.objectives.features import feature_network
from ablator.registry import FEATURE_NETWORKS, OBJECTIVES

assert ablator.objectives  # importing the room is what registers

objectives = pytest.mark.parametrize("entry", list(OBJECTIVES), ids=lambda entry: entry.name)
networks = pytest.mark.parametrize("entry", list(FEATURE_NETWORKS), ids=lambda entry: entry.name)


@objectives
def test_an_entry_says_what_it_is_and_has_frozen_settings_with_defaults(entry) -> None:
    assert entry.summary
    settings = entry.settings()
    assert as_plain(settings)
    field = dataclasses.fields(settings)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, field, None)


@objectives
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_terms_are_named_finite_scalars_that_train_the_tokenizer(entry, device, make_seams) -> None:
    with torch.device(device):
        seams = make_seams(64)
        objective = entry.load()(seams, entry.settings())
        images_BCHW = torch.rand(2, 3, 64, 64)
        terms = objective({"tokens": seams.model(images_BCHW)}, images_BCHW)
    assert isinstance(objective.notes, tuple)
    assert all(name.startswith(entry.name) for name in terms)  # so that terms of two objectives never collide
    assert len(terms) > 0
    for value in terms.values():
        assert value.shape == ()
        value.backward(retain_graph=True)
        assert seams.model.weight.grad is not None
        if device == "cpu":
            assert torch.isfinite(value)


@objectives
def test_the_same_seed_gives_the_same_objective(entry, make_seams) -> None:
    def state():
        torch.manual_seed(3)
        return entry.load()(make_seams(64), entry.settings()).state_dict()

    first, second = state(), state()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@networks
def test_a_network_knows_its_licence_and_the_strides_of_its_layers(entry) -> None:
    assert entry.summary
    described = entry.load()
    assert described.name == entry.name
    assert described.licence
    network = feature_network(entry.name, torch.device("meta"))
    for layers in described.layers.values():
        outputs = network(torch.empty(2, 3, 64, 64, device="meta"), layers)
        for layer, stride in layers.items():
            assert outputs[layer].shape[0] == 2
            assert outputs[layer].shape[2:] == (64 // stride, 64 // stride), layer
