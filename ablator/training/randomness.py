"""Stateless randomness: a draw follows from words such as (seed, epoch, step), never from what ran before."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *words: str | int) -> int:
    """A 63-bit seed that follows from `seed` and `words` alone: the same on every machine and in every
    process, and unrelated for different words."""
    digest = hashlib.blake2b(repr((seed, *words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(value: int) -> None:
    """Seed the global generators of random, numpy and torch (CPU, and CUDA even before it is initialised)."""
    torch.manual_seed(value)
    reseed(value)


def reseed(value: int) -> None:
    """`seed_everything` for use inside the step: it leaves an uninitialised CUDA alone, because
    `torch.manual_seed` then formats a stack trace (0.1 ms a call; this takes 0.01 ms)."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(value)
