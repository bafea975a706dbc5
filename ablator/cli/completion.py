"""What the shell completes: study files, profiles and keys of the spec."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import typer

from ablator.errors import UserError


def complete_study(incomplete: str) -> list[str]:
    """Study files and folders whose path begins with `incomplete`."""
    folder, slash, start = incomplete.rpartition("/")
    place = Path(folder + slash)
    if not place.is_dir():
        return []
    found = [path for path in sorted(place.iterdir()) if path.name.startswith(start)]
    if not start.startswith("."):
        found = [path for path in found if not path.name.startswith(".")]
    files = [folder + slash + path.name for path in found if path.suffix in (".yaml", ".yml")]
    return files + [f"{folder}{slash}{path.name}/" for path in found if path.is_dir()]


def complete_profile(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The study's profiles with what they are for; the working folder's where no study is named yet."""
    from ablator.plan.scale import DEFAULT_PROFILE
    from ablator.study.loading import load, resolve
    from ablator.study.schema import Arms, Study

    # An option without its value, which is what is being completed, leaves the arguments unparsed.
    first = next((Path(word) for word in ctx.args if word.endswith((".yaml", ".yml"))), None)
    try:
        study = load(first) if first else resolve(Study(study="any", arms=(Arms(label="any"),)))
    except UserError:
        return []
    profiles = {DEFAULT_PROFILE: "", **{name: p.about for name, p in study.profiles.items()}}
    return [(name, about) for name, about in profiles.items() if name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """Dotted keys of the trial spec, each with its equals sign."""
    from ablator.plan.spec import SECTIONS, optional_sections

    sections = {**SECTIONS, **optional_sections()}
    keys = [f"{name}.{field.name}=" for name, cls in sections.items() for field in dataclasses.fields(cls)]
    return [key for key in (*keys, "seeds=", "samples=") if key.startswith(incomplete)]
