"""How a room declares the settings it owns.

Settings are frozen, keyword-only standard dataclasses that live beside their owner. They import
nothing heavy, so that a study file is read and checked without loading torch. The string under a
field is its documentation: it says meaning and unit, and ends up in the JSON schema that editors
complete from.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

_SCALARS = frozenset({str, int, float, bool})

# Read by the schema library of the `study` room; a plain dict so that this room needs no library.
_VALIDATION = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass that refuses unknown keys when read from YAML."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    made.__pydantic_config__ = dict(_VALIDATION)  # type: ignore[attr-defined]
    return made


def as_plain(value: Any) -> Any:
    """Turn settings (nested, any depth) into dicts, lists and scalars that JSON can carry."""
    # What nearly all values are; whether something is a dataclass takes long to ask of each of a million.
    if value is None or type(value) in _SCALARS:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
