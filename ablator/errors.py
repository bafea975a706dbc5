"""The errors that a user sees. Each names the rule, the value that broke it and the alternatives."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the user can mend. The command line prints its text and exits with 2."""


class SettingError(UserError):
    """A study file, profile, overlay or `--set` says something that the schema does not allow."""


class UnknownName(UserError):
    """A name that no registry knows; the nearest known ones are in the text."""


class SeamError(UserError):
    """A component was asked for where the backbone has no place for it."""


class DataError(UserError):
    """Data that is missing, unreadable or not what the study says."""


class WeightsError(UserError):
    """Pretrained weights that cannot be found or do not fit."""


class StoreError(UserError):
    """The store (ledger, checkpoints, mirrors) cannot be read or written, or is damaged."""


class TrackingError(UserError):
    """The MLflow server cannot be reached."""


class ClusterError(UserError):
    """Ray cannot be started, joined, or went away."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest known name, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a `kind` (such as "data set") called `name` that is none of `known`."""
    names = sorted(known)
    return UnknownName(f"unknown {kind} {name!r}{nearest(name, names)}; known: {', '.join(names) or 'none'}")
