"""References to other studies: `model.weights: "study:FILE#ROW"` is the trained trial of that row.

FILE is relative to the folder of the file that says it; without ROW it is the row of the same label.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

_PREFIX = "study:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """A row of another study."""

    file: str
    label: str | None
    """None: the label of the row that refers."""

    def __str__(self) -> str:
        return f"{_PREFIX}{self.file}" + ("" if self.label is None else f"#{self.label}")


def reference(text: Any) -> Reference | None:
    """What `text` refers to; None where it is no reference."""
    if not isinstance(text, str) or not text.startswith(_PREFIX):
        return None
    file, mark, label = text.removeprefix(_PREFIX).partition("#")
    return Reference(file=file.strip(), label=label.strip() if mark else None)


def moved(value: Any, old: Path, new: Path) -> Any:
    """`value` (settings, nested in any way) with its references, relative to the folder `old`, relative to
    `new` instead."""
    if isinstance(value, dict):
        return {key: moved(item, old, new) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, old, new) for item in value)
    found = reference(value)
    if found is None or Path(found.file).is_absolute():
        return value
    return str(dataclasses.replace(found, file=os.path.relpath(old / found.file, new)))
