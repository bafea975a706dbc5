"""A part of a plan: chosen rows, and the rows that they are compared with.

Trials are those of the whole plan, with the same identities, so that a result counts for both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence

from ablator.errors import SettingError, nearest
from ablator.plan.planning import Arm, Plan
from ablator.plan.rows import Rows
from ablator.plan.searching import SearchPlan
from ablator.plan.spec import canonical

BEST = " (best)"
"""What the table puts behind a search's label in the row of its best point."""
_NAMED = 40
"""Labels that an error lists."""
_NOTED = 6
"""Labels that a table's note lists."""


def only(plan: Plan, labels: Sequence[str]) -> Plan:
    """The rows called `labels` and all that they are compared with, up to a baseline, in the study's order;
    without labels, or where that is every row, the plan itself.

    An interaction stays where all of its rows do. A search is called by its own label, or by that of its best
    row. Raises SettingError for a label that no row has.
    """
    return only_all([plan], labels)[0]


def only_all(plans: Sequence[Plan], labels: Sequence[str]) -> list[Plan]:
    """`only` for several studies: those that have none of the rows are left out. Raises SettingError for a
    label that no row of any of them has."""
    if not labels:
        return list(plans)
    chosen = [_chosen(plan, labels) for plan in plans]
    found = {label for _, known in chosen for label in known}
    for label in labels:
        if label not in found:
            raise _unknown(label, plans)
    return [_part(plan, arms) for plan, (arms, _) in zip(plans, chosen, strict=True) if arms]


def part_name(labels: Sequence[str]) -> str:
    """A name for the files of a part of a study: `rows-`, the labels as far as there is room, and 8 hex
    digits that tell parts apart."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(labels)).strip("-")[:40].strip("-")
    digest = hashlib.sha256(canonical(list(labels)).encode()).hexdigest()[:8]
    return "-".join(part for part in ("rows", words, digest) if part)


def _chosen(plan: Plan, labels: Iterable[str]) -> tuple[list[Arm], set[str]]:
    """The rows of this plan that `labels` name, in order, and the labels that name one."""
    names = {arm.label: arm for arm in plan.arms}
    for search in plan.searches:
        names.setdefault(search.label + BEST, plan.arms[search.arm])
    known = {label for label in labels if label in names}
    indices = {names[label].index for label in known}
    return [arm for arm in plan.arms if arm.index in indices], known


def _unknown(label: str, plans: Sequence[Plan]) -> SettingError:
    known = list(dict.fromkeys(arm.label for plan in plans for arm in plan.arms))
    if len(plans) == 1:
        whose = plans[0].study.file or f"study {plans[0].study.study!r}"
    else:
        whose = f"the {len(plans)} studies"
    return SettingError(
        f"--row: no row of {whose} is called {label!r}{nearest(label, known)}; rows: {_listed(known, _NAMED)}"
    )


def _listed(labels: Sequence[str], most: int) -> str:
    shown = ", ".join(map(repr, labels[:most]))
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"


def _part(plan: Plan, chosen: Sequence[Arm]) -> Plan:
    kept = _with_compared(plan, chosen)
    if len(kept) == len(plan.arms):
        return plan
    index = {arm.index: new for new, arm in enumerate(kept)}
    labels = {arm.label for arm in kept}
    interactions = tuple(one for one in plan.interactions if all(label in labels for _, label in one.terms))
    asked = tuple(arm.label for arm in chosen)
    note = _note(plan, asked, len(kept), len(plan.interactions) - len(interactions))
    return dataclasses.replace(
        plan,
        arms=tuple(dataclasses.replace(arm, index=index[arm.index]) for arm in kept),
        trials=tuple(
            dataclasses.replace(trial, arm=index[trial.arm]) for trial in plan.trials if trial.arm in index
        ),
        searches=tuple(_moved(search, index) for search in plan.searches if search.arm in index),
        reported={label: values for label, values in plan.reported.items() if label in labels},
        notes=(note, *plan.notes),
        interactions=interactions,
        chosen=asked,
    )


def _with_compared(plan: Plan, chosen: Iterable[Arm]) -> list[Arm]:
    """The chosen rows and, one after the other, what they are compared with."""
    names = {arm.label: arm for arm in plan.arms}
    found: set[int] = set()
    for arm in chosen:
        while arm.index not in found:
            found.add(arm.index)
            if arm.against is not None:
                arm = names[arm.against]
    return [arm for arm in plan.arms if arm.index in found]


def _moved(search: SearchPlan, index: dict[int, int]) -> SearchPlan:
    """The search in a plan whose rows have new indices (old to new): it looks its own row up among them."""
    return dataclasses.replace(search, arm=index[search.arm], rows=_rows(search.rows, index))


def _rows(rows: Rows, index: dict[int, int]) -> Rows:
    return dataclasses.replace(
        rows,
        declared=tuple(rows.declared[old] for old in index),
        documents=tuple(rows.documents[old] for old in index),
        spaces={index[old]: space for old, space in rows.spaces.items() if old in index},
    )


def _note(plan: Plan, asked: Sequence[str], kept: int, crossed: int) -> str:
    """What a reader must know about a table that lacks rows of its study."""
    text = f"Only {kept} of the study's {len(plan.arms)} rows: {_listed(asked, _NOTED)}"
    they = "they are" if len(asked) > 1 else "it is"
    text += f", and what {they} compared with" if kept > len(asked) else ""
    text += "; p is adjusted over the rows shown" if plan.study.report.test != "none" else ""
    if crossed:
        text += f"; {crossed} interaction{'s need' if crossed > 1 else ' needs'} rows that are not shown"
    return f"{text}."
