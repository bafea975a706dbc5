"""Starting weights: which files are read, what goes where, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

import ablator.backbones  # noqa: F401  (registers the families)
from ablator.backbones.families import build
from ablator.backbones.settings import ModelSettings
from ablator.backbones.starting import StartingWeights
from ablator.backbones.weights import find_weights, weights_digest
from ablator.errors import SettingError, WeightsError
from ablator.registry import FAMILIES

VIT = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("deit_tiny_patch16_224", VIT),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
    ),
    "pvt_v2": (
        "pvt_v2_b0",
        {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 2, 4]},
    ),
    "t2t_vit": ("t2t_vit_14", {"token_dim": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "pvt": (
        "pvt_small",
        {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 2, 4]},
    ),
}


def fresh(
    family: str = "vit", *, seed: int, classes: int = 5, side: int = 32, weights: Path | None = None
) -> tuple[nn.Module, ModelSettings]:
    torch.manual_seed(seed)
    name, options = TINY[family]
    settings = ModelSettings(name=name, options=options, weights=str(weights) if weights else None)
    return build(settings, num_classes=classes, image_size=side)[0], settings


def start(model: nn.Module, settings: ModelSettings) -> tuple[str, ...]:
    weights = StartingWeights(settings)
    weights.fill(model)
    return weights.finish(model)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """`saved(content)` writes a checkpoint and returns its path."""

    def save(content: Any, name: str = "weights.pth") -> Path:
        if name.endswith(".safetensors"):
            save_file(content, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_model_starts_as_the_one_that_was_saved(family: str, saved: Callable[..., Path]) -> None:
    trained, _ = fresh(family, seed=0)
    model, settings = fresh(family, seed=1, weights=saved(trained.state_dict()))
    notes = start(model, settings)
    assert same(model, trained)
    assert len(notes) == 1
    assert "weights.pth" in notes[0]
    assert str(weights_digest(settings))[:12] in notes[0]


def moco(state: dict[str, Tensor]) -> dict[str, Any]:
    """As MoCo v3 saves: two encoders with projectors in the classifier's place, and a predictor."""
    body = {name: value for name, value in state.items() if not name.startswith("head.")}
    projector = {"head.0.weight": torch.zeros(8, 32), "head.1.running_mean": torch.zeros(8)}
    base = {f"module.base_encoder.{name}": value for name, value in (body | projector).items()}
    momentum = {f"module.momentum_encoder.{name}": value + 1 for name, value in body.items()}
    predictor = {"module.predictor.0.weight": torch.zeros(8, 8)}
    return {"epoch": 300, "arch": "vit_small", "state_dict": base | momentum | predictor, "optimizer": {}}


def trial(state: dict[str, Tensor]) -> dict[str, Any]:
    """As a trial of this project saves, with a decoder."""
    model = {f"backbone.{name}": value for name, value in state.items()}
    model["objectives.tokenprop.decoder.weight"] = torch.zeros(3)
    return {"format": 1, "tag": "x", "state": {"model": model, "optimizer": {}, "epoch": 3}}


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "model": lambda state: {"model": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "average": lambda state: {"state_dict": {k: v + 1 for k, v in state.items()}, "state_dict_ema": state},
    "backbone": lambda state: {f"backbone.{k}": v for k, v in state.items()} | {"neck.w": torch.zeros(1)},
    "trial": trial,
    "moco": moco,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_and_their_prefixes_are_taken_off(wrapper: str, saved: Callable[..., Path]) -> None:
    trained, _ = fresh(seed=0)
    path = saved(WRAPPERS[wrapper](trained.state_dict()))
    model, settings = fresh(seed=1, weights=path)
    notes = start(model, settings)
    for module in (trained, model):
        module.reset_classifier(0)  # type: ignore[operator]
    assert same(model, trained)
    assert any("classifier" in note for note in notes) == (wrapper == "moco")


def test_safetensors_are_read(saved: Callable[..., Path]) -> None:
    trained, _ = fresh(seed=0)
    model, settings = fresh(seed=1, weights=saved(trained.state_dict(), "weights.safetensors"))
    start(model, settings)
    assert same(model, trained)


def test_a_classifier_of_another_size_starts_as_without_weights(saved: Callable[..., Path]) -> None:
    trained, _ = fresh(seed=0, classes=1000)
    model, settings = fresh(seed=1, weights=saved(trained.state_dict()))
    without, _ = fresh(seed=1)
    notes = start(model, settings)
    assert torch.equal(model.head.weight, without.head.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(model.norm.weight, trained.norm.weight)  # type: ignore[union-attr, arg-type]
    assert any("classifier (head) starts fresh" in note for note in notes)


def test_positions_of_another_size_are_resampled(saved: Callable[..., Path]) -> None:
    trained, _ = fresh(seed=0)
    model, settings = fresh(seed=1, side=48, weights=saved(trained.state_dict()))
    start(model, settings)
    expected = resample_abs_pos_embed(trained.pos_embed, [6, 6], num_prefix_tokens=1)  # type: ignore[arg-type]
    torch.testing.assert_close(model.pos_embed, expected, check_stride=False)
    assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 5)


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda s: without(s, "norm.weight", "blocks.1.mlp.fc1.bias"),
            r"lacks blocks\.1\.mlp\.fc1\.bias, nor",
        ),
        (lambda s: s | {"rope.freqs": torch.zeros(2)}, r"the model has no rope\.freqs"),
        (lambda s: s | {"norm.weight": torch.zeros(3)}, r"norm\.weight 3 \(the model has 32\)"),
        (
            lambda s: {f"x{i}": torch.zeros(1) for i in range(9)},
            r"lacks .* and \d+ more; the model has no x0",
        ),
        (lambda s: s | {"blocks.0.appended.0.gain": torch.zeros(1)}, "switch on the components"),
    ],
)
def test_weights_of_another_model_are_refused_by_name(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], says: str, saved: Callable[..., Path]
) -> None:
    trained, _ = fresh(seed=0)
    path = saved(change(dict(trained.state_dict())))
    model, settings = fresh(seed=1, weights=path)
    with pytest.raises(SettingError, match=says) as caught:
        start(model, settings)
    assert str(path) in str(caught.value)
    assert "deit_tiny_patch16_224" in str(caught.value)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("echo broken into",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": Evil()}, "safely"),
        ({"model": {"epoch": 3}}, "holds no weights.*epoch"),
    ],
)
def test_files_that_hold_code_or_nothing_are_refused(
    content: Any, says: str, saved: Callable[..., Path]
) -> None:
    _, settings = fresh(seed=0, weights=saved(content))
    with pytest.raises(WeightsError, match=says):
        StartingWeights(settings)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 and then the network went away" * 9)
    _, settings = fresh(seed=0, weights=tmp_path / name)
    with pytest.raises(WeightsError, match=name):
        StartingWeights(settings)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    for name, says in [
        ("gone.pth", "cannot be read.*No such file"),
        (".", "directory"),
        ("empty.pth", "empty"),
    ]:
        with pytest.raises(WeightsError, match=says):
            find_weights(str(tmp_path / name))


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    def digest(name: str, content: bytes) -> str | None:
        (tmp_path / name).write_bytes(content)
        return weights_digest(ModelSettings(weights=str(tmp_path / name)))

    first = digest("a.pth", b"some weights")
    assert first == digest("b.pth", b"some weights")
    assert first != digest("a.pth", b"other weights")
    assert weights_digest(ModelSettings()) is None


def test_the_digest_needs_no_torch() -> None:
    code = "import sys, ablator.backbones.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
