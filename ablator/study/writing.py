"""A study as a YAML file."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

from ablator.contracts.settings import as_plain
from ablator.errors import SettingError
from ablator.study import yaml
from ablator.study.loading import resolve
from ablator.study.schema import Study
from ablator.study.validation import validate


def to_yaml(study: Study, path: Path | None = None, source: Path | None = None) -> str:
    """The resolved study as YAML, without what is as by default; `path` is where it will lie, and `source`
    the file of a study that it was made from.

    It refers to the recipe of `source` and keeps only that study's own changes to profiles, where this means
    the same from `path`; else everything that it refers to is written out.
    """
    plain = _plain(study)
    if path is not None and study.plugins:
        plain["plugins"] = [
            os.path.relpath(name, path.parent) if name.endswith(".py") else name for name in study.plugins
        ]
    short = _short(study, plain, source, path) if source and path else None
    return yaml.dump(plain if short is None else short)


def _plain(value: Any) -> dict[str, Any]:
    """Settings as a mapping of the fields that are not as by default."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        if not field.metadata.get("written", True):
            continue
        own = getattr(value, field.name)
        if field.default_factory is not dataclasses.MISSING:
            default: Any = field.default_factory()
        else:
            default = field.default
        if own != default:
            found[field.name] = _inner(own)
    return found


def _inner(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(value)
    if isinstance(value, dict):
        return {key: _inner(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_inner(item) for item in value]
    return as_plain(value)


def _short(study: Study, plain: dict[str, Any], source: Path, target: Path) -> dict[str, Any] | None:
    """The same with the paths of the file that it comes from; None where they do not hold."""
    own = yaml.read(source, "study")
    made = copy.deepcopy(plain)
    base = own.get("base")
    if isinstance(base, str):
        made["base"] = os.path.relpath(source.parent / base, target.parent)
    changed = own.get("profiles", {})
    # What this study says of a profile itself: which of them, how many seeds, and its early stopping.
    made["profiles"] = {
        name: _own_changes(changed.get(name, {}), plain["profiles"][name])
        for name in plain.get("profiles", {})
        if name in changed or "seeds" in plain["profiles"][name]
    }
    made = {key: value for key, value in made.items() if value != {}}
    try:
        again = resolve(dataclasses.replace(validate(Study, made, "study"), file=str(target)))
    except SettingError:
        return None
    same = (again.base, again.profiles) == (study.base, study.profiles)
    return made if same else None


def _own_changes(said: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    counts = {key: wanted[key] for key in ("seeds",) if key in wanted}
    return {key: value for key, value in said.items() if key not in ("seeds", "stop")} | counts
