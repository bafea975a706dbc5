"""Interactions: what components do together beyond the sum of what each does alone.

For two components A and B the effect of one seed is AB − A − B + neither, in the metric's unit; of more
components it is the alternating sum over all their subsets (the highest-order contrast of a two-level
factorial design). Rows that share a seed share everything that they do not declare, so that effects are
paired by seed as differences are, and go through the same test. Interactions are a family of their own for
Holm's adjustment.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from ablator.report import statistics
from ablator.report.effects import ALPHA
from ablator.report.statistics import Comparison, Mode, Paired

RULE = (
    "Interaction: what the components do together beyond the sum of what each does alone (both − one − "
    "other + "
    "neither), paired by seed, with its 95 % t interval; p: two-sided paired t test, Holm-adjusted over the "
    "interactions. Supported: together more than the sum of the parts, with p below 0.05."
)
"""What the numbers mean, for readers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InteractionSpec:
    """One interaction as planned."""

    label: str
    terms: tuple[tuple[int, str], ...]
    """(sign, label of the row)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction:
    """One interaction with its numbers; `comparison.delta` is the effect, over the seeds that all rows
    have."""

    label: str
    terms: tuple[tuple[int, str], ...]
    comparison: Comparison
    reported: float | None
    """The same sum of the source's numbers; None where it prints not all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What a row brings to an interaction."""

    values: Mapping[int, float]
    """By seed."""
    diverged: int
    """Trials that diverged."""
    planned: int
    """Trials."""
    reported: float | None
    """The source's number."""


def build_interactions(
    specs: Sequence[InteractionSpec], rows: Mapping[str, Measured], *, mode: Mode, tested: bool = True
) -> tuple[Interaction, ...]:
    """The interactions in order, from rows by label. Without `tested` effects have no interval and no p."""
    paired = [_effect(spec, rows) for spec in specs]
    if not tested:
        paired = [dataclasses.replace(pair, low=None, high=None, p=None) for pair in paired]
    family = sum(pair.p is not None for pair in paired)
    adjusted = statistics.holm([pair.p for pair in paired])
    made = []
    for spec, pair, p in zip(specs, paired, adjusted, strict=True):
        terms = [rows[label] for _, label in spec.terms]
        reported = _sum([(sign, rows[label].reported) for sign, label in spec.terms])
        comparison = statistics.judge(
            pair,
            mode=mode,
            p_holm=p,
            family=family,
            expected=reported,
            diverged=(sum(row.diverged for row in terms), sum(row.planned for row in terms)),
        )
        made.append(
            Interaction(
                label=spec.label, terms=spec.terms, comparison=_reasoned(comparison, mode), reported=reported
            )
        )
    return tuple(made)


def _effect(spec: InteractionSpec, rows: Mapping[str, Measured]) -> Paired:
    seeds = set.intersection(*(set(rows[label].values) for _, label in spec.terms))

    def side(wanted: int) -> dict[int, float]:
        labels = [label for sign, label in spec.terms if sign == wanted]
        return {seed: math.fsum(rows[label].values[seed] for label in labels) for seed in seeds}

    return statistics.compare(side(1), side(-1))


def _sum(numbers: Sequence[tuple[int, float | None]]) -> float | None:
    values = [sign * number for sign, number in numbers if number is not None]
    # Rounded as the reported differences are.
    return round(math.fsum(values), 9) if len(values) == len(numbers) else None


def _reasoned(comparison: Comparison, mode: Mode) -> Comparison:
    """The verdict's reason in words of parts, where it is about the effect's sign."""
    delta, p = comparison.delta, comparison.p_holm
    significant = p is not None and p < ALPHA
    if delta is None or not (significant or (delta == 0.0 and comparison.pairs > 1)):
        return comparison
    if comparison.reason.startswith("diverged"):
        return comparison
    more = "more" if (delta > 0) == (mode == "max") else "less"
    reason = f"{more} than the sum of the parts" if delta else "the sum of the parts in every seed"
    return dataclasses.replace(comparison, reason=reason)
