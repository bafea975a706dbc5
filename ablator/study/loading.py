"""From files to a study that stands for itself: recipe, search spaces and profiles read in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablator.contracts.settings import as_plain
from ablator.errors import SettingError
from ablator.study import yaml
from ablator.study.overlay import flatten, merge
from ablator.study.references import moved
from ablator.study.schema import Arms, Profile, Study
from ablator.study.spaces import SpaceDocument
from ablator.study.validation import validate

_PROFILES = Path("recipes") / "profiles"
_PROFILE_NAME = re.compile(r"\w[\w .+-]{0,79}")
PROFILES_INSTALLED = Path(__file__).resolve().parents[2] / _PROFILES
"""Those that come with Ablator."""


def load(path: str | Path) -> Study:
    """The study in the YAML file at `path`, with everything that it refers to read in.

    Raises SettingError, which names the file, the key, the rule and the alternatives.
    """
    path = Path(path)
    document = yaml.read(path, "study")
    if "file" in document:
        raise SettingError(f"{path}: file: a study file does not name itself")
    study = validate(Study, document, str(path))
    return resolve(dataclasses.replace(study, file=str(path)))


def resolve(study: Study) -> Study:
    """`study` with its base recipe, search spaces and profiles as data instead of paths.

    Paths are relative to the study's file, or to the working folder for one that was built in
    Python. Changes nothing in a study that is resolved already.
    """
    where = study.file or f"study {study.study!r}"
    study = validate(Study, study, where)
    folder = Path(study.file).parent if study.file else Path()
    if not re.fullmatch(r"[a-z0-9_]+", study.study):
        raise SettingError(
            f"{where}: study: a name is lower-case letters, digits and underscores, not {study.study!r}"
        )
    _check_characters(as_plain(dataclasses.replace(study, file=None)), where)
    for name in study.profiles:
        if not _PROFILE_NAME.fullmatch(name):
            raise SettingError(
                f"{where}: profiles: a name is at most 80 letters, digits, spaces, '_', '-', '+' and '.', "
                "and begins with a letter, a digit or '_', because reports lie in a folder of that name; "
                f"not {name!r}"
            )
    base = study.base
    if isinstance(base, str):
        base = _recipe_for(folder, base, f"{where}: base")
    profiles = {name: _profile(path, folder) for name, path in _profile_files(folder).items()}
    for name, own in study.profiles.items():
        profiles[name] = _over(profiles.get(name, Profile()), own, f"{where}: profiles.{name}")
    arms = tuple(_with_files(arm, folder, f"{where}: arms[{i}]") for i, arm in enumerate(study.arms))
    return dataclasses.replace(study, base=base, profiles=profiles, arms=arms)


def recipe(path: Path, where: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The sections of the recipe at `path`, over those of its own `base` (relative to it)."""
    real = _resolved(path, f"{where}: recipe")
    if real in above:
        circle = " -> ".join(p.name for p in (*above[above.index(real) :], real))
        raise SettingError(f"{where}: recipes are based on each other in a circle: {circle}")
    document = yaml.read(path, f"{where}: recipe")
    below = document.pop("base", None)
    if below is None:
        return merge({}, document, str(path))
    if not isinstance(below, str):
        raise SettingError(f"{path}: base: must be the path of a recipe, not {below!r}")
    return merge(_recipe_for(path.parent, below, f"{path}: base", (*above, real)), document, str(path))


def _resolved(path: Path, what: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that no file can have
        raise SettingError(f"{what} {str(path)!r}: cannot be read: {error}") from None


def _check_characters(value: Any, where: str) -> None:
    """A study that is built in Python may hold what YAML files may not."""
    if isinstance(value, str) and (found := yaml.CONTROL.search(value)) is not None:
        raise SettingError(f"{where}: in {value!r} {yaml.control_text(found[0])}")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_characters(str(key), where)
            _check_characters(item, where)
    elif isinstance(value, list):
        for item in value:
            _check_characters(item, where)


def _recipe_for(folder: Path, file: str, where: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The recipe in `file`, which a file in `folder` names; references in it are relative to `folder`."""
    path = folder / file
    sections: dict[str, Any] = moved(recipe(path, where, above), path.parent, folder)
    return sections


def read_space(path: Path, where: str, folder: Path | None = None) -> SpaceDocument:
    """The search space in the YAML file at `path`; references in it are relative to `folder` instead, where
    that is given."""
    document = yaml.read(path, f"{where}: search space")
    return validate(SpaceDocument, moved(document, path.parent, folder or path.parent), str(path))


def _with_files(arm: Arms, folder: Path, where: str) -> Arms:
    if isinstance(arm.base, str):
        arm = dataclasses.replace(arm, base=_recipe_for(folder, arm.base, f"{where}: base"))
    if not isinstance(arm.space, str):
        return arm
    return dataclasses.replace(arm, space=read_space(folder / arm.space, f"{where}: space", folder))


def _profile(path: Path, folder: Path) -> Profile:
    document = moved(yaml.read(path, "profile"), path.parent, folder)
    return _over(Profile(), validate(Profile, document, str(path)), str(path))


def _profile_files(folder: Path) -> dict[str, Path]:
    """Profiles that come with Ablator, and over them those of the nearest recipes/profiles upwards."""
    found: dict[str, Path] = {}
    upwards = (parent / _PROFILES for parent in (folder.resolve(), *folder.resolve().parents))
    nearby = next((place for place in upwards if place.is_dir()), None)
    for place in (PROFILES_INSTALLED, nearby):
        if place is not None and place.is_dir():
            found |= {path.stem: path for path in sorted(place.glob("*.yaml"))}
    return found


def _over(below: Profile, above: Profile, where: str) -> Profile:
    """The study's own changes to a profile, laid over it. A key that the study maps leaves the profile's
    `set`: an arm declares it, and the map says what its values and the baseline's come to."""
    own = flatten(above.set, where)
    left = {key: value for key, value in flatten(below.set, where).items() if key not in above.map}
    sets: Mapping[str, Any] = left | own
    return Profile(
        about=above.about or below.about,
        set=dict(sets),
        map={
            key: below.map.get(key, {}) | above.map.get(key, {})
            for key in dict.fromkeys([*below.map, *above.map])
        },
        models=below.models | above.models,
        seeds=below.seeds if above.seeds is None else above.seeds,
        samples=below.samples if above.samples is None else above.samples,
        stop=below.stop if above.stop is None else above.stop,
    )
