"""Every shipped study can be built at every scale: all rows, and every value that a search can draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablator.assembly.preflight import preflight
from ablator.plan.planning import plan
from ablator.study.loading import load

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))

# The data of gpu and paper is not on every machine; what is built does not depend on it.
SCALES = {
    "laptop": [],
    "gpu": ["data.name=digits", "data.root=null"],
    "paper": ["data.name=digits", "data.root=null"],
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_row_and_every_value_of_a_search_can_be_built(path: Path, scale: str) -> None:
    planned = plan(
        load(path),
        profile=scale,
        overrides=[*SCALES[scale], "train.batch_size=64"],
        fingerprint=lambda _: "x",
    )
    drawn = [search.trial(point, 0) for search in planned.searches for point in search.covering()]
    trials = [*planned.unique().values(), *drawn]
    sizes = preflight(trials, workers=1, metric=planned.study.report.metric, weights=False)
    assert set(sizes) == {trial.identity for trial in trials}
    assert all(size.parameters > 0 for size in sizes.values())


def test_a_search_is_covered_value_by_value() -> None:
    path = next(p for p in EXPERIMENTS if p.stem == "search_all")
    (search,) = plan(load(path), profile="laptop", fingerprint=lambda _: "x").searches
    points = search.covering()
    for key, dimension in search.space.dimensions.items():
        values = {repr(point[key]) for point in points if key in point}
        assert values >= {repr(choice) for choice in dimension.choices}, key
        assert values, f"{key} occurs"
