"""Laws of fractions and splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.data import draws, subsets
from ablator.errors import DataError

labellings = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(lambda x: np.array(x, np.int64))
parts = st.floats(0.001, 1.0)
seeds = st.integers(-(2**40), 2**70)


@given(labellings, parts, parts, seeds)
def test_smaller_fractions_lie_inside_larger_ones(labels: np.ndarray, a: float, b: float, seed: int) -> None:
    small, large = (set(subsets.fraction(labels, part, seed).tolist()) for part in sorted((a, b)))
    assert small <= large


@given(labellings, parts, seeds)
def test_a_fraction_is_stratified_and_keeps_every_class(labels: np.ndarray, part: float, seed: int) -> None:
    chosen = subsets.fraction(labels, part, seed)
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.all(np.diff(chosen) > 0)
    for label in np.unique(labels):
        count, whole = np.sum(labels[chosen] == label), np.sum(labels == label)
        assert count >= 1
        assert abs(count - part * whole) <= 1


@given(st.integers(2, 80), st.floats(0.01, 0.9), seeds)
def test_a_holdout_divides_every_class(size: int, part: float, seed: int) -> None:
    labels = np.arange(size, dtype=np.int64) % max(1, size // 2)
    train, val = subsets.holdout(labels, part, seed, name="x")
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(size))
    assert set(labels[train].tolist()) == set(labels[val].tolist()) == set(labels.tolist())


def test_nothing_to_hold_out() -> None:
    with pytest.raises(DataError, match="single image"):
        subsets.holdout(np.arange(5), 0.5, 0, name="x")


def test_seeds_differ() -> None:
    labels = np.zeros(100, np.int64)
    assert subsets.fraction(labels, 0.5, 0).tolist() != subsets.fraction(labels, 0.5, 1).tolist()


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(0, 49))
def test_words_of_a_position_do_not_depend_on_the_range(first: int, count: int, at: int) -> None:
    at %= count
    whole = draws.words(first, count, "augmentation", 7, 3)
    alone = draws.words(first + at, 1, "augmentation", 7, 3)
    assert np.array_equal(whole[at], alone[0])


def test_purposes_seeds_and_epochs_have_streams_of_their_own() -> None:
    keys = [
        ("order", 0, 0),
        ("augmentation", 0, 0),
        ("order", 1, 0),
        ("order", 0, 1),
        ("order", 2**32, 0),
        ("order", -1, 0),
    ]
    firsts = {int(draws.words(0, 1, purpose, *rest)[0, 0]) for purpose, *rest in keys}  # type: ignore[arg-type]
    assert len(firsts) == len(keys)


def test_the_stream_never_changes() -> None:
    """Identities of finished trials promise these numbers: a change here is a change of every result."""
    assert draws.words(5, 1, "augmentation", 1, 2)[0].tolist() == [
        7205560419674924408,
        3103538655429733239,
        1543283059570262780,
        5829010500030123389,
    ]
    assert draws.permutation(8, "order", 0, 0).tolist() == [0, 5, 7, 4, 2, 6, 3, 1]
