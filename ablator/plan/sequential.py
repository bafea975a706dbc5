"""Sequential seeds in a plan: what a study may not have beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ablator.errors import SettingError
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import Trial
from ablator.study.schema import Report, SequentialSeeds, Stop


def check_sequential(
    seeds: SequentialSeeds,
    trials: Iterable[Trial],
    searches: Sequence[SearchPlan],
    stop: Stop | None,
    report: Report,
    where: str,
) -> None:
    """Raise SettingError where a study with sequential seeds has what leaves its rows without a test that
    holds however often it is looked at."""
    said = f"{where}: seeds: min {seeds.min}, max {seeds.max}, until {seeds.until}"
    fixed = f"say a number of seeds, such as `seeds: {seeds.min}`"
    if report.test == "none":
        raise SettingError(f"{said}: report.test is none, so that no row is ever resolved; {fixed}")
    if stop is not None:
        raise SettingError(
            f"{said}: early stopping ({stop.kind}) ends trials by their values, and a row with such a trial "
            f"cannot be tested; leave out `stop`, or {fixed}"
        )
    if searches:
        raise SettingError(
            f"{said}: the row {searches[0].label!r} is a search, whose points are chosen by their values and "
            f"not tested; {fixed}, or put the search into a study of its own"
        )
    start = next((trial for trial in trials if trial.start is not None), None)
    if start is not None and start.start is not None:
        raise SettingError(
            f"{said}: the row {start.label!r} starts from trials of {start.start.study}, one a seed, which "
            f"are trained before the first round; {fixed}"
        )
