"""What a cluster needs to plan studies as they are planned here: the files that loading them reads."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablator.contracts.reading import noting
from ablator.contracts.settings import as_plain
from ablator.errors import SettingError
from ablator.plan.rows import Rows, rows_of
from ablator.study.folder import study_files
from ablator.study.loading import PROFILES_INSTALLED, load
from ablator.study.references import Reference, reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """Studies with all that they refer to, laid out as here."""

    files: Mapping[str, bytes]
    """Path in the bundle to content."""
    studies: tuple[str, ...]
    """The studies' paths in it, files or folders, as the command there names them."""
    names: tuple[str, ...]
    """What the studies call themselves."""

    @property
    def digest(self) -> str:
        """SHA-256 of paths and contents, in hex."""
        found = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            found.update(f"{name}\0{len(content)}\0".encode() + content)
        return found.hexdigest()

    def write(self, folder: Path) -> None:
        """Lay the files out below `folder`."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def bundle_of(paths: Sequence[Path], profile: str | None, overrides: Sequence[str]) -> Bundle:
    """The bundle of the study files, or folders of them, at `paths`.

    The studies are read and their rows made, as a plan does, so that mistakes show before anything is sent.
    Raises SettingError for these, and for weights that lie on this machine and are not sent.
    """
    with noting() as seen:
        rows = [rows_of(load(file), profile, overrides) for path in paths for file in study_files(path)]
        for one in rows:
            _check_places(one)
            _read_references(one.study.file, as_plain(one.study), set())
    files = {_absolute(path): content for path, content in seen.items() if not _is_there_anyway(path, paths)}
    root = Path(os.path.commonpath([path.parent for path in files]))
    return Bundle(
        files={str(path.relative_to(root)): content for path, content in files.items()},
        studies=tuple(str(_absolute(path).relative_to(root)) for path in paths),
        names=tuple(one.study.study for one in rows),
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _is_there_anyway(path: Path, studies: Sequence[Path]) -> bool:
    """Whether it is a profile that comes with Ablator, for studies that lie elsewhere."""
    own = PROFILES_INSTALLED.parents[1]
    return path.is_relative_to(PROFILES_INSTALLED) and not any(
        _absolute(study).is_relative_to(own) for study in studies
    )


def _read_references(file: str | None, value: Any, above: set[Path]) -> None:
    """Read the studies that `value`, of the study in `file`, starts from, and theirs."""
    for found in _references(value):
        path = (Path(file).parent if file else Path()) / found.file
        real = path.resolve()
        # What is missing is an error only where a row of the profile says it; the plan there tells that.
        if real not in above and path.is_file():
            above.add(real)
            study = load(path)
            _read_references(study.file, as_plain(study), above)


def _references(value: Any) -> Iterator[Reference]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif (found := reference(value)) is not None:
        yield found


def _check_places(rows: Rows) -> None:
    """Weights are read where the cluster has them. A relative `data.root` is relative to a folder that the
    cluster names; there is none for weights, so that a relative path can only mean here."""
    for row, document in zip(rows.declared, rows.documents, strict=True):
        source = f"{rows.where}: {row.label!r}"
        whole = rows.scale.finish(document, source)
        value = (whole.get("model") or {}).get("weights")
        if isinstance(value, str) and reference(value) is None and _is_relative(value):
            raise SettingError(
                f"{source}: model.weights {value!r} is relative to a folder of this machine, and only what "
                "studies are read from is sent to a cluster; copy the file to the storage that its machines "
                "share, and say where it lies there, as an absolute path"
            )


def _is_relative(text: str) -> bool:
    return not Path(text).is_absolute() and not text.startswith(("~", "trial:"))
