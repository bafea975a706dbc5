"""Designs over the components of one model: leave one out, add one in, pairs.

A component is a part of a block's `set`: one section, or the keys that `components` gathers under a name.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

from ablator.errors import SettingError, nearest
from ablator.study.schema import Arms, Keys
from ablator.study.spaces import MOST_POINTS, too_many_text

Components = Mapping[str, tuple[str, ...]]
"""Name of a component to its keys of the block's flat `set`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of such a design."""

    has: tuple[str, ...]
    """Names of the components that are in it."""
    told: str | None
    """What stands for {component} in its label; None for the row that has the label `full`."""
    changes: dict[str, Any]
    """Dotted key to value: what makes it of the row that the block starts from."""
    against: int | None = None
    """Index of the variant that it is compared with; None: the row that the block starts from."""
    added: tuple[str, ...] = ()
    """Keys that it has more than that variant."""
    left_out: tuple[str, ...] = ()
    """Keys that it has not, and that variant has."""


def variants(block: Arms, flat: Mapping[str, Any], where: str) -> list[Variant]:
    """The rows of a block of design loco, add_one or pairwise. Raises SettingError that starts with
    `where`."""
    parts = components(block, flat, where)
    if block.design == "loco":
        return _left_out(parts, flat, where)
    _check_apart(block, parts, flat, where)
    if block.design == "pairwise":
        return _combined(block, parts, flat, where)
    return _built_up(parts, flat) if block.cumulative else _added(parts, flat)


def components(block: Arms, flat: Mapping[str, Any], where: str) -> Components:
    """The block's components in order: those that it names, else its sections. Raises SettingError for a
    component without a key in `set`."""
    said = block.components or tuple(dict.fromkeys(key.partition(".")[0] for key in flat))
    groups = said.items() if isinstance(said, Mapping) else [(_name(keys), keys) for keys in said]
    found: dict[str, tuple[str, ...]] = {}
    for name, keys in groups:
        if name in found:
            raise SettingError(f"{where}: components: {name!r} is there twice")
        found[name] = tuple(
            own
            for own in flat
            if any(own == key or own.startswith(f"{key}.") for key in _keys_of(keys, flat, where))
        )
        same = next((other for other, own in found.items() if other != name and own == found[name]), None)
        if same is not None:
            raise SettingError(f"{where}: components: {same!r} and {name!r} are the same keys of `set`")
    return found


def _keys_of(keys: Keys, flat: Mapping[str, Any], where: str) -> tuple[str, ...]:
    wanted = (keys,) if isinstance(keys, str) else keys
    known = [*dict.fromkeys(key.partition(".")[0] for key in flat), *flat]
    for key in wanted:
        if not any(own == key or own.startswith(f"{key}.") for own in flat):
            raise SettingError(
                f"{where}: components: {key!r} is not in `set`{nearest(key, known)}; it has: "
                f"{', '.join(flat)}"
            )
    if not wanted:
        raise SettingError(
            f"{where}: components: a component needs a key of `set`; it has: {', '.join(flat)}"
        )
    return wanted


def _name(keys: Keys) -> str:
    return keys if isinstance(keys, str) else " + ".join(keys)


def _check_apart(block: Arms, parts: Components, flat: Mapping[str, Any], where: str) -> None:
    """Rows that add components start from a row that has none of `set`, and each key is of one component."""
    if len(parts) < 2:
        raise SettingError(
            f"{where}: design {block.design} needs two components or more, and {_count(parts)}; a single "
            "one is a row of design one, and the keys of a section can be named one by one under `components`"
        )
    for key in flat:
        owners = [name for name, keys in parts.items() if key in keys]
        if not owners:
            raise SettingError(
                f"{where}: {key} is in no component, so that it would change with each of them; name it in "
                f"`components`, or set it in the baseline; components: {', '.join(parts)}"
            )
        if len(owners) > 1:
            raise SettingError(
                f"{where}: components: {key} is in {' and in '.join(map(repr, owners))}; with design "
                f"{block.design} a key is of one component"
            )


def _count(parts: Components) -> str:
    return f"`set` has one, {next(iter(parts))!r}" if parts else "`set` is empty"


def _left_out(parts: Components, flat: Mapping[str, Any], where: str) -> list[Variant]:
    for name, keys in parts.items():
        if len(keys) == len(flat):
            raise SettingError(
                f"{where}: design loco leaves out one component of several, and {name!r} is all of `set`, so "
                "that what is left is the baseline; use design one, or name keys of `set` one by one under "
                "`components`"
            )
    if not parts:
        raise SettingError(f"{where}: design loco needs two components or more in `set`, which is empty")
    full = Variant(has=tuple(parts), told=None, changes=dict(flat))
    return [full] + [
        Variant(
            has=tuple(other for other in parts if other != name),
            told=name,
            changes={key: value for key, value in flat.items() if key not in keys},
            against=0,
            left_out=keys,
        )
        for name, keys in parts.items()
    ]


def _added(parts: Components, flat: Mapping[str, Any]) -> list[Variant]:
    alone = [_of(parts, flat, (name,)) for name in parts]
    return [*alone, dataclasses.replace(_of(parts, flat, tuple(parts)), told=None)]


def _built_up(parts: Components, flat: Mapping[str, Any]) -> list[Variant]:
    names = tuple(parts)
    made = []
    for index, name in enumerate(names):
        row = _of(parts, flat, names[: index + 1])
        last = index == len(names) - 1
        made.append(
            dataclasses.replace(
                row, told=None if last else name, against=index - 1 if index else None, added=parts[name]
            )
        )
    return made


def _combined(block: Arms, parts: Components, flat: Mapping[str, Any], where: str) -> list[Variant]:
    if block.order > len(parts):
        raise SettingError(
            f"{where}: order {block.order} is more than the {len(parts)} components: {', '.join(parts)}"
        )
    sizes = range(1, block.order + 1)
    if sum(math.comb(len(parts), size) for size in sizes) > MOST_POINTS:
        raise SettingError(f"{where}: order {block.order}: {too_many_text(MOST_POINTS)}")
    return [_of(parts, flat, names) for size in sizes for names in itertools.combinations(parts, size)]


def _of(parts: Components, flat: Mapping[str, Any], names: tuple[str, ...]) -> Variant:
    """The row that has the components `names`."""
    keys = {key for name in names for key in parts[name]}
    return Variant(
        has=names, told=" + ".join(names), changes={key: value for key, value in flat.items() if key in keys}
    )
