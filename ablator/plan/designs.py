"""Designs: how one block of arms becomes rows of the table."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

from ablator.errors import SettingError, nearest
from ablator.study.overlay import flatten, overlaps, value_text
from ablator.study.schema import Arms

# What a design reads besides label, design and set.
_OWN = {"list": {"points"}, "search": {"space", "samples", "sampler", "sampler_seed"}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table, as declared."""

    label: str
    changes: dict[str, Any]
    """Dotted key to value: all that this row changes in the baseline."""
    block: Arms
    """The block of the study file that it comes from."""


def rows(block: Arms, where: str) -> list[Row]:
    """The rows of a block, in order. Raises SettingError that starts with `where`."""
    _check_fields(block, where)
    flat = flatten(block.set, f"{where}: set")
    match block.design:
        case "grid":
            points = grid(flat)
        case "zip":
            points = zipped(flat, where)
        case "list":
            points = listed(flat, block.points, where)
        case _:
            points = [flat]
    made = [Row(label=label(block.label, point, where), changes=point, block=block) for point in points]
    for row in made:
        if not row.changes and block.design != "search" and block.base is None:
            raise SettingError(
                f"{where}: {row.label!r} sets nothing; an arm differs from the baseline by its `set`"
            )
    return made


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
    defaults = {f.name: f.default for f in dataclasses.fields(Arms)}
    for design, names in _OWN.items():
        for name in sorted(names):
            if block.design != design and getattr(block, name) != defaults[name]:
                raise SettingError(f"{where}: {name} belongs to design {design}, not to {block.design}")
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
