"""Where a backbone's starting weights lie, and what they are. Imports no torch: a plan asks for a digest,
which stands for the file in a trial's identity. `trial:IDENTITY` is what that trial of ours trained: it is
its own digest, and whoever has the store loads it."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from ablator.backbones.settings import ModelSettings
from ablator.contracts.reading import check_regular
from ablator.errors import WeightsError

_TRIAL = "trial:"


def of_trial(identity: str) -> str:
    """The `model.weights` of who starts from the trial with this identity."""
    return _TRIAL + identity


def trial_identity(weights: str | None) -> str | None:
    """The identity in a `model.weights` that `of_trial` made; None for a file or no weights. Raises
    WeightsError for what begins like one and is none."""
    if weights is None or not weights.startswith(_TRIAL):
        return None
    identity = weights.removeprefix(_TRIAL)
    if not re.fullmatch(r"[0-9a-f]{64}", identity):
        raise WeightsError(
            f"model.weights {weights!r}: a trial's identity is 64 hexadecimal digits; say study:FILE#ROW for "
            "the trial of another study, or the path of a checkpoint file"
        )
    return identity


def find_weights(weights: str) -> Path:
    """The file of `model.weights`, which is there and can be read; raises WeightsError."""
    path = Path(weights).expanduser()
    try:
        check_regular(path)
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise WeightsError(
            f"model.weights {weights!r} cannot be read ({error.strerror or error}: {path.absolute()}); it is "
            "a checkpoint file, relative to the folder that ablator runs in; null starts from random weights"
        ) from error
    if empty:
        raise WeightsError(f"model.weights {weights!r} is an empty file; fetch or copy it again")
    return path


def weights_digest(settings: ModelSettings) -> str | None:
    """SHA-256 of the file's content in hex, None without starting weights, and a trial's identity as it
    stands there. A file of the same path, size and time is read once per process. Raises WeightsError."""
    if settings.weights is None or trial_identity(settings.weights) is not None:
        return settings.weights
    path = find_weights(settings.weights).resolve()
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"model.weights {path} cannot be read: {error}") from error
