"""What figures of trained models are drawn from: numbers as JSON, and maps beside them as one npz file.

Shape legend: K shown images, H W their sides in pixels, M shown channels, h w the sides of a map.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablator.contracts.secrets import scrubbed_plain
from ablator.errors import StoreError
from ablator.results.durable import explained, make_directory, replace

_NUMBERS, _MAPS = "figures.json", "figures.npz"
_REMEDY = "run `ablator figures STUDY` again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of one MoTo of one model over the validation set."""

    place: str
    """The module that it sits behind."""
    shares: tuple[float, ...]
    """By entity: part of the positions where it has the largest share, 0 to 1."""
    largest: float
    """Mean over positions of the largest share; 1/n where the layout says nothing, 1 where it is hard."""
    brightness: float
    """Part of the variance of the positions' brightness that lies between entities instead of within them,
    0 to 1."""
    untrained: float
    """The same of the fresh model that training began from: any linear map of patches follows brightness, so
    that only what differs from this was learned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialFigures:
    """What is measured on one trial's trained model; `analysis.measures` defines each."""

    identity: str
    label: str
    seed: int
    channels: int
    """Maps of the tokenizer's output."""
    dead: int
    saturated: int
    diversity: float
    """1 − mean pairwise cosine of an image's tokens."""
    effective_rank: float
    residual: float
    """‖X − 1x̄ᵀ‖ / ‖X‖."""
    heldout: float | None
    """Mean squared error on validation images of a decoder trained on the frozen tokens; None where it was
    not asked for."""
    layouts: tuple[Layout, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FigureData:
    """All of one study at one scale."""

    study: str
    profile: str
    trials: tuple[TrialFigures, ...]
    skipped: Mapping[str, str]
    """Arm, or arm and seed, to why it is not in the figures."""
    validation: int
    """Images that everything was measured on."""
    steps: int
    """Steps that each decoder was trained for; 0 where none was."""
    scale: int
    """Side of the decoders' images."""
    maps: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    """`images` (K,H,W,3) uint8; `features/IDENTITY` (K,M,h,w) float16; `layout/IDENTITY/PLACE` (K,h,w), the
    entity of the largest share."""


def save(data: FigureData, folder: Path) -> None:
    """Write both files into `folder`, the numbers last. Raises StoreError."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(data.maps)
    np.savez_compressed(buffer, **arrays)
    numbers = dataclasses.asdict(dataclasses.replace(data, maps={}))
    numbers["maps"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    with explained("write", folder):
        make_directory(folder)
        replace(folder / _MAPS, buffer.getvalue())
        numbers = scrubbed_plain(numbers)
        replace(folder / _NUMBERS, json.dumps(numbers, indent=1, ensure_ascii=False).encode())


def load(folder: Path) -> FigureData | None:
    """What `save` wrote; None where there is nothing. Raises StoreError where the files are damaged or do not
    belong together."""
    if not (folder / _NUMBERS).exists():
        return None
    try:
        numbers = json.loads((folder / _NUMBERS).read_bytes())
        maps = (folder / _MAPS).read_bytes()
        if hashlib.sha256(maps).hexdigest() != numbers.pop("maps"):
            raise ValueError(f"{_MAPS} is not the one that {_NUMBERS} was written with")
        with np.load(io.BytesIO(maps), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        trials = tuple(_trial(plain) for plain in numbers.pop("trials"))
        return FigureData(**numbers, trials=trials, maps=arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the figures' data in {folder} cannot be read ({error}); {_REMEDY}") from error


def _trial(plain: dict[str, Any]) -> TrialFigures:
    layouts = tuple(
        Layout(**{**layout, "shares": tuple(layout["shares"])}) for layout in plain.pop("layouts")
    )
    return TrialFigures(**plain, layouts=layouts)
