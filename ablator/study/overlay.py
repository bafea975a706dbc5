"""Overlays: what a study sets, as dotted keys, and how they change a spec document.

A spec document is plain nested data: {"task": ..., "data": {...}, "moto": {...}, ...}. An overlay
maps dotted keys to values; a nested mapping is the same as its dotted keys. A whole section may be
`null` or `off` (the component is off) or `{}` or `on` (it is on with its defaults).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ablator.errors import SettingError

_MOST_KEYS = 1_000
_SWITCH: dict[str, dict[str, Any] | None] = {"on": {}, "off": None}


def flatten(overlay: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Dotted keys of an overlay, in order. Raises SettingError where two of its keys contradict."""
    flat: dict[str, Any] = {}
    for key, value in overlay.items():
        if not key or any(not part for part in key.split(".")):
            raise SettingError(
                f"{where}: {key!r} is not a key; a key is words with dots between, such as train.lr"
            )
        for dotted, leaf in _leaves(key, value):
            if len(flat) >= _MOST_KEYS:
                raise SettingError(f"{where}: sets more than {_MOST_KEYS:,} keys, and no spec has that many")
            other = next((k for k in flat if overlaps(k, dotted)), None)
            if other is not None and {} not in (flat[other], leaf):
                raise SettingError(f"{where}: says {other} = {flat[other]!r} and also {dotted} = {leaf!r}")
            flat[dotted] = leaf
    return flat


def _leaves(key: str, value: Any) -> Iterable[tuple[str, Any]]:
    if "." not in key and isinstance(value, str) and key != "task":
        value = _SWITCH.get(value, value)
    elif "." not in key and isinstance(value, bool):
        value = {} if value else None
    if not isinstance(value, dict) or not value:
        yield key, value
        return
    for name, below in value.items():
        yield from _leaves(f"{key}.{name}", below)


def overlaps(a: str, b: str) -> bool:
    """Whether one of two dotted keys is the other or lies above it."""
    return a == b or a.startswith(b + ".") or b.startswith(a + ".")


def apply(document: dict[str, Any], flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A new document with the dotted keys of `flat` (see `flatten`) set.

    Naming a key of a section that is off switches it on. Raises SettingError where a key leads
    through something that is not a mapping."""
    result = copy.deepcopy(document)
    for dotted, value in flat.items():
        *parents, last = dotted.split(".")
        place = result
        for depth, parent in enumerate(parents):
            if place.get(parent) is None:
                place[parent] = {}
            place = place[parent]
            if not isinstance(place, dict):
                above = ".".join(parents[: depth + 1])
                raise SettingError(f"{where}: {dotted} cannot be set, because {above} is {place!r}")
        if value == {} and isinstance(value, dict):
            if place.get(last) is None:
                place[last] = {}
        else:
            place[last] = copy.deepcopy(value)
    return result


def merge(below: Mapping[str, Any], above: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The document `below` with the document or overlay `above` laid over it."""
    return apply(dict(below), flatten(above, where), where)


def value_text(value: Any) -> str:
    """A value as it stands in a label or a `map`: text as it is, the rest as JSON (null, true, 0.1)."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
