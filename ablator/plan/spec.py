"""The trial spec: everything that decides a trial's result, resolved, and its identity."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
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
from ablator.registry import COMPONENTS, DATASETS, FAMILIES, OBJECTIVES, TASKS, Entry, Registry
from ablator.study.validation import validate
from ablator.tasks.settings import MeasureSettings, ProbeSettings

SPEC_VERSION = 1
"""Part of every identity; a change of what a spec means makes it one more, and old results stale."""

SECTIONS: Mapping[str, type] = {
    "data": DataSettings,
    "augment": AugmentSettings,
    "model": ModelSettings,
    "train": TrainSettings,
}
"""Sections that every spec of a task that trains has."""
_TASK = "classification"
"""What is trained where nothing says so."""
_LATER: Mapping[str, tuple[str, ...]] = {"model": ("weights",), "train": ("cooldown_epochs", "nesterov")}
"""Section to the fields that came after the first records. At its default such a field is left out of a
spec's JSON, so that specs from before there was one keep their identities."""


def optional_sections() -> dict[str, type]:
    """Sections that a spec may have: those of the registered components, objectives and tasks."""
    registries = (COMPONENTS, OBJECTIVES, TASKS)
    return {e.section_name: e.settings for registry in registries for e in registry if e.settings}


def has_section(document: Mapping[str, Any], name: str) -> bool:
    """Whether a spec of `document` has the section `name`: always, where its task needs it or owns it; else
    where the document switches it on."""
    if name in SECTIONS:
        return trains(document)
    return _task_of(name) == document.get("task", _TASK) or document.get(name) is not None


def trains(document: Mapping[str, Any]) -> bool:
    """Whether trials of `document` train a model; its task is checked elsewhere."""
    task = document.get("task", _TASK)
    return not isinstance(task, str) or task not in TASKS or TASKS.get(task).trains


def _task_of(section: str) -> str | None:
    """The task that the section belongs to, if any."""
    return next((e.name for e in TASKS if e.settings and e.section_name == section), None)


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
    task_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Section's name to settings of the task, where it has any."""
    plugins: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of what a plug-in brings: section or key that names it, to the origin of its code (`Entry.origin`)."""

    @property
    def probe(self) -> ProbeSettings | None:
        """The section `probe`, where the task has it."""
        return self.task_settings.get("probe")

    @property
    def measure(self) -> MeasureSettings | None:
        """The section `measure`, where the task has it."""
        return self.task_settings.get("measure")

    @property
    def trains(self) -> bool:
        """Whether this trains a model; if not, data, augment, model and train say nothing."""
        return TASKS.get(self.task).trains

    def to_json(self) -> dict[str, Any]:
        """`plain` without the fields of `_LATER` that are at their defaults."""
        plain = self.plain()
        for name in _LATER.keys() & plain.keys():
            cls = section_settings(name)
            assert cls is not None
            defaults = {field.name: field.default for field in dataclasses.fields(cls)}
            for field in _LATER[name]:
                if plain[name][field] == defaults[field]:
                    del plain[name][field]
        return plain

    def plain(self) -> dict[str, Any]:
        """Flat plain JSON: task, seed and one mapping of every key per section; what is off is not there."""
        sections = {name: getattr(self, name) for name in SECTIONS} if self.trains else {}
        sections |= self.components | self.objectives
        sections |= self.task_settings
        plain: dict[str, Any] = {"task": self.task, "seed": self.seed}
        plain |= {name: as_plain(value) for name, value in sections.items()}
        return plain | ({"plugins": dict(self.plugins)} if self.plugins else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "trial spec") -> TrialSpec:
        """The inverse of `to_json`; also fills in defaults. Raises SettingError, also where plug-ins are not
        those that the spec was made with."""
        spec = resolve({key: value for key, value in data.items() if key != "plugins"}, where)
        wanted = data.get("plugins", {})
        if spec.plugins != wanted:
            other = [key for key in {**wanted, **spec.plugins} if wanted.get(key) != spec.plugins.get(key)]
            raise SettingError(
                f"{where}: was planned with other code of {', '.join(sorted(other))} than the plug-in that "
                "is loaded now; plan the study again"
            )
        return spec

    def identity(self, fingerprint: str, weights: str | None = None) -> str:
        """64 hex digits: SHA-256 of the spec (seed included), the data's fingerprint ("" without data), the
        digest of the starting weights (`backbones.weights.weights_digest`; None without any) and the version.

        Where data and weights lie (`data.root`, `model.weights`) is not part of it, because fingerprint and
        digest say what they are.
        """
        assert (weights is None) == (self.model.weights is None), "starting weights are known by their digest"
        spec = self.to_json()
        if self.trains:
            del spec["data"]["root"]
        if weights is not None:
            spec["model"]["weights"] = weights
        content = {"version": SPEC_VERSION, "data": fingerprint, "spec": spec}
        return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The one JSON text of a plain value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def resolve(document: Mapping[str, Any], where: str, *, part: bool = False) -> TrialSpec:
    """The spec that a document (see `study.overlay`) says, every section checked. A `part`, such as a
    profile, may have the section of a task that is said elsewhere.

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
    task = _registered(TASKS, document.get("task", _TASK), f"{where}: task")
    for name in on:
        owner = _task_of(name)
        if owner not in (None, task) and not part:
            raise SettingError(f"{where}: {name} belongs to task {owner}, and this trains for {task}")
    idle = [] if part or TASKS.get(task).trains else [name for name in SECTIONS if document.get(name)]
    if idle:
        raise SettingError(
            f"{where}: task {task} trains nothing and has no section {', '.join(idle)}; its own section is "
            f"{TASKS.get(task).section_name}"
        )
    own = {name: on.get(name, cls()) for name, cls in optional.items() if _task_of(name) == task}
    return TrialSpec(
        task=task,
        seed=seed,
        **required,
        components={name: value for name, value in on.items() if name in COMPONENTS},
        objectives={name: value for name, value in on.items() if name in OBJECTIVES},
        task_settings=own,
        plugins=plugged_in(on, task, **(required if TASKS.get(task).trains else {})),
    )


def plugged_in(
    sections: Iterable[str],
    task: str,
    *,
    data: DataSettings | None = None,
    model: ModelSettings | None = None,
    **rest: Any,
) -> dict[str, str]:
    """Which of what a spec names comes from plug-ins: section or key to `Entry.origin`."""
    used: dict[str, Entry | None] = {"task": TASKS.get(task)}
    for registry in (COMPONENTS, OBJECTIVES):
        used |= {name: registry.get(name) for name in sections if name in registry}
    if data is not None:
        used["data.name"] = DATASETS.get(data.name)
    if model is not None:
        # Only a plug-in's family is asked, since that loads it.
        own = (entry for entry in FAMILIES if entry.origin)
        used["model.name"] = next((entry for entry in own if entry.load().covers(model.name)), None)
    return {key: entry.origin for key, entry in used.items() if entry is not None and entry.origin}


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
