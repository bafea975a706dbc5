"""Searches: arms whose trials are drawn while the study runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ablator.contracts.settings import as_plain
from ablator.errors import SettingError, nearest
from ablator.plan.rows import Rows
from ablator.plan.scale import Scale, current
from ablator.plan.spec import SPEC_VERSION, canonical, optional_sections, resolve
from ablator.plan.trial import Start, Trial
from ablator.plan.upstream import TrialMaker
from ablator.study.overlay import apply, flatten, overlaps
from ablator.study.references import reference
from ablator.study.schema import Sampler, Stop
from ablator.study.spaces import Dimension, SearchSpace

_WEIGHTS = "model.weights"


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
    rows: Rows = dataclasses.field(repr=False, compare=False)
    """All rows of its study."""
    maker: TrialMaker = dataclasses.field(repr=False, compare=False)
    where: str
    """For errors: the study's file and the row's label."""
    plugins: tuple[str, ...] = ()
    """Origins of the study's plug-ins: points that other code was trained with teach the sampler nothing."""

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
        if self.plugins:
            content["plugins"] = self.plugins
        # What a reference comes to; a search without one is what it was before there were any.
        content |= {"starts": [start.trial.identity for start in self.starts]} if self.starts else {}
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
        return self.maker.trial(spec, rows=self.rows, arm=self.arm, changes=self.scale.changes(point))

    @functools.cached_property
    def starts(self) -> tuple[Start, ...]:
        """What points of this search start from, whichever are drawn."""
        said = [current(self.document, _WEIGHTS), self.scale.overrides.get(_WEIGHTS)]
        said += self.space.dimensions[_WEIGHTS].choices if _WEIGHTS in self.space.dimensions else ()
        if all(reference(one) is None for one in said):
            return ()
        trials = [self.trial(point, seed) for point in self.covering() for seed in self.seeds]
        found = {trial.start.trial.identity: trial.start for trial in trials if trial.start is not None}
        return tuple(found.values())

    def point_of(self, spec: Mapping[str, Any]) -> dict[str, Any] | None:
        """The point of the space whose trial has this spec in the dimensions of the space; None where there
        is none. Whether the rest agrees as well, the trial's identity tells."""
        try:
            return self.space.sample(_Inverse(spec, self.scale))
        except LookupError:
            return None

    def covering(self) -> list[dict[str, Any]]:
        """Points in which every value of every categorical dimension, and both ends of every range, occur
        at least once: what is wrong with one of them is wrong before anything is trained."""
        points = []
        for key, dimension in self.space.dimensions.items():
            for value in _extremes(dimension):
                wanted = {**_needed(self.space, key), key: value}
                point = self.space.sample(_Preferring(wanted))
                if point not in points:
                    points.append(point)
        return points


class _Inverse:
    """`study.spaces.Ask` that answers with the values of a trained spec."""

    def __init__(self, spec: Mapping[str, Any], scale: Scale) -> None:
        self._spec = spec
        self._scale = scale

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The choice that the spec has. Raises LookupError."""
        if name in optional_sections():
            return "on" if name in self._spec else "off"
        value = self._value(name)
        for choice in choices:
            if self._scale.changes({name: choice}).get(name) == value:
                return choice
        raise LookupError(name)

    def integer(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """The spec's value. Raises LookupError where it is not in the range."""
        value = self._value(name)
        if not isinstance(value, int) or not low <= value <= high or (value - low) % step:
            raise LookupError(name)
        return value

    def real(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """The spec's value. Raises LookupError where it is not in the range."""
        value = self._value(name)
        if not isinstance(value, (int, float)) or not low <= value <= high:
            raise LookupError(name)
        return float(value)

    def _value(self, name: str) -> Any:
        found: Any = self._spec
        for part in name.split("."):
            if not isinstance(found, Mapping):
                raise LookupError(name)
            found = found[part]
        return found


class _Preferring:
    """`study.spaces.Ask` that answers with what is wanted, else with the first or lowest value."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self._wanted = wanted

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        return self._wanted.get(name, choices[0])

    def integer(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number from low to high."""
        return int(self._wanted.get(name, low))

    def real(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number from low to high."""
        return float(self._wanted.get(name, low))


def _needed(space: SearchSpace, key: str) -> dict[str, Any]:
    """Values of other dimensions under which `key` exists."""
    found: dict[str, Any] = {}
    for name, allowed in space.dimensions[key].when.items():
        found |= _needed(space, name)
        found[name] = allowed[0] if isinstance(allowed, (list, tuple)) else allowed
    return found


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
