"""Searches: arms whose trials are drawn while the study runs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from ablator.contracts.settings import as_plain
from ablator.errors import SettingError, nearest
from ablator.plan.scale import Scale
from ablator.plan.spec import SPEC_VERSION, canonical, optional_sections, resolve
from ablator.plan.trial import Fingerprint, Trial
from ablator.study.overlay import apply, flatten, overlaps
from ablator.study.schema import Sampler, Stop
from ablator.study.spaces import Dimension, SearchSpace


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """One search: a space, how many points are drawn by which sampler, and how a point is a trial."""

    arm: int
    """Index of the row that it fills."""
    label: str
    space: SearchSpace
    samples: int
    """Points that are drawn, duplicates included."""
    sampler: Sampler
    sampler_seed: int
    seeds: tuple[int, ...]
    """Every point is trained with each of these."""
    stop: Stop | None
    document: dict[str, Any]
    """The spec document that points are laid over, before the profile's map."""
    scale: Scale
    fingerprint: Fingerprint = dataclasses.field(repr=False, compare=False)
    where: str
    """For errors: the study's file and the row's label."""

    @property
    def id(self) -> str:
        """16 hex digits of all that decides which points are drawn and what they come to; the number
        of samples is not part of it, so that a search can be continued."""
        scale = dataclasses.asdict(self.scale)
        content = {
            "version": SPEC_VERSION,
            "dimensions": as_plain(self.space.document.dimensions),
            "sampler": [self.sampler, self.sampler_seed],
            "seeds": self.seeds,
            "stop": as_plain(self.stop),
            "document": self.document,
            "scale": {key: scale[key] for key in ("set", "map", "overrides")},
            "switched_on": sorted(self.scale.switched_on),
        }
        return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]

    def trial(self, point: Mapping[str, Any], seed: int) -> Trial:
        """The trial at a point that `space.sample` gave. Raises SettingError for a key it does not have."""
        for key in point:
            if key not in self.space.dimensions:
                known = self.space.dimensions
                raise SettingError(
                    f"{self.where}: the space has no dimension {key!r}{nearest(key, known)}; "
                    f"it has: {', '.join(known)}"
                )
        document = apply(self.document, flatten(point, self.where), self.where)
        spec = resolve({**self.scale.finish(document, self.where), "seed": seed}, self.where)
        return Trial(
            identity=spec.identity(self.fingerprint(spec.data)),
            arm=self.arm,
            label=self.label,
            seed=seed,
            spec=spec,
            changes=self.scale.changes(point),
        )


def check_space(space: SearchSpace, constants: Iterable[str], document: dict[str, Any]) -> None:
    """Raise SettingError where a dimension names no key of the spec, draws a value that the key does
    not allow, or varies what the arm's `set` holds fixed."""
    for key, dimension in space.dimensions.items():
        where = f"{space.where}: {key}"
        fixed = next((k for k in constants if overlaps(k, key)), None)
        if fixed:
            raise SettingError(
                f"{where}: the arm's `set` holds {fixed} fixed; a key is searched or set, not both"
            )
        if key in optional_sections() and any(
            choice not in ("on", "off") for choice in dimension.choices or ("",)
        ):
            raise SettingError(f"{where}: a section's switch is categorical with choices [on, off]")
        section = key.partition(".")[0]
        if section in space.dimensions and section not in _ancestors(space, key) | {key}:
            raise SettingError(
                f"{where}: needs `when: {{{section}: on}}`, because {section} is a switch of this space"
            )
        for value in _extremes(dimension):
            overlay = flatten({key: value}, where)
            resolve(apply(document, overlay, where), space.where)


def _ancestors(space: SearchSpace, key: str) -> set[str]:
    """The dimensions that `key` depends on, directly or not."""
    direct = space.dimensions[key].when
    return set(direct).union(*(_ancestors(space, name) for name in direct))


def _extremes(dimension: Dimension) -> Iterable[Any]:
    if dimension.kind == "categorical":
        return dimension.choices
    assert dimension.low is not None
    assert dimension.high is not None
    make = int if dimension.kind == "int" else float
    return make(dimension.low), make(dimension.high)
