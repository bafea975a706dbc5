"""The module, its placements, and what it leaves untouched."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablator.backbones.families import build
from ablator.backbones.settings import ModelSettings
from ablator.components.moto import MoTo, MoToStem, attach_moto, split_stride
from ablator.components.settings import MoToSettings
from ablator.contracts.protocols import Penalised, Seam, Seams
from ablator.errors import SeamError, SettingError
from ablator.registry import FAMILIES

Tiny = Callable[..., tuple[nn.Module, Seams]]

VARIANTS: list[dict[str, Any]] = [
    {},
    {"n": 3, "partition": "hard", "statistics": "literal"},
    {"statistics": "counted", "value": False},
    {"statistics": "averaged", "tau": 2.0, "orthogonality": 0.1},
    {"self_sampling": True},
    {"blocks": "0:2"},
    {"placement": "none", "blocks": ":", "self_sampling": True},
]


def outputs(model: nn.Module, images_BCHW: Tensor) -> list[Tensor]:
    """What the model gives in eval and in training mode (drop-path on), and its gradients."""
    model.eval()
    with torch.no_grad():
        evaluated = model(images_BCHW)
    model.train()
    torch.manual_seed(3)
    trained = model(images_BCHW)
    model.zero_grad()
    trained.square().sum().backward()
    return [evaluated, trained.detach()]


def reached(seams: Seams) -> list[Seam]:
    """The seams with something appended that the classifier's output depends on."""
    every = {seam.name: seam for seam in (*seams.embeddings(), *seams.blocks())}
    return [seam for seam in every.values() if seam.reaches_head and hasattr(seam.host, "appended")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_fresh_moto_equals_its_baseline_bit_for_bit(
    tiny: Tiny, family: str, variant: dict[str, Any]
) -> None:
    images_BCHW = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    baseline, _ = tiny(family)
    model, seams = tiny(family)
    torch.manual_seed(99)
    attach_moto(seams, MoToSettings(**variant))
    for ours, theirs in zip(outputs(model, images_BCHW), outputs(baseline, images_BCHW), strict=True):
        assert torch.equal(ours, theirs)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in baseline.named_parameters():
        if not parameter.requires_grad:
            assert gradients[name] is None, name
            continue
        assert parameter.grad is not None
        assert torch.equal(gradients[name], parameter.grad), name  # type: ignore[arg-type]
    for seam in reached(seams):
        for module in seam.host.appended:  # type: ignore[attr-defined]
            assert module.rho.grad != 0, seam.name


@pytest.mark.parametrize("family", FAMILIES.names())
def test_once_rho_moves_every_place_matters(tiny: Tiny, family: str) -> None:
    images_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    model, seams = tiny(family)
    change = attach_moto(seams, MoToSettings(placement="post", blocks=":", n=3))
    model.eval()
    before = model(images_BCHW)
    modules = [module for module in model.modules() if isinstance(module, MoTo)]
    assert len(modules) == len(change.places) == len(seams.blocks()) + 1
    effects = []
    for module in modules:
        with torch.no_grad():
            module.rho.fill_(1.0)
        effects.append(not torch.equal(model(images_BCHW), before))
        with torch.no_grad():
            module.rho.zero_()
    # The last block of a model with a class token is the one place that a classifier cannot see.
    unseen = 1 if family in ("vit", "t2t_vit", "pvt") else 0
    assert len(effects) - sum(effects) == len(change.notes) == unseen


@pytest.mark.parametrize("family", FAMILIES.names())
def test_the_backbones_own_weights_keep_their_names(tiny: Tiny, family: str) -> None:
    baseline, _ = tiny(family)
    model, seams = tiny(family)
    attach_moto(seams, MoToSettings(blocks=":"))
    ours, theirs = model.state_dict(), baseline.state_dict()
    assert set(theirs) < set(ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(".appended." in name for name in set(ours) - set(theirs))


@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_copy_has_its_own_moto(tiny: Tiny, family: str) -> None:
    images_BCHW = torch.randn(2, 3, 64, 64)
    model, seams = tiny(family)
    attach_moto(seams, MoToSettings(blocks="0:1"))
    model.eval()
    fresh = model(images_BCHW)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for module in other.modules():
                if isinstance(module, MoTo):
                    module.rho.fill_(1.0)
        assert not torch.equal(other(images_BCHW), fresh)
        assert torch.equal(model(images_BCHW), fresh)


@pytest.mark.parametrize("family", [name for name in FAMILIES.names() if name != "t2t_vit"])
def test_stem_keeps_the_grid_and_trains(tiny: Tiny, family: str) -> None:
    images_BCHW = torch.randn(2, 3, 64, 64)
    _, baseline = tiny(family)
    model, seams = tiny(family)
    change = attach_moto(seams, MoToSettings(placement="stem", n=4))
    stem = seams.tokenizer().projection
    assert isinstance(stem, MoToStem)
    assert stem(images_BCHW).shape == baseline.tokenizer().projection(images_BCHW).shape
    assert change.places == ("patch_embed1.proj" if family == "pvt" else "patch_embed.proj",)
    assert "stem" in change.notes[0]
    model(images_BCHW).sum().backward()
    assert all(parameter.grad is not None for parameter in stem.parameters())


def test_a_tokenizer_that_is_no_convolution_has_no_stem(tiny: Tiny) -> None:
    _, seams = tiny("t2t_vit")
    says = r"tokens_to_token of family 't2t_vit' is a TokensToToken; use moto\.placement post"
    with pytest.raises(SeamError, match=says):
        attach_moto(seams, MoToSettings(placement="stem"))


@pytest.mark.parametrize("family", ["swin", "pvt_v2", "pvt"])
def test_all_stages_get_one_each(tiny: Tiny, family: str) -> None:
    model, seams = tiny(family)
    change = attach_moto(seams, MoToSettings(stages="all"))
    assert change.places == tuple(seam.name for seam in seams.embeddings())
    assert sum(isinstance(module, MoTo) for module in model.modules()) == 4


def parameters(name: str, **moto: Any) -> float:
    with torch.device("meta"):
        model, seams = build(ModelSettings(name=name), num_classes=1000, image_size=224)
        if moto:
            attach_moto(seams, MoToSettings(**moto))
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def test_sizes_are_the_published_ones() -> None:
    assert parameters("deit_small_patch16_224") == pytest.approx(22.051, abs=1e-3)
    assert parameters("deit_small_patch16_224", placement="stem") == pytest.approx(22.465, abs=1e-3)
    assert parameters("deit_small_patch16_224", placement="stem", self_sampling=True) == pytest.approx(
        22.468, abs=1e-3
    )
    added = {
        "layout only": {"value": False},
        "sampling": {"value": False, "self_sampling": True},
        "full": {"self_sampling": True},
    }
    counted = {k: parameters("deit_small_patch16_224", **v) - 22.051 for k, v in added.items()}
    assert counted == pytest.approx({"layout only": 0.009, "sampling": 0.046, "full": 0.194}, abs=1e-3)
    assert parameters("swin_tiny_patch4_window7_224", stages="all", self_sampling=True) == pytest.approx(
        28.288 + 1.016, abs=3e-3
    )
    assert parameters("pvt_v2_b2", stages="all", self_sampling=True) == pytest.approx(
        25.363 + 0.507, abs=3e-3
    )


@pytest.mark.parametrize(
    ("stride", "factors"),
    [(4, (2, 2)), (8, (4, 2)), (12, (4, 3)), (14, (7, 2)), (16, (4, 4)), (32, (8, 4)), (1, None), (7, None)],
)
def test_strides_split_evenly(stride: int, factors: tuple[int, int] | None) -> None:
    assert split_stride(stride) == factors


def test_self_sampling_only_moves_training_and_leaves_the_random_stream() -> None:
    torch.manual_seed(0)
    module = MoTo(16, MoToSettings(self_sampling=True, n=4))
    with torch.no_grad():
        module.rho.fill_(1.0)
    assert module.sampling is not None
    x_BCHW = torch.randn(2, 16, 6, 6)
    module.eval()
    assert torch.equal(module(x_BCHW), module(x_BCHW))
    module.train()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = module(x_BCHW)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(module(x_BCHW), first)
    torch.manual_seed(2)
    assert not torch.equal(module(x_BCHW), first)


def test_the_penalty_is_zero_for_orthonormal_filters_only() -> None:
    module = MoTo(8, MoToSettings(n=4, orthogonality=0.5))
    assert isinstance(module, Penalised)
    with torch.no_grad():
        module.filters.weight.copy_(torch.eye(4, 8).view(4, 8, 1, 1))
    assert module.penalty().item() == 0
    with torch.no_grad():
        module.filters.weight.mul_(2)
    assert module.penalty().item() == pytest.approx(0.5 * 4 * 9)
    assert MoTo(8, MoToSettings()).penalty().item() == 0


def test_scale_and_shift_ask_for_no_weight_decay() -> None:
    module = MoTo(8, MoToSettings())
    assert module.no_weight_decay() == {name for name, p in module.named_parameters() if p.ndim == 2}


@pytest.mark.parametrize(
    ("settings", "family", "error", "says"),
    [
        (MoToSettings(placement="none"), "vit", SettingError, "change nothing"),
        (MoToSettings(placement="stem", stages="all"), "swin", SettingError, "post"),
        (MoToSettings(stages="all"), "vit", SeamError, "one embedding"),
        (MoToSettings(blocks="0:4"), "vit", SettingError, "3 blocks"),
        (MoToSettings(blocks="2:2"), "vit", SettingError, "selects none"),
        (MoToSettings(blocks="0-2"), "vit", SettingError, "Python slice"),
        (MoToSettings(blocks="::0"), "vit", SettingError, "step"),
        (MoToSettings(blocks="-9:"), "swin", SettingError, "between -5 and 5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tiny: Tiny, settings: MoToSettings, family: str, error: type[Exception], says: str
) -> None:
    _, seams = tiny(family)
    with pytest.raises(error, match=says):
        attach_moto(seams, settings)


def test_a_stem_needs_a_stride_with_two_factors(tiny: Tiny) -> None:
    _, seams = tiny("vit", patch_size=2)
    with pytest.raises(SeamError, match="stride"):
        attach_moto(seams, MoToSettings(placement="stem"))


def test_a_stem_needs_a_convolution_to_replace(tiny: Tiny) -> None:
    _, seams = tiny("vit")
    attach_moto(seams, MoToSettings(placement="stem"))
    with pytest.raises(SeamError, match="MoToStem"):
        attach_moto(seams, MoToSettings(placement="stem"))


@pytest.mark.parametrize(
    ("blocks", "places"),
    [("0:2", (0, 1)), ("-1:", (2,)), ("::2", (0, 2)), (" 1 : 3 ", (1, 2)), ("::-1", (2, 1, 0))],
)
def test_blocks_are_a_python_slice(tiny: Tiny, blocks: str, places: tuple[int, ...]) -> None:
    _, seams = tiny("vit")
    change = attach_moto(seams, MoToSettings(placement="none", blocks=blocks))
    assert change.places == tuple(f"blocks.{index}" for index in places)


def test_compilation_keeps_self_sampling_in_one_graph() -> None:
    module = MoTo(8, MoToSettings(n=3, self_sampling=True)).train()
    nn.init.ones_(module.rho)
    images_BCHW = torch.randn(2, 8, 4, 4)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    expected = module(images_BCHW)
    torch.manual_seed(0)
    assert torch.equal(compiled(images_BCHW), expected)
    assert not torch.equal(compiled(images_BCHW), module(torch.zeros_like(images_BCHW)))
    torch._dynamo.reset()
