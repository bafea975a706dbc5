"""Random numbers that depend on a key and a position and on nothing else (Philox, counter-based).

Salmon et al., *Parallel Random Numbers: As Easy as 1, 2, 3*, SC 2011. Only numpy's bit generators are
used, never its `Generator`: their streams are promised not to change between versions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["order", "augmentation", "fraction", "holdout"]

_PURPOSES: dict[Purpose, int] = {"order": 1, "augmentation": 2, "fraction": 3, "holdout": 4}
_WORD = 2**64


def _key(purpose: Purpose, *keys: int) -> NDArray[np.uint64]:
    # Every key takes two 32-bit words, so that (1, 2**32) and (1 + 2**32, 0)-like keys stay apart.
    entropy = [_PURPOSES[purpose]]
    for key in keys:
        entropy += [key % _WORD & 0xFFFFFFFF, key % _WORD >> 32]
    return np.random.SeedSequence(entropy).generate_state(2, np.uint64).astype(np.uint64)


def permutation(n: int, purpose: Purpose, *keys: int) -> NDArray[np.int64]:
    """A permutation of range(n), drawn for `purpose` and `keys` (any integers)."""
    words = np.random.Philox(key=_key(purpose, *keys)).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)


def words(first: int, count: int, purpose: Purpose, *keys: int) -> NDArray[np.uint64]:
    """Four 64-bit words for each of the positions `first` .. `first + count - 1`, as (count, 4).

    The words of a position are the same whatever range it is asked for in.
    """
    raw: NDArray[np.uint64] = np.random.Philox(key=_key(purpose, *keys), counter=first).random_raw(4 * count)
    return raw.reshape(count, 4)


def uniform(words_N4: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Words to numbers in [0, 1), from their upper 53 bits."""
    return (words_N4 >> np.uint64(11)).astype(np.float64) * 2.0**-53
