"""What lies over a study without being part of it: the profile, and `--set` of the command line.

Both change every row alike. They may not set what an arm declares, because the table would then no
longer answer its question; a profile's `map` translates declared values instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablator.errors import SettingError, nearest
from ablator.plan.designs import Row
from ablator.plan.spec import SECTIONS, has_section, optional_sections, resolve, section_settings
from ablator.study import yaml
from ablator.study.overlay import apply, flatten, overlaps, value_text
from ablator.study.references import moved, reference
from ablator.study.schema import Profile, Seeds, Stop, Study, stopping
from ablator.study.validation import validate

DEFAULT_PROFILE = "paper"
_COUNTS = {"seeds", "samples"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """A profile and overrides, flattened."""

    name: str
    """The profile's name."""
    set: dict[str, Any]
    map: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    """The study's model.name to dotted keys of `model`, in place of those in `set`."""
    overrides: dict[str, Any]
    switched_on: frozenset[str]
    """Optional sections that no row of the study has, and that an override therefore switches on."""
    idle: tuple[str, ...] = ()
    """Overrides that no row has a use for, because none trains."""
    seeds: Seeds
    samples: int | None
    stop: Stop | None

    def finish(self, document: dict[str, Any], where: str) -> dict[str, Any]:
        """A row's document at this scale: the profile's keys, its map, then the overrides.

        Keys of an optional section hold only where that section is on: a profile or an override
        must not switch a component on in the baseline.
        """
        flat = _of_model(self.set, self.models, document)
        document = apply(document, self._where_on(flat, document), f"profile {self.name}")
        mapped: dict[str, Any] = {}
        for key in self.map:
            if has_section(document, key.partition(".")[0]):
                old = current(document, key)
                new = self.translated(key, old)
                if new is not old:
                    mapped[key] = new
        document = apply(document, mapped, f"profile {self.name}: map")
        return apply(document, self._where_on(self.overrides, document), f"{where}: --set")

    def translated(self, key: str, value: Any) -> Any:
        """The value that stands for `value` at this scale; `value` itself where the map has none."""
        if key == "model.name" and value in self.models:
            return self.models[value].get(key, value)
        return self.map.get(key, {}).get(value_text(value), value)

    def changes(self, declared: Mapping[str, Any]) -> dict[str, Any]:
        """What a row declares, as it is at this scale."""
        return {key: self.translated(key, value) for key, value in declared.items()}

    def _where_on(self, flat: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
        optional = optional_sections()
        return {
            key: value
            for key, value in flat.items()
            if has_section(document, section := key.partition(".")[0])
            or section not in {*SECTIONS, *optional}
            or section in self.switched_on
            or (section in optional and "." not in key)
        }


def current(document: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key in a document, its default where the document does not say it."""
    section, _, rest = key.partition(".")
    place: Any = document.get(section) or {}
    for part in rest.split("."):
        if not isinstance(place, Mapping) or part not in place:
            cls = section_settings(section)
            defaults = {f.name: f.default for f in dataclasses.fields(cls)} if cls else {}
            return defaults.get(rest)
        place = place[part]
    return place


def scale_of(
    study: Study,
    profile: str | None,
    overrides: Sequence[str],
    declared: Sequence[Row],
    documents: Sequence[Mapping[str, Any]],
    where: str,
) -> Scale:
    """The scale of a resolved study; `declared` are all its rows, the baseline first, and `documents`
    the rows' spec documents.

    Raises SettingError for an unknown profile, and for one that conflicts with what an arm declares.
    """
    name, chosen = _profile(study, profile, where)
    flat = flatten(chosen.set, f"profile {name}: set")
    resolve(apply({}, flat, f"profile {name}: set"), f"profile {name}: set", part=True)
    models = {old: _model(new, f"profile {name}: models.{old}") for old, new in chosen.models.items()}
    for row, document in zip(declared, documents, strict=True):
        for key in _of_model(flat, models, document):
            if key == "model.name" and current(document, key) in models:
                continue  # translated, not overruled
            clash = next((k for k in row.changes if _clash(k, key)), None)
            if clash:
                raise SettingError(
                    f"{where}: conflicting profile {name}: it sets {key}, and the row {row.label!r} declares "
                    f"{clash}; a profile translates declared values with `map`, or leaves them alone"
                )
    _check_map(chosen.map, f"profile {name}: map")
    _check_rows_stay_different(chosen.map, declared, f"{where}: conflicting profile {name}")
    given = _overrides(overrides, declared, Path(study.file).parent if study.file else Path())
    seeds, samples = given.pop("seeds", chosen.seeds), given.pop("samples", chosen.samples)
    counts = validate(Profile, {"seeds": seeds, "samples": samples}, f"{where}: --set")
    for key in (*flat, *given):
        if key == "seed":
            raise SettingError(f"{where}: seed cannot be set for all rows; say seeds, a number or a list")
    named = {key.partition(".")[0] for key in given if "." in key} & set(optional_sections())
    on = {name for name in named for document in documents if has_section(document, name)}
    on |= {name for name in named for row in declared for key in row.changes if overlaps(key, name)}
    return Scale(
        name=name,
        set=flat,
        map=chosen.map,
        models=models,
        overrides=given,
        switched_on=frozenset(named - on),
        idle=tuple(
            key
            for key in given
            if (section := key.partition(".")[0]) in SECTIONS
            and not any(has_section(document, section) for document in documents)
        ),
        seeds=study.seeds if counts.seeds is None else counts.seeds,
        samples=counts.samples,
        stop=stopping(study.stop if chosen.stop is None else chosen.stop),
    )


def _model(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A `model` section as dotted keys, checked."""
    flat = flatten({"model": dict(section)}, where)
    resolve(apply({}, flat, where), where, part=True)
    return flat


def _of_model(
    flat: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], document: Mapping[str, Any]
) -> dict[str, Any]:
    """What a profile sets in a row of `document`: its keys, with those of `model` that fit the backbone.
    Weights of another study's trial are left to the row: that trial is at the same scale, a file is not."""
    if reference(current(document, "model.weights")) is not None:
        flat = {key: value for key, value in flat.items() if (key, value) != ("model.weights", None)}
    own = models.get(current(document, "model.name"))
    if own is None:
        return dict(flat)
    return {key: value for key, value in flat.items() if not overlaps(key, "model")} | dict(own)


def _clash(declared: str, key: str) -> bool:
    """Whether setting `key` would change what a row declares. A row that only switches a section on or
    off says nothing of the keys inside, which hold where it is on."""
    return overlaps(declared, key) and ("." in declared or "." not in key)


def _profile(study: Study, profile: str | None, where: str) -> tuple[str, Profile]:
    if profile is None or profile == DEFAULT_PROFILE:
        return DEFAULT_PROFILE, study.profiles.get(DEFAULT_PROFILE, Profile())
    if profile not in study.profiles:
        known = sorted({*study.profiles, DEFAULT_PROFILE})
        raise SettingError(
            f"{where}: unknown profile {profile!r}{nearest(profile, known)}; known: {', '.join(known)} "
            "(files of recipes/profiles/ beside or above the study)"
        )
    return profile, study.profiles[profile]


def _check_map(mapping: Mapping[str, Mapping[str, Any]], where: str) -> None:
    for key, values in mapping.items():
        section, _, field = key.partition(".")
        cls = section_settings(section)
        known = [f.name for f in dataclasses.fields(cls)] if cls else []
        if field.partition(".")[0] not in known:
            raise SettingError(
                f"{where}: unknown key {key!r}{nearest(field, known)}; known: {', '.join(known) or 'none'}"
            )
        new = [value_text(value) for value in values.values()]
        if len(set(new)) < len(new):
            raise SettingError(
                f"{where}: {key} sends two values to one, which would make different rows equal: {values}"
            )


def _check_rows_stay_different(
    mapping: Mapping[str, Mapping[str, Any]], declared: Sequence[Row], where: str
) -> None:
    """Raise SettingError where a declared value is sent to another one that is declared and stays."""
    for key, values in mapping.items():
        texts = {value_text(row.changes[key]) for row in declared if key in row.changes}
        for old in sorted(texts & values.keys()):
            new = value_text(values[old])
            if new != old and new in texts and new not in values:
                raise SettingError(
                    f"{where}: its map sends {key} = {old} to {new}, which another row declares, so that the "
                    f"two would be equal; map {new} as well"
                )


def _overrides(texts: Sequence[str], declared: Iterable[Row], folder: Path) -> dict[str, Any]:
    """`key=value` texts as a flat overlay; a key that a row declares with another value is an error.
    References are written relative to the working folder, and are relative to the study's `folder` here."""
    flat: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        where = f"--set {text}"
        if not equals or not key.strip():
            raise SettingError(f"{where}: write --set key=value, such as --set train.epochs=10")
        said = {key.strip(): moved(yaml.parse(value, where), Path(), folder)}
        # Sequential seeds are a mapping, and no section of the spec.
        own = said if said.keys() <= _COUNTS else flatten(said, where)
        if not own.keys() <= _COUNTS:
            # By itself, so that the error names this text; with its row it is checked again.
            resolve(apply({}, own, where), where, part=True)
        flat |= own
    for row in declared:
        for key, value in flat.items():
            clash = next((k for k in row.changes if _clash(k, key)), None)
            if clash and row.changes[clash] != value:
                raise SettingError(
                    f"--set {key}={value_text(value)} conflicts with the row {row.label!r}, which declares "
                    f"{clash} = {value_text(row.changes[clash])}; edit the study to change what it compares"
                )
    return flat
