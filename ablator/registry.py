"""Names to implementations, without loading them.

A room's `__init__.py` adds one line per implementation: a name, where its code is, and its
settings class (which imports nothing heavy). The code is imported when `load` is called, so that
reading a study file never loads torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ablator.errors import unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One registered implementation."""

    name: str
    target: Any
    """`"module:attribute"`, or the object itself (a plug-in's)."""
    settings: type | None = None
    """The settings dataclass, where the entry is a section of the study file."""
    summary: str = ""
    """One line for `ablator doctor` and the schema."""
    section: str = ""
    """The section's name, where it is not the entry's own."""
    trains: bool = True
    """Of a task: whether its trials train a model on images. One that measures instead has a section of its
    own and none of data, augment, model and train."""
    check: str | None = None
    """`"module:function"` that raises, given the settings, for what is missing on this machine (such as
    weights); called before anything is spent."""
    origin: str = ""
    """Of a plug-in's entry: the digest of its file, or its package's name and version, which is part of the
    identity of every trial that uses the entry. Empty for what comes with Ablator."""

    @property
    def section_name(self) -> str:
        """What the section of its settings is called."""
        return self.section or self.name

    def load(self) -> Any:
        """The implementation; imports its module the first time."""
        return _imported(self.target) if isinstance(self.target, str) else self.target

    def verify(self, settings: Any) -> None:
        """Run the entry's own check, where it has one."""
        if self.check is not None:
            _imported(self.check)(settings)


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


_origin: ContextVar[str] = ContextVar("origin", default="")
"""Whose entries are being added."""


@contextmanager
def adding_for(origin: str) -> Iterator[None]:
    """What the body adds belongs to the plug-in `origin`; where the body raises, none of it stays."""
    token = _origin.set(origin)
    try:
        yield
    except BaseException:
        for registry in REGISTRIES:
            registry.drop(origin)
        raise
    finally:
        _origin.reset(token)


class Registry:
    """All implementations of one kind, in the order in which they were added."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(
        self,
        name: str,
        target: Any,
        *,
        settings: type | None = None,
        summary: str = "",
        section: str = "",
        trains: bool = True,
        check: str | None = None,
    ) -> None:
        """Register `target` as `name`; raises ValueError where the name is taken by something else."""
        entry = Entry(
            name=name,
            target=target,
            settings=settings,
            summary=summary,
            section=section,
            trains=trains,
            check=check,
            origin=_origin.get(),
        )
        if self._entries.get(name, entry) != entry:
            other = self._entries[name]
            whose = f"by the plug-in {other.origin[:16]}" if other.origin else f"as {other.target!r}"
            raise ValueError(f"{self.kind} {name!r} is registered already, {whose}; choose another name")
        self._entries[name] = entry

    def get(self, name: str) -> Entry:
        """The entry called `name`; raises UnknownName with the nearest known names."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def drop(self, origin: str) -> None:
        """Take the entries of a plug-in out."""
        assert origin, "what comes with Ablator stays"
        self._entries = {name: entry for name, entry in self._entries.items() if entry.origin != origin}

    def names(self) -> tuple[str, ...]:
        """Every name, in order of registration."""
        return tuple(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries


COMPONENTS = Registry("component")
"""What a study varies inside a model. Each is an optional section of the spec, named as here."""
OBJECTIVES = Registry("objective")
"""Extra loss terms. Each is an optional section of the spec, named as here."""
DATASETS = Registry("data set")
"""Values of `data.name`."""
TASKS = Registry("task")
"""Values of `task`. One with settings brings a section, which specs of that task have."""
FAMILIES = Registry("backbone family")
"""Backbone families; each says which model names it covers."""
FEATURE_NETWORKS = Registry("feature network")
"""Pretrained networks that perceptual losses measure in."""
REGISTRIES = (COMPONENTS, OBJECTIVES, DATASETS, TASKS, FAMILIES, FEATURE_NETWORKS)
"""All of them."""
