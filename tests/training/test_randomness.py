"""Seeds that follow from words, and the draws that follow from them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablator.contracts.train import TrainSettings
from ablator.training.mixing import build_mixing
from ablator.training.randomness import derive, reseed, seed_everything

words = st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4)


@given(seed=st.integers(), left=words, right=words)
def test_derive_tells_words_apart(seed: int, left: list[Any], right: list[Any]) -> None:
    assert 0 <= derive(seed, *left) < 2**63
    assert (derive(seed, *left) == derive(seed, *right)) == (left == right)


def test_derive_is_the_same_for_ever() -> None:
    # Results of earlier versions depend on it.
    assert derive(0, "step", 3, 120, 0) == 7089774392990976912


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@given(value=st.integers(0, 2**63 - 1))
def test_seeding_sets_every_generator(value: int) -> None:
    seed_everything(value)
    first = draws()
    draws()
    reseed(value)
    assert draws() == first


def test_mixed_targets_are_the_shares_of_both_images() -> None:
    mixing = build_mixing(TrainSettings(cutmix=0, label_smoothing=0), num_classes=2)
    assert mixing is not None
    seed_everything(1)
    images_BCHW = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    mixed_BCHW, soft_BK = mixing(images_BCHW, torch.tensor([0, 1]))
    share = float(mixed_BCHW[0, 0, 0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(soft_BK, torch.tensor([[1 - share, share], [share, 1 - share]]))


def test_cutmix_shares_are_areas_and_labels_are_smoothed() -> None:
    mixing = build_mixing(TrainSettings(mixup=0, label_smoothing=0.2), num_classes=2)
    assert mixing is not None
    seed_everything(3)
    images_BCHW = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 32, 32)
    mixed_BCHW, soft_BK = mixing(images_BCHW, torch.tensor([0, 1]))
    area = float(mixed_BCHW[0, 0].mean())
    assert 0 < area < 1
    assert set(mixed_BCHW.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(soft_BK[0], torch.tensor([0.1 + 0.8 * (1 - area), 0.1 + 0.8 * area]))


def test_no_mixing_where_both_are_off() -> None:
    assert build_mixing(TrainSettings(mixup=0, cutmix=0), num_classes=2) is None
