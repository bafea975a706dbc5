"""The linear probe, from heads and their metrics to whole trials over the digits.

Shape legend: B batch, D features, R heads, K classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ablator.assembly.build import assemble
from ablator.assembly.check import check
from ablator.contracts.events import Ticket
from ablator.contracts.protocols import Progress, World
from ablator.contracts.record import Record
from ablator.data import info as describe
from ablator.data.loading import load
from ablator.errors import SettingError
from ablator.plan.spec import TrialSpec, resolve
from ablator.results.store import Store
from ablator.study.overlay import apply, flatten
from ablator.tasks.linear_probe import build
from ablator.tasks.settings import ProbeSettings, kept_views
from ablator.training.features import FeatureBatches, pass_size_of
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner

PROBE: dict[str, Any] = {
    "task": "linear_probe",
    "data": {"name": "digits", "image_size": 32, "fraction": 0.5},
    "model": {
        "name": "deit_tiny_patch16_224",
        "drop_path": 0.1,
        "options": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "weight_init": "jax"},
    },
    "augment": {
        "crop": "none",
        "flip": 0.0,
        "rand_augment": None,
        "color_jitter": 0.0,
        "erase": 0.0,
        "repeats": 1,
        "eval_crop": 1.0,
    },
    "train": {
        "epochs": 4,
        "batch_size": 32,
        "optimizer": "sgd",
        "lr": 1.0,
        "lr_batch": None,
        "warmup_epochs": 0,
        "min_lr": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    },
}
CROPPED = {"augment.crop": "pad", "augment.flip": 0.5}


def spec_of(changes: dict[str, Any] | None = None) -> TrialSpec:
    return resolve(apply(PROBE, flatten(changes or {}, "test"), "test"), "test")


def go_on(_: Progress) -> bool:
    return True


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Record]:
    """`run(changes)`: the record of a fresh trial."""

    def train(changes: dict[str, Any] | None = None) -> Record:
        spec = spec_of(changes)
        ticket = Ticket(identity=spec.identity("x"), spec=spec.to_json(), label="probe", seed=0)
        store = Store.open(tmp_path / ticket.identity)
        runner = TrialRunner(store, Execution(), world=World(), device=torch.device("cpu"))
        record = runner.run(ticket, attempts=1, on_progress=go_on)
        assert record is not None
        assert record.error is None
        return record

    return train


def features_of(
    spec: TrialSpec, views: int | None, *, world: World | None = None, batch: int = 32
) -> FeatureBatches:
    """The batches that a trial's heads see."""
    world = world or World()
    images = load(spec.data, spec.augment, seed=0, batch_size=batch, world=world)
    model = assemble(spec, images.info).model
    return FeatureBatches(
        model.backbone,
        images,
        images,
        views=views,
        batch_size=batch,
        pass_size=batch,
        seed=0,
        device=torch.device("cpu"),
    )


def joined(batches: Any) -> tuple[Tensor, Tensor]:
    features, labels = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(labels)


# ---- heads and metrics


def task(*factors: float, lr: float = 3.0) -> Any:
    return build(10, 0.0, ProbeSettings(lr_factors=factors), lr)


def test_the_best_head_is_the_result_and_every_head_is_reported() -> None:
    probe = task(0.1, 1.0)
    target_B = torch.arange(10)
    right_BK, half_BK = 5 * torch.eye(10), 5 * torch.eye(10)
    half_BK[5:] = 0
    half_BK[5:, 0] = 1
    metrics = probe.metrics("cpu")
    metrics.update(torch.cat([half_BK, right_BK], dim=1), target_B)
    values = metrics.compute()
    assert set(values) == set(probe.measures)
    assert (values["top1"], values["best_lr"]) == (100.0, 3.0)
    assert (values["top1_lr_0.3"], values["top1_lr_3"]) == (50.0, 100.0)
    alone = build(10, 0.0).metrics("cpu")
    alone.update(right_BK, target_B)
    assert values["loss"] == alone.compute()["loss"]


def test_of_equal_heads_the_surer_one_wins() -> None:
    metrics = task(0.1, 1.0).metrics("cpu")
    metrics.update(torch.cat([torch.eye(10), 9 * torch.eye(10)], dim=1), torch.arange(10))
    assert metrics.compute()["best_lr"] == 3.0


def test_heads_begin_equal_however_many_there_are() -> None:
    torch.manual_seed(3)
    many = task(0.1, 1.0, 10.0).heads(16)
    torch.manual_seed(3)
    (one,) = task(1.0).heads(16)
    for head in many:
        assert torch.equal(head.weight, one.weight)
        assert not head.bias.any()
    output, terms = many(torch.randn(2, 16))
    assert output.shape == (2, 30)
    assert terms == {}


def test_learning_rates_that_are_the_same_are_refused() -> None:
    with pytest.raises(SettingError, match=r"probe\.lr_factors .* 0\.3 more than once"):
        task(0.1, 1.0, 0.1)


def test_a_choice_between_rates_is_a_footnote() -> None:
    assert task(1.0).notes == ()
    assert "0.3, 3 on the validation images" in task(0.1, 1.0).notes[0]


# ---- whole trials


def test_a_random_frozen_backbone_is_probed_as_well_as_logistic_regression_does(
    run: Callable[..., Record],
) -> None:
    changes = {"data.fraction": 1.0, "train.epochs": 40, "probe.lr_factors": [0.1, 0.3, 1.0, 3.0]}
    record = run(changes)
    batches = features_of(spec_of(changes), 1)
    features_ND, labels_N = joined(batches.train(0))
    val_ND, val_N = joined(batches.evaluate())
    reference = [
        100 * LogisticRegression(C=c, max_iter=5000).fit(features_ND, labels_N).score(val_ND, val_N)
        for c in (1.0, 10.0, 100.0)
    ]
    assert record.metrics["top1"] > 40, "chance is 10"
    assert min(reference) - 2 <= record.metrics["top1"] <= max(reference) + 2
    rates = {key: value for key, value in record.metrics.items() if key.startswith("top1_lr")}
    assert record.metrics["top1"] == max(rates.values())
    assert rates[f"top1_lr_{record.metrics['best_lr']:g}"] == record.metrics["top1"]


def test_rates_probed_together_give_what_each_gives_alone(run: Callable[..., Record]) -> None:
    schedule = {"train.warmup_epochs": 1, "train.min_lr": 0.01, "train.weight_decay": 1e-3}
    together = run({**schedule, "probe.lr_factors": [3.0, 0.1, 1.0]})
    for factor, rate in [(3.0, "3"), (0.1, "0.1"), (1.0, "1")]:
        alone = run({**schedule, "probe.lr_factors": [factor]})
        for key in (f"train_ce_lr_{rate}", f"top1_lr_{rate}"):
            assert [row[key] for row in alone.curves] == [row[key] for row in together.curves]


def test_a_factor_multiplies_the_rate_at_every_step(run: Callable[..., Record]) -> None:
    schedule = {"train.warmup_epochs": 1, "train.warmup_lr": 0.0}
    scaled = run({**schedule, "probe.lr_factors": [0.1]})
    written = run({**schedule, "train.lr": 0.1})
    for one, other in zip(scaled.curves, written.curves, strict=True):
        assert one["train_ce_lr_0.1"] == pytest.approx(other["train_ce_lr_0.1"], rel=1e-4)
        assert one["lr"] == pytest.approx(10 * other["lr"])


@pytest.mark.parametrize("views", [None, 1, 2])
def test_a_probe_that_was_stopped_goes_on_as_if_it_had_not_been(
    run: Callable[..., Record], views: int | None, tmp_path: Path
) -> None:
    changes = {**CROPPED, "probe.views": views, "probe.lr_factors": [0.1, 1.0]}
    spec = spec_of(changes)
    ticket = Ticket(identity=spec.identity("x"), spec=spec.to_json(), label="probe", seed=0)
    store = Store.open(tmp_path / "stopped")
    runner = TrialRunner(store, Execution(checkpoint_seconds=0), world=World(), device=torch.device("cpu"))
    assert runner.run(ticket, attempts=1, on_progress=lambda p: p.epoch < 3) is None
    resumed = runner.run(ticket, attempts=2, on_progress=go_on)
    assert resumed is not None
    undisturbed = run(changes)
    assert resumed.curves == undisturbed.curves
    assert resumed.metrics == undisturbed.metrics
    assert any("2 fixed augmented views" in note for note in resumed.notes) == (views == 2)


def test_a_probe_weighs_what_the_trained_model_weighs() -> None:
    data = describe(spec_of().data)
    probe = check(spec_of({"probe.lr_factors": [0.1, 0.3, 1.0]}), data)
    trained = check(spec_of({"task": "classification"}), data)
    assert (probe.parameters, probe.gmacs) == (trained.parameters, trained.gmacs)
    assert probe.training_parameters == trained.parameters + 2 * (32 * 10 + 10)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "swin_tiny_patch4_window7_224", "options": {"embed_dim": 16, "depths": [1, 1]}},
        {"name": "pvt_v2_b0"},
        {"name": "t2t_vit_14"},
        {"name": "pvt_small"},
    ],
    ids=lambda model: str(model["name"]),
)
def test_every_family_can_be_probed(model: dict[str, Any]) -> None:
    own = {**PROBE, "model": model}
    if "options" in model:
        model["options"]["num_heads"] = [1, 2]
    data = describe(spec_of().data)
    probe = check(resolve(own, "test"), data)
    trained = check(resolve({**own, "task": "classification"}, "test"), data)
    assert (probe.parameters, probe.gmacs) == (trained.parameters, trained.gmacs)


def test_the_backbone_is_the_one_that_would_be_trained_and_it_stays() -> None:
    spec = spec_of({"moto.n": 2, "norm.kind": "batch"})
    data = describe(spec.data)
    probed = assemble(spec, data)
    trained = assemble(spec_of({"task": "classification", "moto.n": 2, "norm.kind": "batch"}), data)
    before = {name: value.clone() for name, value in probed.model.state_dict().items()}
    for name, value in before.items():
        assert torch.equal(value, trained.model.state_dict()[name])
    assert probed.heads is not None
    list(features_of(spec, 1).train(0))
    assert all(torch.equal(value, before[name]) for name, value in probed.model.state_dict().items())
    assert not any(p.requires_grad for p in probed.model.backbone.parameters())
    assert not any(module.training for module in probed.model.backbone.modules())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train.mixup": 0.8}, r"train\.mixup 0\.8"),
        ({"train.cutmix": 1.0}, r"train\.cutmix 1"),
        ({"train.clip_grad": 5.0}, r"train\.clip_grad 5"),
        ({"tokenprop.scale": 16}, "tokenprop"),
    ],
)
def test_what_a_probe_cannot_do_is_refused(changes: dict[str, Any], says: str) -> None:
    spec = spec_of(changes)
    with pytest.raises(SettingError, match=says):
        check(spec, describe(spec.data))


# ---- features


def test_as_many_views_as_epochs_are_the_same_as_no_cache() -> None:
    spec = spec_of(CROPPED)
    streamed, kept = features_of(spec, None), features_of(spec, 2)
    for epoch in (0, 1):
        for start in (0, 5):
            fresh, cached = (list(batches.train(epoch, start)) for batches in (streamed, kept))
            assert len(fresh) == len(cached) > 1
            for (a, labels), (b, others) in zip(fresh, cached, strict=True):
                assert torch.equal(labels, others)
                assert torch.equal(a, b)


def test_later_epochs_shuffle_the_views_that_are_kept() -> None:
    batches = features_of(spec_of(CROPPED), 2)
    first, _ = joined(batches.train(0))
    third, _ = joined(batches.train(2))
    second, _ = joined(batches.train(1))
    assert not torch.equal(first, third)
    assert sorted(first[:, 0].tolist()) == sorted(third[:, 0].tolist())
    assert sorted(first[:, 0].tolist()) != sorted(second[:, 0].tolist()), "another view"


def test_workers_share_the_images() -> None:
    spec = spec_of()
    whole, _ = joined(features_of(spec, 1).evaluate())
    parts = [features_of(spec, 1, world=World(rank=rank, size=2), batch=16).evaluate() for rank in range(2)]
    shared = torch.cat([joined(part)[0] for part in parts])
    assert len(shared) == len(whole)
    torch.testing.assert_close(shared.sum(0), whole.sum(0), rtol=1e-4, atol=1e-2)
    trained = [
        features_of(spec, 1, world=World(rank=rank, size=2), batch=16).train(0, 0) for rank in range(2)
    ]
    images = [row for part in trained for row in joined(part)[0][:, 0].tolist()]
    assert len(images) == 32 * features_of(spec, 1).steps_per_epoch
    assert len(set(images)) > 0.98 * len(images), "no image is in both shares"


@pytest.mark.parametrize("images", [719, 1438, 1_281_167, 50_000])
@pytest.mark.parametrize("batch_size", [2, 32, 700])
def test_encoding_leaves_nearly_no_image_out(images: int, batch_size: int) -> None:
    size = pass_size_of(images, batch_size)
    assert size <= 256 or size == batch_size
    assert images % size <= min(4, images % batch_size)


@pytest.mark.parametrize(
    ("views", "fixed", "kept"),
    [(None, False, None), (None, True, 1), (3, True, 1), (3, False, 3), (9, False, None)],
)
def test_views_are_kept_only_where_they_are_seen_again(
    views: int | None, fixed: bool, kept: int | None
) -> None:
    assert kept_views(ProbeSettings(views=views), 9, fixed=fixed) == kept


def test_augmentation_that_draws_is_known() -> None:
    plain = spec_of().augment
    assert plain.fixed
    for change in ({"flip": 0.5}, {"crop": "pad"}, {"erase": 0.1}, {"repeats": 3}, {"rand_augment": "rand"}):
        assert not dataclasses.replace(plain, **change).fixed  # type: ignore[arg-type]


def test_half_precision_features_cost_nearly_nothing(run: Callable[..., Record]) -> None:
    full, half = run({"probe.cache": "fp32"}), run({"probe.cache": "fp16"})
    assert math.isclose(full.metrics["val_loss"], half.metrics["val_loss"], rel_tol=1e-2)
