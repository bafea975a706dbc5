"""Designs: how one block of arms becomes rows of the table."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from ablator.errors import SettingError, nearest
from ablator.plan.parts import variants
from ablator.study.overlay import flatten, overlaps, value_text
from ablator.study.schema import Arms
from ablator.study.spaces import MOST_POINTS, Dimension, SearchSpace, SpaceDocument, too_many_text

_COMPOSED = ("loco", "add_one", "pairwise")
# What designs read besides label, design and set.
_OWN: dict[str, tuple[str, ...]] = {
    "points": ("list",),
    "when": ("grid",),
    "components": _COMPOSED,
    "full": ("loco", "add_one"),
    "cumulative": ("add_one",),
    "order": ("pairwise",),
    **dict.fromkeys(("sampler", "sampler_seed", "samples", "space"), ("search",)),
}
_ABSENT = "–"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table, as declared."""

    label: str
    changes: dict[str, Any]
    """Dotted key to value: all that this row changes in the row that it is compared with."""
    block: Arms
    """The block of the study file that it comes from."""
    compared: str | None = None
    """Label of the row that it is compared with, where that is not the one that its block starts from."""
    build: dict[str, Any] | None = None
    """What makes it of the row that its block starts from, where that is not `changes`."""
    has: tuple[str, ...] = ()
    """Components that it has, of a design over components."""
    left_out: tuple[str, ...] = ()
    """Keys that the row that it is compared with sets and this one does not; `comparing.stated` says in
    `changes` what they come to."""


def rows(block: Arms, where: str) -> list[Row]:
    """The rows of a block, in order. Raises SettingError that starts with `where`."""
    _check_fields(block, where)
    if block.when:
        made = _nested(block, where)
    elif block.design in _COMPOSED:
        made = _composed(block, where)
    else:
        points = _points(block, flatten(block.set, f"{where}: set"), where)
        made = [Row(label=label(block.label, point, where), changes=point, block=block) for point in points]
    # A list of one value is a grid that somebody made small.
    if block.design == "grid" and not _has_list(block.set):
        raise SettingError(
            f"{where}: design grid makes one row of this `set`, which is no grid; give a key several values "
            "in a list, or use design one"
        )
    for row in made:
        if not (row.changes or row.left_out) and block.design != "search" and block.base is None:
            raise SettingError(
                f"{where}: {row.label!r} sets nothing; an arm differs from the baseline by its `set`"
            )
    return made


def _points(block: Arms, flat: dict[str, Any], where: str) -> list[dict[str, Any]]:
    match block.design:
        case "grid":
            if math.prod(len(v) for v in flat.values() if isinstance(v, list)) > MOST_POINTS:
                raise SettingError(f"{where}: {too_many_text(MOST_POINTS)}")
            return grid(flat)
        case "zip":
            return zipped(flat, where)
        case "list":
            return listed(flat, block.points, where)
    return [flat]


def _composed(block: Arms, where: str) -> list[Row]:
    """Rows over components; those that are compared with a row of the block carry its label."""
    made: list[Row] = []
    for variant in variants(block, flatten(block.set, f"{where}: set"), where):
        partner = None if variant.against is None else made[variant.against].label
        changes = variant.changes
        if variant.left_out:
            changes = {}
        elif variant.added:
            changes = {key: changes[key] for key in variant.added}
        words = {"component": variant.told, "components": " + ".join(variant.has)}
        text = block.full if variant.told is None else label(block.label, words | variant.changes, where)
        made.append(
            Row(
                label=text,
                changes=changes,
                block=block,
                compared=partner,
                build=variant.changes,
                has=variant.has,
                left_out=variant.left_out,
            )
        )
    return made


def _has_list(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_list(item) for item in value.values())
    return isinstance(value, list)


def _nested(block: Arms, where: str) -> list[Row]:
    """A grid whose keys exist only under conditions, as dimensions of a search do."""
    flat: dict[str, Any] = {}
    for key, value in block.set.items():
        # One by one, because a section's switch may stand beside its keys here.
        flat |= flatten({key: value}, f"{where}: set")
    for key in block.when:
        if key not in flat:
            raise SettingError(
                f"{where}: when: {key!r} is not in `set`{nearest(key, flat)}; it has: {', '.join(flat)}"
            )
    dimensions = {
        key: Dimension(
            kind="categorical",
            choices=tuple(value) if isinstance(value, (list, tuple)) else (value,),
            when=block.when.get(key, {}),
        )
        for key, value in flat.items()
    }
    space = SearchSpace(SpaceDocument(dimensions=dimensions), f"{where}: when")
    order = {key: position for position, key in enumerate(flat)}
    points = [dict(sorted(point.items(), key=lambda item: order[item[0]])) for point in space.points()]
    return [
        Row(
            label=label(block.label, {key: point.get(key, _ABSENT) for key in flat}, where),
            changes=flatten(point, f"{where}: set"),
            block=block,
        )
        for point in points
    ]


def grid(flat: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the lists' values, the last key varying fastest; scalars are constants."""
    choices = [value if isinstance(value, list) else [value] for value in flat.values()]
    return [dict(zip(flat, point, strict=True)) for point in itertools.product(*choices)]


def zipped(flat: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The lists' first values, their second values, and so on; scalars are constants."""
    lengths = {key: len(value) for key, value in flat.items() if isinstance(value, list)}
    if not lengths:
        raise SettingError(f"{where}: design zip needs at least one list of values in `set`")
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} has {n}" for key, n in lengths.items())
        raise SettingError(
            f"{where}: design zip needs lists of the same length; {said} (design grid combines all)"
        )
    return [
        {key: value[i] if isinstance(value, list) else value for key, value in flat.items()}
        for i in range(next(iter(lengths.values())))
    ]


def listed(flat: Mapping[str, Any], points: tuple[dict[str, Any], ...], where: str) -> list[dict[str, Any]]:
    """Each point on top of the constants."""
    if not points:
        raise SettingError(f"{where}: design list needs `points`, a list of mappings from key to value")
    made = []
    for i, point in enumerate(points):
        own = flatten(point, f"{where}: points[{i}]")
        made.append({k: v for k, v in flat.items() if not any(overlaps(k, key) for key in own)} | own)
    return made


def label(template: str, changes: Mapping[str, Any], where: str) -> str:
    """The template with {key} replaced by the key's value; the key's last word is enough."""

    def value(match: re.Match[str]) -> str:
        name = match[1].strip()
        found = [key for key in changes if name in (key, key.rpartition(".")[2])]
        if name in found:
            found = [name]
        if len(found) != 1:
            problem = (
                f"means {' and '.join(found)}; write one of them in full" if found else "is not set here"
            )
            hint = "" if found else nearest(name, [*changes, *(k.rpartition(".")[2] for k in changes)])
            known = ", ".join(changes) or "nothing"
            raise SettingError(f"{where}: label {template!r}: {{{name}}} {problem}{hint}; set here: {known}")
        return value_text(changes[found[0]])

    return re.sub(r"\{([^{}]*)\}", value, template)


def _check_fields(block: Arms, where: str) -> None:
    """A field of another design would be passed over in silence, so it is an error."""
    unset = Arms(label=block.label)
    for name, designs in _OWN.items():
        if block.design not in designs and getattr(block, name) != getattr(unset, name):
            raise SettingError(
                f"{where}: {name} belongs to design {' or '.join(designs)}, not to {block.design}"
            )
    if block.design in _COMPOSED and block.baseline:
        raise SettingError(f"{where}: design {block.design} compares its rows; it makes no further baselines")
    if block.base is not None and not block.baseline:
        raise SettingError(f"{where}: base is for a further baseline; say `baseline: true` as well")
    if block.baseline and block.against is not None:
        raise SettingError(f"{where}: a baseline is compared with no row; leave out baseline or against")
    if block.design == "search" and (block.baseline or block.against is not None):
        raise SettingError(
            f"{where}: a search starts from the study's baseline; it has no baseline or against"
        )
    if block.design == "search" and block.space is None:
        raise SettingError(f"{where}: design search needs `space`, a file of search_spaces/ or dimensions")
