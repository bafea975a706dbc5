"""The design matrix: what every row has in the keys that vary, and what the rows together can tell apart.

A *factor* is a key, or a section that some rows have and others have not. Its main effect can be told where
two rows differ in it alone; the interaction of two factors where four rows cross them with all else equal.
Factors of which neither is ever changed without the other cannot be told apart. This asks for nothing of a
model: it is what differences between rows mean where only the declared factor differs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from ablator.plan.planning import Arm, Plan
from ablator.plan.spec import optional_sections
from ablator.study.overlay import value_text

ABSENT = "−"
"""In the place of a key whose section is off."""
EXAMINED = 200
"""Rows from one baseline that are compared with each other, each with each."""
_VALUED = ("grid", "zip", "list")
"""Designs that vary keys; a row of another one is a single declared intervention, however many keys it
has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """One row; a search's has no values, because they are drawn later."""

    label: str
    against: str | None
    seeds: tuple[int, ...]
    values: tuple[str, ...]
    """By key, as trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """The rows by the keys that vary between them, and what they can answer."""

    keys: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    effects: tuple[str, ...]
    """Factors whose main effect can be told."""
    interactions: tuple[tuple[str, str], ...]
    """Pairs of factors whose interaction can be told."""
    confounded: tuple[str, ...]
    """What cannot be told apart, in sentences."""


def matrix(plan: Plan) -> Matrix:
    """The matrix of a plan, in the order of its rows."""
    arms = [arm for arm in plan.arms if arm.kind != "search"]
    specs = {arm.index: plan.of(arm)[0].spec.to_json() for arm in arms}
    keys = _keys(arms, specs)
    values = {i: {key: _text(key, spec) for key in keys} for i, spec in specs.items()}
    effects: dict[str, None] = {}
    pairs: dict[tuple[str, str], None] = {}
    confounded: list[str] = []
    for family in _families(arms):
        if len(family) > EXAMINED:
            confounded.append(
                f"what {len(family)} rows can tell apart is not examined, only of {EXAMINED} at most"
            )
            continue
        table = {arm.label: values[arm.index] for arm in family}
        alone, crossed, together = _answers(table)
        effects |= dict.fromkeys(alone)
        pairs |= dict.fromkeys(crossed)
        valued = {arm.label: arm.declared for arm in family if arm.design in _VALUED}
        confounded += [text for group in together if (text := _sentence(group, valued, table))]
    return Matrix(
        keys=keys,
        rows=tuple(
            MatrixRow(
                label=arm.label,
                against=arm.against,
                seeds=tuple(trial.seed for trial in plan.of(arm)) or plan.seeds,
                values=tuple(values[arm.index].values()) if arm.index in values else ("?",) * len(keys),
            )
            for arm in plan.arms
        ),
        effects=tuple(effects),
        interactions=tuple(pairs),
        confounded=tuple(dict.fromkeys(confounded)),
    )


def _keys(arms: Sequence[Arm], specs: Mapping[int, Mapping[str, Any]]) -> tuple[str, ...]:
    """What rows declare and what differs between them; a section's switch only where nothing inside is
    shown."""
    said = dict.fromkeys([*(key for arm in arms for key in arm.declared), "model.name"])
    vary = [key for key in said if len({_text(key, spec) for spec in specs.values()}) > 1]
    return tuple(key for key in vary if not any(other.startswith(f"{key}.") for other in vary))


def _text(key: str, spec: Mapping[str, Any]) -> str:
    place: Any = spec
    for part in key.split("."):
        if not isinstance(place, Mapping) or part not in place:
            return ABSENT
        place = place[part]
    return "on" if isinstance(place, Mapping) and "." not in key else value_text(place)


def _families(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Rows that start, one over the other, from one baseline."""
    roots: dict[str, str] = {}
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        roots[arm.label] = roots.get(arm.against, arm.against) if arm.against else arm.label
        found.setdefault(roots[arm.label], []).append(arm)
    return [family for family in found.values() if len(family) > 1]


# ---- what rows can tell apart

_Table = Mapping[str, Mapping[str, str]]
"""Label to key to value."""


def _answers(
    table: _Table,
) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, ...]]]:
    """Factors that change alone, pairs that are crossed, and groups that only change together."""
    beside: dict[str, dict[str, set[str]]] = {label: {} for label in table}
    where: dict[str, set[tuple[str, str]]] = {}
    optional = optional_sections()
    for a, b in itertools.combinations(table, 2):
        factors = _factors(table[a], table[b], optional)
        for factor in factors:
            where.setdefault(factor, set()).add((a, b))
        if len(factors) == 1:
            factor = factors[0]
            beside[a].setdefault(factor, set()).add(b)
            beside[b].setdefault(factor, set()).add(a)
    keys = next(iter(table.values()))
    order = [factor for key in keys for factor in (key.partition(".")[0], key) if factor in where]
    where = {factor: where[factor] for factor in order}
    alone = [factor for factor in where if any(factor in found for found in beside.values())]
    crossed = [pair for pair in itertools.combinations(alone, 2) if _is_crossed(beside, *pair)]
    groups: dict[frozenset[tuple[str, str]], list[str]] = {}
    for factor, pairs in where.items():
        groups.setdefault(frozenset(pairs), []).append(factor)
    return alone, crossed, [tuple(group) for group in groups.values() if len(group) > 1]


def _factors(a: Mapping[str, str], b: Mapping[str, str], optional: Container[str]) -> list[str]:
    """What two rows differ in, in the keys' order; a section that one of them has not is one factor."""
    found: dict[str, None] = {}
    for key in a:
        if a[key] != b[key]:
            section = key.partition(".")[0]
            found[section if section in optional and ABSENT in (a[key], b[key]) else key] = None
    return list(found)


def _is_crossed(beside: Mapping[str, Mapping[str, Iterable[str]]], x: str, y: str) -> bool:
    for start in beside.values():
        for by_x, by_y in itertools.product(start.get(x, ()), start.get(y, ())):
            if set(beside[by_x].get(y, ())) & set(beside[by_y].get(x, ())):
                return True
    return False


def _sentence(group: Sequence[str], valued: Mapping[str, Mapping[str, Any]], table: _Table) -> str:
    """That the factors change together, where rows of a design that varies keys declare them; else
    nothing."""
    keys = [key for key in next(iter(table.values())) if key in group or key.partition(".")[0] in group]
    rows = [label for label, declared in valued.items() if sum(key in declared for key in keys) > 1]
    if len(rows) < 2:
        return ""
    return (
        f"{' and '.join(group)} change together in rows {', '.join(map(repr, rows))}: their effects cannot "
        "be told apart"
    )
