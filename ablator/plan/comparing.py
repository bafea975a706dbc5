"""What rows are compared with: what they change in it, whether they change anything else, and which
interactions the rows of a study say something about."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ablator.errors import SettingError
from ablator.plan.designs import Row
from ablator.plan.differences import differences
from ablator.plan.scale import current
from ablator.plan.spec import TrialSpec, optional_sections
from ablator.study.overlay import overlaps, value_text
from ablator.study.references import reference
from ablator.study.schema import Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction:
    """What components do together beyond the sum of what each does alone: an alternating sum of rows."""

    label: str
    terms: tuple[tuple[int, str], ...]
    """(sign, label of the row); of two components (both) − (one) − (other) + (neither)."""


def stated(rows: Sequence[Row], documents: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows with what it comes to, in their documents, that they leave something out."""
    return [
        dataclasses.replace(row, changes=_undone(row.left_out, document)) if row.left_out else row
        for row, document in zip(rows, documents, strict=True)
    ]


def _undone(keys: Iterable[str], document: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        section = key.partition(".")[0]
        if section in optional_sections() and document.get(section) is None:
            found[section] = None
        else:
            found[key] = {} if key == section else current(document, key)
    return found


def check_row(row: Row, against: str, specs: Mapping[str, TrialSpec], where: str) -> None:
    """Raise SettingError where a row comes to what the row that it is compared with has, or to what it is
    made of, or differs in more than it declares. `specs` are those of the rows above, and of the row
    itself."""
    own, other = specs[row.label], specs[against]
    if own == other:
        said = ", ".join(f"{key} = {value_text(value)}" for key, value in row.changes.items()) or "its recipe"
        raise SettingError(f"{where}: {row.label!r} changes nothing: {said} is what {against!r} has")
    start = row.block.against or next(iter(specs))
    if row.has and own == specs[start]:
        raise SettingError(
            f"{where}: {row.label!r} changes nothing: with {' and '.join(row.has)} it is what {start!r} "
            "has; leave them out of `set`, or join them with another component under `components`"
        )
    found = differences(other, own)
    if _same_start(row.label, own, against, other):
        found.pop("model.weights", None)
    undeclared = [key for key in found if not any(_covers(key, d) for d in row.changes)]
    if undeclared and not row.block.baseline:
        raise SettingError(
            f"{where}: {row.label!r} differs from {against!r} in more than it declares: "
            f"{', '.join(undeclared)}; declare that too, or make the row a further baseline (`baseline: "
            "true`)"
        )


def _same_start(label: str, own: TrialSpec, against: str, other: TrialSpec) -> bool:
    """Whether both start from the rows of their own labels of one study: that is one declaration for all."""
    mine, theirs = reference(own.model.weights), reference(other.model.weights)
    if mine is None or theirs is None:
        return False
    return (mine.file, mine.label, theirs.label) == (theirs.file, label, against)


def _covers(key: str, declared: str) -> bool:
    """Whether a difference follows from a declared key. A model is declared by its name, and a profile scales
    each model by options of its own; a task brings its section."""
    if declared == "task" or (declared == "model.name" and key.startswith("model.")):
        return True
    return overlaps(key, declared)


def check_compared(rows: Sequence[Row], where: str) -> None:
    """Raise SettingError where every row is a baseline, so that nothing is compared."""
    if all(row.block.baseline for row in rows[1:]):
        raise SettingError(
            f"{where}: every row is a baseline, so that nothing is compared; leave out `baseline: true`, or "
            f"let rows name one of {', '.join(repr(row.label) for row in rows)} in `against`"
        )


def check_test(report: Report, seeds: Sequence[int], overrides: Sequence[str], where: str) -> tuple[str, ...]:
    """Raise SettingError where the study claims a test that one seed cannot give. One seed that was asked for
    with --set is somebody's quick look: it goes, and the table's note, which is returned, says that it tests
    nothing."""
    if report.test != "paired_t" or len(seeds) > 1:
        return ()
    if any(text.partition("=")[0].strip() == "seeds" for text in overrides):
        return (
            "One seed (--set seeds): the study's test, paired_t, needs two or more, and nothing is tested.",
        )
    raise SettingError(
        f"{where}: report.test is paired_t, which needs two seeds or more, and there is one ({seeds[0]}); "
        "say `seeds: 3`, or `test: none`, which shows differences without a test"
    )


def interactions(rows: Sequence[Row]) -> tuple[Interaction, ...]:
    """The interactions of every block of design pairwise, pairs first."""
    found = []
    blocks = {id(row.block): row.block for row in rows if row.block.design == "pairwise"}
    for number, block in blocks.items():
        labels = {frozenset(row.has): row.label for row in rows if id(row.block) == number}
        labels[frozenset()] = block.against or rows[0].label
        for names in (row.has for row in rows if id(row.block) == number and len(row.has) > 1):
            subsets = [
                part for size in range(len(names), -1, -1) for part in itertools.combinations(names, size)
            ]
            name = " × ".join(names) + (f" ({block.against})" if block.against else "")
            terms = tuple(((-1) ** (len(names) - len(part)), labels[frozenset(part)]) for part in subsets)
            found.append(Interaction(label=name, terms=terms))
    return tuple(found)


def design_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """What Δ means where it is not the difference from a baseline."""
    found = []
    for row in rows:
        if row.left_out:
            found.append(
                f"Rows against {row.compared!r} leave one component out: Δ is what is lost, and supported "
                "means that the row is worse without it."
            )
        elif row.compared is not None:
            found.append(
                "Components are put in one after another: Δ is what a row has more than the row above it."
            )
    return tuple(dict.fromkeys(found))
