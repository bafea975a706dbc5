"""What a row claims, where that is not that it is better than its baseline."""

from __future__ import annotations

import dataclasses

from ablator.report.effects import ALPHA
from ablator.report.statistics import Comparison, Mode, Paired

_OTHER: dict[Mode, Mode] = {"max": "min", "min": "max"}


def claimed_mode(mode: Mode, *, removes: bool) -> Mode:
    """The direction in which a row's claim lies: one that leaves a component out claims to be worse."""
    return _OTHER[mode] if removes else mode


def without_test(paired: Paired) -> Paired:
    """The differences alone, of a study that asks for no test."""
    return dataclasses.replace(paired, low=None, high=None, p=None)


def in_words(comparison: Comparison, mode: Mode, *, removes: bool, tested: bool) -> Comparison:
    """The verdict's reason in words of the claim; `mode` is the metric's own."""
    if not tested and comparison.pairs and not comparison.reason.startswith("diverged"):
        return dataclasses.replace(comparison, reason="the study asks for no test")
    significant = comparison.p_holm is not None and comparison.p_holm < ALPHA
    if not removes or not significant or comparison.reason.startswith("diverged"):
        return comparison
    assert comparison.delta is not None
    worse = (comparison.delta < 0) == (mode == "max")
    return dataclasses.replace(comparison, reason="worse without it" if worse else "better without it")
