"""Batches depend on (seed, epoch, position) alone, and on nothing that ran before or beside."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ablator.contracts.protocols import World
from ablator.data.augment import evaluation_transform, training_transform
from ablator.data.catalog import open_source
from ablator.data.loading import Loader, load
from ablator.data.settings import AugmentSettings, DataSettings
from ablator.errors import SettingError

Pairs = list[tuple[Tensor, Tensor]]
ALONE = World()
HEAVY = AugmentSettings()
PROCESSES = min(2, len(os.sched_getaffinity(0)))


def _equal(a: Pairs, b: Pairs) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def _folder(root: Path, **changes: object) -> DataSettings:
    return dataclasses.replace(DataSettings(name="folder", root=str(root), image_size=16), **changes)  # type: ignore[arg-type]


def _rows(batches: Iterable[tuple[Tensor, Tensor]]) -> list[bytes]:
    return [x.numpy().tobytes() + bytes([int(y)]) for xs, ys in batches for x, y in zip(xs, ys, strict=True)]


@pytest.fixture(params=["whole batches", "image by image"])
def both_ways(
    request: pytest.FixtureRequest, tree: Callable[..., Path], light: AugmentSettings
) -> Callable[..., Loader]:
    """Makes loaders of the vectorised way and of the way through single images."""

    def make(**changes: object) -> Loader:
        arguments: dict[str, object] = {"seed": 0, "batch_size": 4, "world": ALONE, **changes}
        if request.param == "whole batches":
            data = DataSettings(name="digits", image_size=16, fraction=0.03)
            return load(data, light, **arguments)  # type: ignore[arg-type]
        return load(_folder(root), HEAVY, **arguments)  # type: ignore[arg-type]

    root = tree(per_class=10) if request.param == "image by image" else Path()
    return make


def test_batches_are_normalised_rgb(both_ways: Callable[..., Loader]) -> None:
    images, labels = next(iter(both_ways().train(0)))
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == torch.float32
    assert labels.shape == (4,)
    assert labels.dtype == torch.int64
    assert torch.isfinite(images).all()


def test_the_same_seed_gives_the_same_epoch_whatever_ran_before(both_ways: Callable[..., Loader]) -> None:
    loader = both_ways()
    first = list(loader.train(2))
    random.random(), np.random.random(), torch.rand(3)
    list(loader.evaluate())
    next(iter(loader.train(5)))
    assert _equal(list(loader.train(2)), first)
    assert _equal(list(both_ways().train(2)), first)
    assert not _equal(list(loader.train(3)), first)
    assert not _equal(list(both_ways(seed=1).train(2)), first)


def test_loading_leaves_the_trial_s_own_random_state_alone(both_ways: Callable[..., Loader]) -> None:
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = torch.rand(1), random.random(), np.random.random()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    loader = both_ways()
    list(loader.train(0)), list(loader.evaluate())
    assert (torch.rand(1), random.random(), np.random.random()) == expected


def test_a_start_within_the_epoch_continues_it(both_ways: Callable[..., Loader]) -> None:
    loader = both_ways()
    whole = list(loader.train(1))
    assert len(whole) == loader.steps_per_epoch >= 5
    for start in (1, 4, len(whole)):
        assert _equal(list(loader.train(1, start)), whole[start:])


def test_a_start_reads_none_of_the_images_before_it(
    tree: Callable[..., Path], plain: AugmentSettings
) -> None:
    root = tree(per_class=8)
    loader = load(_folder(root), plain, seed=0, batch_size=4, world=ALONE)
    last = list(loader.train(0))[-1]
    names = [loader._source.train.name(i) for i in range(16)]
    kept = {names[place] for _, places in loader._plan(0, 3) for place in places}
    for name in set(names) - kept:
        Path(name).unlink()
    assert _equal(list(loader.train(0, 3)), [last])


def test_loader_processes_change_nothing(tree: Callable[..., Path]) -> None:
    data = _folder(tree(per_class=10))
    alone, helped = (
        load(data, HEAVY, seed=0, batch_size=4, world=ALONE, workers=workers) for workers in (0, PROCESSES)
    )
    assert _equal(list(helped.train(0, 1)), list(alone.train(0, 1)))
    assert _equal(list(helped.evaluate()), list(alone.evaluate()))


@pytest.mark.parametrize("size", [2, 4])
def test_a_step_sees_the_same_images_and_draws_for_any_number_of_workers(
    both_ways: Callable[..., Loader], size: int
) -> None:
    alone = list(both_ways().train(0))
    parts = [
        list(both_ways(batch_size=4 // size, world=World(rank=rank, size=size)).train(0))
        for rank in range(size)
    ]
    for step, whole in enumerate(alone):
        assert sorted(_rows(part[step] for part in parts)) == sorted(_rows([whole]))


@given(
    n=st.integers(4, 60),
    batch=st.integers(1, 4),
    size=st.integers(1, 5),
    repeats=st.integers(1, 4),
    start=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_are_a_permutation(
    plain: AugmentSettings, n: int, batch: int, size: int, repeats: int, start: int
) -> None:
    data = DataSettings(name="digits", image_size=8, fraction=n / 1438)
    augment = dataclasses.replace(plain, repeats=repeats)
    count = load(data, augment, seed=0, batch_size=1, world=ALONE).info.train_size
    if batch * size > count:
        with pytest.raises(SettingError, match=f"has {count} images"):
            load(data, augment, seed=0, batch_size=batch, world=World(size=size))
        return
    ranks = [
        load(data, augment, seed=0, batch_size=batch, world=World(rank=r, size=size)) for r in range(size)
    ]
    plans = [list(loader._plan(0, start)) for loader in ranks]
    assert {len(plan) for plan in plans} == {max(0, ranks[0].steps_per_epoch - start)}
    positions = sorted(int(p) for plan in plans for ps, _ in plan for p in ps)
    assert positions == list(range(start * batch * size, max(start, ranks[0].steps_per_epoch) * batch * size))
    places = [int(p) for plan in plans for _, ps in plan for p in ps]
    assert max((places.count(place) for place in places), default=0) <= repeats
    evaluated = sum(len(labels) for loader in ranks for _, labels in loader.evaluate())
    assert evaluated == ranks[0].info.val_size


def test_evaluation_is_in_order_and_each_image_once(
    tree: Callable[..., Path], light: AugmentSettings
) -> None:
    data = _folder(tree(per_class=7))
    alone = _rows(load(data, light, seed=0, batch_size=4, world=ALONE).evaluate())
    assert len(set(alone)) == 14
    shares = [
        _rows(load(data, light, seed=9, batch_size=3, world=World(rank=r, size=3)).evaluate())
        for r in range(3)
    ]
    assert [shares[i % 3][i // 3] for i in range(14)] == alone


def test_repeats_are_views_of_one_image_on_different_workers(tree: Callable[..., Path]) -> None:
    data = _folder(tree(per_class=9))
    loaders = [load(data, HEAVY, seed=0, batch_size=2, world=World(rank=r, size=3)) for r in range(3)]
    assert loaders[0].steps_per_epoch == 3  # the epoch keeps its length
    steps = [list(loader._plan(0, 0)) for loader in loaders]
    for batches in zip(*steps, strict=True):
        shown = [places.tolist() for _, places in batches]
        assert shown[0] == shown[1] == shown[2]
        assert len(set(shown[0])) == 2
    views = [next(iter(loader.train(0)))[0][0] for loader in loaders]
    assert not torch.equal(views[0], views[1])


def test_augmentation_moves_and_mirrors_by_pixels(digits: DataSettings, plain: AugmentSettings) -> None:
    one = dataclasses.replace(digits, fraction=0.001)
    base = {
        row.numpy().tobytes()
        for x, _ in load(one, plain, seed=0, batch_size=1, world=ALONE).train(0)
        for row in x
    }
    mirrored = dataclasses.replace(plain, flip=1.0)
    back = {
        row.flip(-1).contiguous().numpy().tobytes()
        for x, _ in load(one, mirrored, seed=0, batch_size=1, world=ALONE).train(0)
        for row in x
    }
    assert back == base
    half = dataclasses.replace(plain, flip=0.5)
    many = dataclasses.replace(digits, fraction=0.5)
    as_is = torch.cat([x for x, _ in load(many, plain, seed=0, batch_size=8, world=ALONE).train(0)])
    flipped = torch.cat([x for x, _ in load(many, half, seed=0, batch_size=8, world=ALONE).train(0)])
    share = (flipped != as_is).flatten(1).any(1).float().mean()
    assert 0.42 < share < 0.58


def test_padded_crops_cover_every_shift(digits: DataSettings, light: AugmentSettings) -> None:
    size, edge = 16, 2
    source = open_source(digits)
    pixels = torch.full((1, 1, size, size), 0, dtype=torch.uint8)
    pixels[0, 0, 8, 8] = 255
    from ablator.data import draws, fast

    words = draws.words(0, 2000, "augmentation", 0, 0)
    still = dataclasses.replace(light, flip=0.0)
    out = fast.train_batch(pixels, fast.views(np.zeros(2000, np.int64), words, still, size))
    places = {tuple(place) for place in out[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(8 + y, 8 + x) for y in range(-edge, edge + 1) for x in range(-edge, edge + 1)}
    assert out.flatten(1).sum(1).eq(255).all()
    assert source.name == "digits"


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [16, 28, 20])
def test_whole_batches_agree_with_timm_s_transforms(
    fashion: Path, plain: AugmentSettings, interpolation: str, size: int
) -> None:
    augment = dataclasses.replace(plain, interpolation=interpolation, eval_crop=0.875)  # type: ignore[arg-type]
    data = DataSettings(name="fashion_mnist", root=str(fashion), image_size=size)
    loader = load(data, augment, seed=0, batch_size=5, world=ALONE)
    source, info = open_source(data), loader.info
    evaluation = evaluation_transform(augment, size, info.mean, info.std)
    training = training_transform(augment, size, info.mean, info.std)
    tolerance = 1.5 / 255 / info.std[0]
    found = torch.cat([x for x, _ in loader.evaluate()])
    for index, image in enumerate(found):
        assert (image - evaluation(source.image("val", index))).abs().max() < tolerance
    (_, places), found = next(loader._plan(0, 0)), next(loader.train(0))[0]
    for place, image in zip(places, found, strict=True):
        assert (image - training(source.image("train", int(place)))).abs().max() < tolerance


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rand_augment": None},
        {"crop": "pad"},
        {"crop": "none", "interpolation": "random", "rand_augment": None, "erase": 1.0},
        {"crop": "pad", "interpolation": "bilinear", "rand_augment": "rand-m10-n3-p1-inc1", "erase": 0.0},
        {"flip": 0.0, "rand_augment": "rand-m9-mstd0.5-inc1-tweights", "color_jitter": 0.0},
    ],
)
def test_every_augmentation_gives_square_inputs_from_any_image(
    tree: Callable[..., Path], change: dict[str, object]
) -> None:
    augment = dataclasses.replace(HEAVY, **change)  # type: ignore[arg-type]
    loader = load(_folder(tree()), augment, seed=0, batch_size=6, world=ALONE)
    for images, _ in [*loader.train(0), *loader.evaluate()]:
        assert images.shape[1:] == (3, 16, 16)
        assert torch.isfinite(images).all()


def test_the_strongest_posterisation_is_black_and_no_crash(digits: DataSettings) -> None:
    augment = AugmentSettings(rand_augment="rand-m10-n9-p1-inc1")
    info = load(digits, augment, seed=0, batch_size=8, world=ALONE).info
    transform = training_transform(augment, 16, info.mean, info.std)
    image = open_source(digits).image("train", 0)
    outputs = [transform(image) for _ in range(150)]
    assert any(bool(output.std() == 0) for output in outputs)


def test_a_batch_larger_than_the_set_names_both(digits: DataSettings, light: AugmentSettings) -> None:
    with pytest.raises(SettingError, match=r"has 1438 images .* one batch of 2000 \(1000 on each of 2"):
        load(digits, light, seed=0, batch_size=1000, world=World(size=2))
