"""Studies by file or by folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ablator.errors import SettingError
from ablator.study import yaml
from ablator.study.loading import load
from ablator.study.schema import Study

_ENDINGS = (".yaml", ".yml")
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,79}")


def study_files(path: str | Path) -> list[Path]:
    """The file at `path`, or the study files that lie directly in the folder there, by name.

    Raises SettingError for a folder without YAML files, and for one of them that is no study.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = _yaml_files(path)
    if not found:
        below = sorted({p.parent for end in _ENDINGS for p in path.glob(f"*/*{end}")})
        there = f"; folders in it that have some: {', '.join(map(str, below))}" if below else ""
        raise SettingError(f"the folder {path} has no studies: no *.yaml lies directly in it{there}")
    for file in found:
        if "study" not in yaml.read(file, "study"):
            raise SettingError(
                f"{file} is no study: it has no key `study`; a folder that is named as a whole holds studies "
                f"only, so move it (recipes, spaces and profiles lie in folders of their own), or name the "
                f"study files one by one"
            )
    return found


def load_all(path: str | Path) -> list[Study]:
    """The studies in `study_files(path)`. Raises SettingError as `load` does."""
    return [load(file) for file in study_files(path)]


def name_together(studies: Sequence[Study]) -> str:
    """What several studies are called together, as a file's name: the name of their folder where they are all
    that lies in it, else their own names, cut short by a digest where there are many."""
    files = {Path(study.file).absolute() for study in studies if study.file is not None}
    folder = next(iter(files)).parent if len(files) == len(studies) else None
    if folder is not None and files == set(_yaml_files(folder)) and _SAFE.fullmatch(folder.name):
        return folder.name
    names = sorted(study.study for study in studies)
    text = "-".join(names)
    if _SAFE.fullmatch(text):
        return text
    return f"{names[0]}-and-{len(names) - 1}-more-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in _ENDINGS and not p.name.startswith("."))
