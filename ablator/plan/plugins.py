"""Plug-ins: the user's own code, which a study names under `plugins`.

A plug-in is one Python file beside the study, or an installed package's entry point. It adds components,
objectives, data sets, tasks or backbone families to `ablator.registry`, as the rooms of Ablator do. Loading
one runs its code. A trial that uses something of it has the file's SHA-256 (the package's name and version)
in its spec and so in its identity, and the store keeps the file under that digest for the workers.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import linecache
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from ablator.contracts.reading import read_file
from ablator.contracts.secrets import secret_in
from ablator.errors import SettingError, UserError, nearest
from ablator.plan.spec import SECTIONS, TrialSpec, optional_sections
from ablator.registry import COMPONENTS, OBJECTIVES, REGISTRIES, TASKS, Entry, adding_for

GROUP = "ablator.plugins"
"""The group of entry points in which packages offer plug-ins; each names a module that registers things."""
_MOST_BYTES = 4 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = ("task", "seed", "plugins", *SECTIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plug-in that is loaded."""

    name: str
    """As the study says it."""
    origin: str
    """The file's SHA-256, or the entry point's name and the version of its package, `name==version`."""
    source: bytes | None = dataclasses.field(default=None, repr=False)
    """The file's content; None of a package, which every machine has to have installed."""


_places: dict[str, str] = {}
"""Path of a file to the origin that it was loaded with last, in this process."""


def load_plugins(names: Sequence[str], folder: Path, where: str) -> tuple[Plugin, ...]:
    """Load the plug-ins that a study names: files (`*.py`, relative to `folder`) and entry points.

    What is loaded already stays; a file that changed since takes the place of what it was. Raises
    SettingError for one that is missing, cannot be loaded, registers nothing, or a name that is taken.
    """
    found = []
    for number, name in enumerate(names):
        at = f"{where}: plugins[{number}]"
        found.append(_from_file(name, folder / name, at) if name.endswith(".py") else _from_package(name, at))
    return tuple(found)


def bring(spec: dict[str, object], stored: Callable[[str], Path]) -> None:
    """Load what a ticket's spec was planned with, in a process that has not seen the study. `stored(digest)`
    is where the store keeps a file. Raises SettingError."""
    used = spec.get("plugins", {})
    assert isinstance(used, dict)
    for origin in dict.fromkeys(used.values()):
        if any(_entries(origin)):
            continue
        if _DIGEST.fullmatch(origin):
            path = stored(origin)
            source = _read(path, f"the store's plug-in {origin[:16]}")
            if hashlib.sha256(source).hexdigest() != origin:
                raise SettingError(f"{path} is damaged: its content is not what its name says; run again")
            _run(source, path, origin, "plug-in")
        else:
            plugin = _from_package(origin.partition("==")[0], "plug-in")
            if plugin.origin != origin:
                raise SettingError(
                    f"the plug-in {origin} was planned with, and this machine has {plugin.origin}; install "
                    "the same version on every machine"
                )


def check_named(spec: TrialSpec, plugins: Sequence[Plugin], where: str) -> None:
    """Raise SettingError where a row uses a plug-in that only another study of this process names."""
    named = {plugin.origin for plugin in plugins}
    for key, origin in spec.plugins.items():
        if origin not in named:
            raise SettingError(
                f"{where}: {key} comes from a plug-in that this study does not name; say it under `plugins`"
            )


def _from_file(name: str, path: Path, where: str) -> Plugin:
    source = _read(path, where)
    _check_secrets(source, name, where)
    origin = hashlib.sha256(source).hexdigest()
    place = str(path.resolve())
    if not any(_entries(origin)):
        for registry in REGISTRIES if place in _places else ():
            registry.drop(_places[place])
        _run(source, path, origin, where)
    _places[place] = origin
    return Plugin(name=name, origin=origin, source=source)


def _from_package(name: str, where: str) -> Plugin:
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in points:
        raise SettingError(
            f"{where}: no installed package offers a plug-in {name!r}{nearest(name, points)}; known: "
            f"{', '.join(sorted(points)) or 'none'} (a plug-in in a file is a path that ends in .py)"
        )
    point = points[name]
    assert point.dist is not None, "an entry point that was found belongs to a package"
    origin = f"{name}=={point.dist.version}"
    if not any(_entries(origin)):
        _register(point.load, origin, name, None, where)
    return Plugin(name=name, origin=origin)


def _read(path: Path, where: str) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as error:
        raise SettingError(f"{where}: {path} cannot be read ({error.strerror})") from None


def _check_secrets(source: bytes, name: str, where: str) -> None:
    """The store keeps the file as it is, because its digest is part of identities."""
    for number, line in enumerate(source.decode(errors="replace").splitlines(), start=1):
        if (what := secret_in(line)) is not None:
            raise SettingError(
                f"{where}: {name}, line {number} holds {what}, and the store keeps the file for workers; "
                "have it read that from an environment variable"
            )


def _run(source: bytes, path: Path, origin: str, where: str) -> None:
    """Run the file as a module of its own."""
    module = types.ModuleType(f"ablator_plugin_{origin[:16]}")
    module.__file__ = str(path)

    def execute() -> None:
        _check_alone(ast.parse(source, str(path)), path)
        # Documentation of settings is read from the file's lines, which Python may have kept from before.
        linecache.checkcache(str(path))
        # Dataclasses look their module up by name.
        sys.modules[module.__name__] = module
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))

    try:
        _register(execute, origin, path.name, path, where)
    except SettingError:
        sys.modules.pop(module.__name__, None)
        raise


def _register(execute: Callable[[], object], origin: str, name: str, path: Path | None, where: str) -> None:
    try:
        with adding_for(origin):
            execute()
            added = list(_entries(origin))
            if not added:
                raise SettingError(
                    "registers nothing, or was imported before the study was planned; end it with a line "
                    'such as COMPONENTS.add("name", attach, settings=...), from ablator.registry'
                )
            for entry in added:
                _check_entry(entry)
    except UserError as error:
        raise SettingError(f"{where}: {name}: {error}") from error
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        if isinstance(error, SyntaxError):
            lines = [error.lineno]
        at = f", line {lines[-1]}" if lines else ""
        raise SettingError(f"{where}: {name}{at}: {type(error).__name__}: {error}") from error


def _check_alone(tree: ast.Module, path: Path) -> None:
    """A file beside it would be missing on a worker, and its changes would not change the identity."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{'.' * node.level}{node.module or ''}"]
        else:
            continue
        for name in names:
            first = name.lstrip(".").partition(".")[0]
            beside = (path.parent / f"{first}.py", path.parent / first / "__init__.py")
            if name.startswith(".") or any(place.is_file() for place in beside):
                raise SettingError(
                    f"line {node.lineno} imports {name!r}, which lies beside it; a plug-in is one file, and "
                    "what it imports has to be installed"
                )


def _check_entry(entry: Entry) -> None:
    """What a plug-in registers as a section has settings and a name that no other section has."""
    in_spec = entry in (*COMPONENTS, *OBJECTIVES)
    if in_spec and not hasattr(entry.settings, "__pydantic_config__"):
        raise SettingError(
            f"{entry.name!r} is a section of the study and needs settings=, a class that is marked @settings "
            "(from ablator.contracts.settings)"
        )
    if not _NAME.fullmatch(entry.section_name):
        raise SettingError(
            f"{entry.section_name!r}: a name is lower-case letters, digits and underscores, and begins "
            "with a letter"
        )
    if entry.settings is None:
        return
    sections = [e.section_name for r in (COMPONENTS, OBJECTIVES, TASKS) for e in r if e.settings is not None]
    if entry.section_name in _RESERVED or sections.count(entry.section_name) > 1:
        taken = ", ".join(dict.fromkeys((*_RESERVED, *optional_sections())))
        raise SettingError(f"the section {entry.section_name!r} is there already; taken: {taken}")


def _entries(origin: str) -> Iterator[Entry]:
    return (entry for registry in REGISTRIES for entry in registry if entry.origin == origin)


def sources(plugins: Iterable[Plugin]) -> list[bytes]:
    """What the store has to keep for workers."""
    return [plugin.source for plugin in plugins if plugin.source is not None]
