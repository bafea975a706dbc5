"""What an assembled trial promises: equal shared weights, a neutral start, named terms."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from ablator.assembly.build import assemble
from ablator.contracts.protocols import DataInfo
from ablator.errors import SeamError, SettingError, UnknownName
from ablator.plan.spec import TrialSpec

Make = Callable[..., TrialSpec]


def images(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    "changes",
    [
        {"moto.n": 4},
        {"moto.blocks": "0:1", "moto.partition": "hard"},
        {"norm.kind": "layer"},
        {"tokenprop.scale": 16},
        {"moto.self_sampling": True, "moto.orthogonality": 0.1, "tokenprop.scale": 16},
    ],
    ids=str,
)
def test_arms_share_every_weight_that_both_have(
    spec_of: Make, info: DataInfo, family: str, changes: dict[str, object]
) -> None:
    baseline = assemble(spec_of(family), info).model.backbone.state_dict()
    arm = assemble(spec_of(family, changes), info).model.backbone.state_dict()
    assert set(baseline) <= set(arm)
    for name, value in baseline.items():
        assert torch.equal(value, arm[name]), name


def test_another_seed_gives_other_weights(spec_of: Make, info: DataInfo) -> None:
    first, second = (assemble(spec_of(seed=seed), info).model.state_dict() for seed in (0, 1))
    assert not torch.equal(
        first["backbone.patch_embed.proj.weight"], second["backbone.patch_embed.proj.weight"]
    )


def test_assembly_leaves_the_random_stream_alone(spec_of: Make, info: DataInfo) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assemble(spec_of(changes={"moto.n": 4, "tokenprop.scale": 16}), info)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("placement", [{}, {"moto.blocks": "0:2"}], ids=["tokenizer", "with blocks"])
def test_fresh_moto_is_the_baseline_bit_for_bit_in_training_too(
    spec_of: Make, info: DataInfo, family: str, placement: dict[str, object]
) -> None:
    baseline = assemble(spec_of(family), info).model
    arm = assemble(spec_of(family, {"moto.n": 4, **placement}), info).model
    for mode in (False, True):
        outputs = []
        for model in (baseline, arm):
            model.train(mode)
            torch.manual_seed(5)  # drop-path draws
            outputs.append(model(images())[0])
        assert torch.equal(*outputs)


def test_objectives_add_named_terms_in_training_only(spec_of: Make, info: DataInfo, family: str) -> None:
    changes = {"tokenprop.scale": 16, "moto.orthogonality": 0.1}
    model = assemble(spec_of(family, changes), info).model
    output, terms = model.train()(images())
    assert output.shape == (4, 10)
    assert set(terms) == {"tokenprop", "penalty"}
    torch.stack(list(terms.values())).sum().backward()
    tokenizer = next(p for name, p in model.backbone.named_parameters() if "proj.weight" in name)
    assert tokenizer.grad is not None
    assert tokenizer.grad.abs().sum() > 0, "the reconstruction trains the tokenizer"
    assert model.eval()(images())[1] == {}


def test_reconstruction_target_is_the_image_before_normalisation(spec_of: Make, info: DataInfo) -> None:
    model = assemble(spec_of(changes={"tokenprop.scale": 16}), info).model.train()
    seen = {}
    objective = model.objectives["tokenprop"]
    objective.register_forward_pre_hook(lambda _, args: seen.update(images=args[1]))
    original = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (info.mean, info.std))
    model((original - mean) / std)
    torch.testing.assert_close(seen["images"], original)


def test_a_copy_of_the_model_has_its_own_tap(spec_of: Make, info: DataInfo) -> None:
    model = assemble(spec_of(changes={"tokenprop.scale": 16}), info).model.train()
    twin = copy.deepcopy(model)
    twin(images())[1]["tokenprop"].backward()
    assert all(p.grad is None for p in model.parameters())


def test_weights_without_gradient_are_announced(spec_of: Make, info: DataInfo) -> None:
    behind_last = assemble(spec_of(changes={"moto.blocks": "0:2"}), info).model
    before_last = assemble(spec_of(changes={"moto.blocks": "0:1"}), info).model
    assert behind_last.partly_unreached
    assert not before_last.partly_unreached


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model.name": "resnet50", "model.options": {}}, UnknownName, "vit"),
        ({"model.name": "deit_smal_patch16_224"}, UnknownName, "deit_small_patch16_224"),
        ({"model.options": {"embed_dimm": 3}}, SettingError, "embed_dim"),
        ({"moto.placement": "none"}, SettingError, "changes? nothing|change nothing"),
        ({"moto.blocks": "4:9"}, SettingError, "2 blocks"),
        ({"moto.stages": "all"}, SeamError, "first"),
        ({"tokenprop.scale": 64}, SettingError, "32"),
        ({"data.image_size": 36}, SettingError, "multiple|divisible|divide"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(
    spec_of: Make, info: DataInfo, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        assemble(spec_of(changes=changes), info)
