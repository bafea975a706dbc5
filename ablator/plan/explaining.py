"""Auto-ablation: from a point that a search found to the study that explains it.

The full model is the point. Each row leaves one thing of it out: first whole sections that the baseline has
not, then one dimension after the other, which goes back to the baseline's value or its default. What exists
only under a value that is gone goes with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablator.errors import SettingError, nearest
from ablator.plan.planning import Plan
from ablator.plan.scale import current
from ablator.plan.searching import SearchPlan
from ablator.plan.spec import TrialSpec, optional_sections, resolve
from ablator.study.overlay import apply, flatten, value_text
from ablator.study.schema import Arms, Keys, Profile, Report, Study
from ablator.study.spaces import exists

FULL = "best point"
"""Label of the row of the point itself."""


def the_search(plan: Plan, label: str | None) -> SearchPlan:
    """The search of a plan that is called `label`, or its only one. Raises SettingError."""
    where = plan.study.file or f"study {plan.study.study!r}"
    known = [search.label for search in plan.searches]
    if not known:
        raise SettingError(f"{where}: there is no search to explain; an arm with `design: search` is one")
    if label is None and len(known) > 1:
        raise SettingError(f"{where}: has several searches; say which: {', '.join(map(repr, known))}")
    found = [search for search in plan.searches if label in (None, search.label)]
    if not found:
        raise SettingError(
            f"{where}: no search is called {label!r}{nearest(str(label), known)}; searches: "
            f"{', '.join(known)}"
        )
    return found[0]


def explanation(plan: Plan, search: SearchPlan, point: Mapping[str, Any], *, drawn: int, seeds: int) -> Study:
    """The study that takes `point`, the best of `drawn` points, apart, with `seeds` seeds: those of the
    search, so that what it trained is not trained again, and new ones. Raises SettingError where the point is
    the baseline."""
    where = search.where
    constants = plan.arms[search.arm].declared
    switched = _switched_on(search, point)
    chosen = {**{name: {} for name in switched}, **flatten(dict(point), where)}
    chosen = {key: value for key, value in chosen.items() if value is not None or _matters(search, key)}
    parts = _parts(plan, search, constants | chosen, switched, {k: point[k] for k in point if k in chosen})
    arms = _arms({**constants, **chosen}, parts)
    old = list(search.seeds)
    new = [seed for seed in range(seeds + len(old)) if seed not in old]
    used = tuple(old + new[: max(0, seeds - len(old))])
    return _study(plan, search, arms, used, drawn)


def _switched_on(search: SearchPlan, point: Mapping[str, Any]) -> list[str]:
    """Optional sections that the point has and the row that the search starts from has not."""
    on = dict.fromkeys(key.partition(".")[0] for key, value in point.items() if value != "off")
    return [name for name in on if name in optional_sections() and search.document.get(name) is None]


def _matters(search: SearchPlan, key: str) -> bool:
    """Whether null changes what the search starts from: not where it switches a section off that is off."""
    return key not in optional_sections() or search.document.get(key) is not None


def _parts(
    plan: Plan,
    search: SearchPlan,
    flat: Mapping[str, Any],
    switched: list[str],
    point: Mapping[str, Any],
) -> dict[str, Keys]:
    """What can be left out, by name: sections, then dimensions; without what would be the point or the
    baseline."""
    named: dict[str, tuple[str, ...]] = {
        name: tuple(key for key in flat if key.partition(".")[0] == name) for name in switched
    }
    for key, value in point.items():
        if key not in switched:
            keys = (key, *_children(search, point, key))
            named[f"{key} = {value_text(value)}"] = tuple(k for k in keys if k in flat)
    seen = [dataclasses.replace(plan.trials[0].spec, seed=0), _spec(search, flat)]
    found: dict[str, Keys] = {}
    for name, keys in named.items():
        spec = _spec(search, {key: value for key, value in flat.items() if key not in keys})
        if spec not in seen and len(keys) < len(flat):
            seen.append(spec)
            found[name] = name if name in switched else keys[0] if len(keys) == 1 else keys
    if seen[0] == seen[1]:
        raise SettingError(f"{search.where}: the best point is the baseline; there is nothing to take apart")
    return found


def _children(search: SearchPlan, point: Mapping[str, Any], gone: str) -> list[str]:
    """Dimensions of the point that do not exist any more once `gone` is back at its default."""
    left = {key: value for key, value in point.items() if key != gone}
    left[gone] = current(search.document, gone)
    lost: list[str] = []
    for key, dimension in search.space.dimensions.items():
        if key in left and key != gone and not exists(dimension, left):
            del left[key]
            lost.append(key)
    return lost


def _spec(search: SearchPlan, flat: Mapping[str, Any]) -> TrialSpec:
    """The spec of the point's document with these keys, at the search's scale."""
    return resolve(
        search.scale.finish(apply(search.document, flat, search.where), search.where), search.where
    )


def _arms(flat: dict[str, Any], parts: dict[str, Keys]) -> tuple[Arms, ...]:
    """The point, and what it is without each part; `on` reads better than an empty mapping."""
    said = {key: "on" if value == {} and isinstance(value, dict) else value for key, value in flat.items()}
    if not parts:
        return (Arms(label=FULL, set=said),)
    return (Arms(label="without {component}", design="loco", full=FULL, set=said, components=parts),)


def _study(
    plan: Plan, search: SearchPlan, arms: tuple[Arms, ...], seeds: tuple[int, ...], drawn: int
) -> Study:
    study = plan.study
    profiles = {plan.profile: Profile(seeds=seeds)} | {
        name: dataclasses.replace(
            profile, stop=None, seeds=None if profile.seeds is None and name != plan.profile else seeds
        )
        for name, profile in study.profiles.items()
    }
    kept = {
        name: value
        for name, value in study.report.reported.items()
        if name in ("baseline", study.baseline.label)
    }
    note = (
        f"The point is the best of {drawn} by its value with {_seeds_text(search.seeds)}, which is "
        "therefore too good, and so is Δ there; other seeds are new."
    )
    return dataclasses.replace(
        study,
        study=f"{study.study}_explained",
        file=None,
        plugins=tuple(_placed(name, study) for name in study.plugins),
        question=f"What of the best point of {study.study} does it need?",
        arms=arms,
        seeds=seeds,
        stop=None,
        profiles=profiles,
        report=Report(metric=study.report.metric, columns=study.report.columns, reported=kept, note=note),
    )


def _placed(plugin: str, study: Study) -> str:
    """A plug-in's file as it is found from the working folder, since the new study lies in none."""
    return str(Path(study.file).parent / plugin) if study.file and plugin.endswith(".py") else plugin


def _seeds_text(seeds: tuple[int, ...]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
