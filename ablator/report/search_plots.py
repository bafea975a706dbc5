"""Optuna's own pictures of a search: which dimensions matter, and where the good points lie.

The only module of the room that knows Optuna: points are told to a study in memory, which nothing else sees.
Optuna draws with pyplot and styles of its own, so that every colour is set again here.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ablator.report.drawing import COLOURS, WIDTH, style, svg
from ablator.report.search import SearchPoint, SearchTable
from ablator.study.spaces import Dimension

if TYPE_CHECKING:
    import optuna

FEWEST = 4
"""Completed points below which neither picture says anything."""
MOST_LINES = 300
"""Points that parallel coordinates can show; of more, the best."""


def importances(search: SearchTable) -> str:
    """Bars of how much of the metric's variation each dimension explains (PED-ANOVA, Optuna's default).
    Dimensions that not every completed point has are left out, as the method demands. Empty where there are
    too few points or fewer than two such dimensions that vary."""
    keys = shared_keys(search)
    if len(_completed(search)) < FEWEST or len(keys) < 2:
        return ""
    from optuna.visualization import matplotlib as pictures

    return _picture(
        search,
        f"importances {search.label}",
        lambda study: pictures.plot_param_importances(study, params=keys, target_name=search.metric),
        "How much each dimension of the search matters",
        0.9 + 0.32 * len(keys),
    )


def coordinates(search: SearchTable) -> str:
    """Parallel coordinates: one line a completed point, over the metric and every dimension that varies;
    dimensions that a point does not have count as missing. Empty where there are too few points."""
    keys = [key for key in search.dimensions if len(_values(search, key)) > 1]
    if len(_completed(search)) < FEWEST or not keys:
        return ""
    from optuna.visualization import matplotlib as pictures

    return _picture(
        search,
        f"coordinates {search.label}",
        lambda study: pictures.plot_parallel_coordinate(study, params=keys, target_name=search.metric),
        "Points of the search in parallel coordinates",
        3.6,
        width=max(WIDTH, 1.1 * (len(keys) + 2)),
    )


def shared_keys(search: SearchTable) -> list[str]:
    """The dimensions that every completed point has and that vary."""
    points = _completed(search)
    return [
        key
        for key in search.dimensions
        if all(key in point.params for point in points) and len(_values(search, key)) > 1
    ]


def _values(search: SearchTable, key: str) -> set[str]:
    return {repr(point.params.get(key)) for point in _completed(search)}


def _completed(search: SearchTable) -> list[SearchPoint]:
    return [point for point in search.points if point.value is not None]


def _picture(
    search: SearchTable,
    salt: str,
    plot: Callable[[optuna.Study], Any],
    title: str,
    height: float,
    *,
    width: float = WIDTH,
) -> str:
    from matplotlib import pyplot

    with style(salt), _quiet():
        axes = plot(_study(search))
        figure = axes.figure
        try:
            figure.set_size_inches(width, height)
            for one in figure.axes:
                _restyle(one)
            axes.set_title("")
            axes.set_title("", loc="left")
            return svg(figure, title, cut=True)
        finally:
            pyplot.close(figure)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without a window, and without the remark that these functions may change."""
    import optuna
    from matplotlib import pyplot

    before = pyplot.get_backend()
    pyplot.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Of matplotlib, about a legend or limits of a figure that Optuna left empty.
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        pyplot.switch_backend(before)


def _study(search: SearchTable) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if search.mode == "max" else "minimize")
    sign = -1.0 if search.mode == "max" else 1.0
    best = sorted(_completed(search), key=lambda point: sign * (point.value or 0.0))[:MOST_LINES]
    for point in best:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(point.params),
                distributions={key: _distribution(search.dimensions[key]) for key in point.params},
                value=point.value,
            )
        )
    return study


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if dimension.kind == "categorical":
        return distributions.CategoricalDistribution(dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        return distributions.IntDistribution(
            int(dimension.low), int(dimension.high), step=step, log=dimension.log
        )
    return distributions.FloatDistribution(
        dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )


def _restyle(axes: Any) -> None:
    """The page's colours in the place of Optuna's."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter, NullFormatter

    # Both ends can be told apart from light and dark paper, and from each other without seeing hues.
    shades = LinearSegmentedColormap.from_list("page", ["#c98a5a", "#3f78c9"])
    axes.set_facecolor("none")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_color(COLOURS["line"])
    axes.tick_params(which="both", colors=COLOURS["muted"], labelsize=7.5)
    if axes.get_yscale() == "log":
        # Optuna's own are formulas, which a page without their font cannot show.
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts):
        text.set_color(COLOURS["ink"])
        text.set_fontsize(8.5)
    for patch in axes.patches:
        patch.set_facecolor(COLOURS["series-1"])
    for found in axes.collections:
        if isinstance(found, LineCollection):
            found.set_cmap(shades)
            found.set_linewidth(1.1)
            if found.colorbar is not None:
                # The first axis says the same, and there is no room for both.
                found.colorbar.remove()
    if axes.get_legend() is not None:
        axes.get_legend().remove()
