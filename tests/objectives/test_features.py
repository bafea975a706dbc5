"""The feature networks are the ImageNet networks they claim to be, and frozen."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torchvision.models import vgg19

from ablator.errors import WeightsError
from ablator.objectives import features, weights
from ablator.objectives.features import feature_network

CPU = torch.device("cpu")


def test_lite0_recognises_real_photographs() -> None:
    photos = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    images_B3HW = nn.functional.interpolate(photos.permute(0, 3, 1, 2).float() / 255, (224, 224), mode="area")
    classifier = features.efficientnet_lite0(weights.EFFICIENTNET_LITE0.obtain()).eval()
    with torch.no_grad():
        best = classifier((255 * images_B3HW - 127) / 128).topk(3).indices.tolist()
    bell_cote, palace, daisy = 442, 698, 985
    assert best[0][0] == bell_cote  # the temple
    assert palace in best[0]
    assert best[1][0] == daisy  # the flower


def test_lite0_gives_the_recorded_features() -> None:
    images_B3HW = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    recorded = {  # mean and deviation
        "stem": (2.2601936, 1.7827046),
        "blocks.1": (1.5362896, 8.7853861),
        "blocks.2": (1.1539056, 8.5170736),
        "blocks.4": (0.5459458, 8.3136587),
    }
    made = feature_network("efficientnet_lite0", CPU)(images_B3HW, recorded)
    for layer, (mean, deviation) in recorded.items():
        assert made[layer].mean().item() == pytest.approx(mean, rel=1e-3), layer
        assert made[layer].std().item() == pytest.approx(deviation, rel=1e-3), layer


def test_vgg19_layers_are_the_activations_of_these_names(tmp_path) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        reference = vgg19(weights=None).features
    reference = reference.to_empty(device="cpu").eval()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.05)
    torch.save({f"features.{k}": v for k, v in reference.state_dict().items()}, tmp_path / "vgg19.pth")

    images_B3HW = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected, x, block, depth = {}, (images_B3HW - mean) / std, 1, 0
    with torch.no_grad():
        for module in reference:
            x = module(x)
            if isinstance(module, nn.ReLU):
                depth += 1
                expected[f"relu{block}_{depth}"] = x.clone()
            if isinstance(module, nn.MaxPool2d):
                block, depth = block + 1, 0
    layers = set().union(*weights.VGG19.layers.values())
    made = features.build_vgg19(tmp_path / "vgg19.pth")(images_B3HW, layers)
    assert set(made) == layers
    for name in layers:
        torch.testing.assert_close(made[name], expected[name])


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg19.pth")
    with pytest.raises(WeightsError, match=r"vgg19\.pth do not fit"):
        features.build_vgg19(tmp_path / "vgg19.pth")


def test_an_unreadable_file_is_named(tmp_path) -> None:
    (tmp_path / "vgg19.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"vgg19\.pth cannot be read"):
        features.build_vgg19(tmp_path / "vgg19.pth")


def test_networks_stay_frozen_and_pass_gradients_to_their_input(photos_B3HW: Tensor) -> None:
    network = feature_network("efficientnet_lite0", CPU).train()
    assert not any(module.training for module in network.modules())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images_B3HW = photos_B3HW.clone().requires_grad_()
    network(images_B3HW, ["blocks.4"])["blocks.4"].square().mean().backward()
    assert images_B3HW.grad is not None
    assert images_B3HW.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_loading_draws_nothing_and_can_be_trained_through_afterwards() -> None:
    features.forget_networks()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with torch.inference_mode():
        network = feature_network("efficientnet_lite0", CPU)
    assert torch.equal(torch.get_rng_state(), state)
    images_B3HW = torch.rand(1, 3, 16, 16, requires_grad=True)
    network(images_B3HW, ["stem"])["stem"].sum().backward()
    assert feature_network("efficientnet_lite0", CPU) is network  # loaded once per process


def test_forgotten_networks_are_loaded_again() -> None:
    before = feature_network("efficientnet_lite0", CPU)
    features.forget_networks()
    after = feature_network("efficientnet_lite0", CPU)
    assert after is not before
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), before.parameters(), strict=True))
