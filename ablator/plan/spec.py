"""The trial spec: everything that decides a trial's result, resolved, and its identity."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import ablator.backbones
import ablator.components
import ablator.data
import ablator.objectives
import ablator.tasks  # noqa: F401 (these rooms register what a spec can name)
from ablator.backbones.settings import ModelSettings
from ablator.contracts.settings import as_plain
from ablator.contracts.train import TrainSettings
from ablator.data.settings import AugmentSettings, DataSettings
from ablator.errors import SettingError, UnknownName, nearest
from ablator.registry import COMPONENTS, DATASETS, OBJECTIVES, TASKS, Registry
from ablator.study.validation import validate

SPEC_VERSION = 1
"""Part of every identity; a change of what a spec means makes it one more, and old results stale."""

SECTIONS: Mapping[str, type] = {
    "data": DataSettings,
    "augment": AugmentSettings,
    "model": ModelSettings,
    "train": TrainSettings,
}
"""Sections that every spec has."""


def optional_sections() -> dict[str, type]:
    """Sections that a spec may have, named as the registered components and objectives."""
    return {e.name: e.settings for registry in (COMPONENTS, OBJECTIVES) for e in registry if e.settings}


def section_settings(name: str) -> type | None:
    """The settings class of the section `name`; None where there is no such section."""
    return SECTIONS.get(name) or optional_sections().get(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One trial, every default filled in. Two equal specs on equal data give the same result."""

    task: str
    seed: int
    data: DataSettings
    augment: AugmentSettings
    model: ModelSettings
    train: TrainSettings
    components: dict[str, Any]
    """Name to settings of the components that are on, in order of registration."""
    objectives: dict[str, Any]
    """Name to settings of the objectives that are on, in order of registration."""

    def to_json(self) -> dict[str, Any]:
        """Flat plain JSON: task, seed and one mapping per section; what is off is not there."""
        sections = {name: getattr(self, name) for name in SECTIONS} | self.components | self.objectives
        return {"task": self.task, "seed": self.seed} | {k: as_plain(v) for k, v in sections.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "trial spec") -> TrialSpec:
        """The inverse of `to_json`; also fills in defaults. Raises SettingError."""
        return resolve(data, where)

    def identity(self, fingerprint: str) -> str:
        """64 hex digits: SHA-256 of the spec (seed included), the data's fingerprint and the version.

        Where the data lies (`data.root`) is not part of it, because the fingerprint says what it is.
        """
        spec = self.to_json()
        del spec["data"]["root"]
        content = {"version": SPEC_VERSION, "data": fingerprint, "spec": spec}
        return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The one JSON text of a plain value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def resolve(document: Mapping[str, Any], where: str) -> TrialSpec:
    """The spec that a document (see `study.overlay`) says, every section checked.

    Raises SettingError that starts with `where` and names the key's path, its value, the rule and
    the nearest alternative.
    """
    optional = optional_sections()
    known = ["task", "seed", *SECTIONS, *optional]
    for key in document:
        if key not in known:
            raise SettingError(
                f"{where}: unknown section {key!r}{nearest(key, known)}; known: {', '.join(known)}"
            )
    seed = document.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise SettingError(f"{where}: seed: must be a whole number from 0 on, not {seed!r}")
    required = {name: _section(cls, name, document.get(name, {}), where) for name, cls in SECTIONS.items()}
    on = {
        name: _section(cls, name, document[name], where)
        for name, cls in optional.items()
        if document.get(name) is not None
    }
    return TrialSpec(
        task=_registered(TASKS, document.get("task", "classification"), f"{where}: task"),
        seed=seed,
        **required,
        components={name: value for name, value in on.items() if name in COMPONENTS},
        objectives={name: value for name, value in on.items() if name in OBJECTIVES},
    )


def _registered(registry: Registry, name: Any, where: str) -> str:
    try:
        return registry.get(name if isinstance(name, str) else repr(name)).name
    except UnknownName as error:
        raise SettingError(f"{where}: {error}") from None


def _section(cls: type, name: str, value: Any, where: str) -> Any:
    try:
        section = _checked(cls, name, json.dumps(value))
    except (SettingError, TypeError, ValueError):
        # Once more outside the cache, for an error that says where.
        section = validate(cls, value, where, prefix=name)
    if isinstance(section, DataSettings):
        _registered(DATASETS, section.name, f"{where}: data.name")
    return section


@functools.lru_cache(maxsize=4096)
def _checked(cls: type, name: str, text: str) -> Any:
    """Sections repeat over the rows of a study: each different one is checked once."""
    return validate(cls, json.loads(text), "", prefix=name)
