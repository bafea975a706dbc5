"""What fits no model or no data."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ablator = Callable[..., Result]
Refused = Callable[..., None]
Rewrite = Callable[[Path, str, str], None]
Port = Callable[[], int]

ARMS = '  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}'


def arm(text: str) -> tuple[str, str]:
    """Another arm instead."""
    return ARMS, f"  - {{{text}}}"


# What fits no model or no data: the change of the study file, options, and what the error says.
MODELS = {
    "unknown backbone": (
        None,
        ["--set", "model.name=deit_smal_patch16_224"],
        ["'base'", "unknown model.name 'deit_smal_patch16_224'", "deit_small_patch16_224"],
    ),
    "backbone without seams": (
        None,
        ["--set", "model.name=resnet50"],
        ["'resnet50' exists in timm but has no seams", "vit, swin, pvt_v2"],
    ),
    "unknown option of the backbone": (
        None,
        ["--set", "model.options.embed_dims=64"],
        ["model.options.embed_dims", "did you mean 'embed_dim'"],
    ),
    "heads that do not divide": (None, ["--set", "model.options.num_heads=3"], ["num_heads=3", "divisible"]),
    "patches that do not fit": (None, ["--set", "data.image_size=30"], ["30", "28 or 32"]),
    "all stages of one": (
        arm("label: x, set: {moto.stages: all}"),
        [],
        ["'x'", "family 'vit' has one embedding", "moto.stages first"],
    ),
    "stem in a prime stride": (
        arm("label: x, set: {moto.placement: stem}"),
        ["--set", "model.options.patch_size=2"],
        ["moto.placement stem", "stride", "moto.placement post"],
    ),
    "blocks beyond the depth": (
        arm('label: x, set: {moto.blocks: "0:7"}'),
        [],
        ["'0:7'", "3 blocks", "between -3 and 3"],
    ),
    "blocks that are no slice": (arm("label: x, set: {moto.blocks: first}"), [], ["'first'", '"0:4"']),
    "component that is nowhere": (
        arm("label: x, set: {moto.placement: none}"),
        [],
        ["moto.placement none and moto.blocks null change nothing"],
    ),
    "decoder larger than the image": (
        arm("label: x, set: {tokenprop.scale: 48}"),
        [],
        ["tokenprop.scale 48 does not fit", "side 32", "from 4 to 32"],
    ),
    "decoder smaller than the features": (
        arm("label: x, set: {tokenprop.loss: contextual, tokenprop.scale: 8}"),
        [],
        ["tokenprop.scale 8 does not fit", "contextual loss", "to 32"],
    ),
    "unknown feature network": (
        arm("label: x, set: {tokenprop.features: vgg16}"),
        [],
        ["unknown feature network 'vgg16'", "did you mean 'vgg19'", "efficientnet_lite0"],
    ),
    "batch larger than the data": (
        None,
        ["--set", "train.batch_size=4096"],
        ["4096", "1438 training images of digits"],
    ),
    "batch larger than its fraction": (
        None,
        ["--set", "data.fraction=0.01"],
        ["train.batch_size 32", "data.fraction 0.01"],
    ),
    "odd batch that is mixed": (
        None,
        ["--set", "train.batch_size=33", "--set", "train.mixup=0.8"],
        ["33", "must be even", "32 and 34", "mixup: 0"],
    ),
    "unknown metric": (
        ("metric: top1", "metric: topp1"),
        [],
        ["report.metric is 'topp1'", "did you mean 'top1'", "top1, top5, val_loss"],
    ),
    "metric of training": (("metric: top1", "metric: train_loss"), [], ["'train_loss'", "val_loss"]),
    "metric of an average that is off": (
        ("metric: top1", "metric: ema_top1"),
        [],
        ["'ema_top1'", "train.ema_decay"],
    ),
}


@pytest.mark.parametrize(("change", "options", "said"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_cannot_be_built(
    ablator: Ablator,
    study: Path,
    command: str,
    change: tuple[str, str] | None,
    options: list[str],
    said: list[str],
    refused: Refused,
    rewrite: Rewrite,
) -> None:
    rewrite(study, ", reported: {baseline: 79.8, n = 2: 80.8}", "")
    if change is not None:
        rewrite(study, *change)
    refused(ablator(command, study, "-p", "laptop", *options), *said)


def test_an_average_that_is_on_is_a_metric(ablator: Ablator, study: Path, rewrite: Rewrite) -> None:
    rewrite(study, "metric: top1", "metric: ema_top1")
    assert ablator("plan", study, "-p", "laptop", "-s", "train.ema_decay=0.99").exit_code == 0


def test_a_batch_that_does_not_divide_over_the_workers(
    ablator: Ablator, study: Path, refused: Refused
) -> None:
    result = ablator("run", study, "-p", "laptop", "--workers", "3")
    refused(result, "train.batch_size", "32", "= 3", "30 and 33")


def test_weights_that_cannot_be_had(
    ablator: Ablator,
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    refused: Refused,
    rewrite: Rewrite,
    unused_port: Port,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    rewrite(study, "seeds: 2}, mine", "map: {tokenprop.features: {vgg19: vgg19}}}, mine")
    rewrite(study, *arm('label: "n = 2", set: {tokenprop.loss: perceptual, tokenprop.scale: 32}'))
    refused(
        ablator("run", study, "-p", "laptop"),
        "'n = 2'",
        "'vgg19'",
        "efficientnet_lite0",
        "vgg19-dcbb9e9d.pth",
    )
