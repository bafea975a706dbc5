"""Figures of trained models, drawn from a `FigureData` alone: PNG and SVG files, and the page's section."""

from __future__ import annotations

import base64
import html
import io
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ablator.errors import StoreError
from ablator.report.table import Table
from ablator.results import figure_data
from ablator.results.durable import explained, make_directory, replace
from ablator.results.figure_data import FigureData, TrialFigures

FOLDER = "figures"
"""Beside the page."""
ENTITIES = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#222222",
)  # fmt: skip
"""Okabe & Ito's colours, which people with any common colour blindness tell apart; given to the largest
entities of each layout in turn."""
_REST = ("#8c8c8c", "#b5b5b5", "#d9d9d9")
"""Greys of all further entities, in turn."""
COLUMNS = 10
"""Layouts, or arms, that one figure can carry."""
_DPI = 130
_STYLE = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "figures"}
_MEASURES = (
    ("diversity", "1 − mean cosine"),
    ("effective_rank", "effective rank"),
    ("residual", "‖X − 1x̄ᵀ‖ / ‖X‖"),
)


def draw(data: FigureData, folder: Path) -> dict[str, Path]:
    """Write every figure that the data has something for as NAME.png and NAME.svg into `folder`; returns the
    paths by file name. Raises StoreError where they cannot be written."""
    paths: dict[str, Path] = {}
    with matplotlib.rc_context(_STYLE), explained("write", folder):
        make_directory(folder)
        for name, make in _FIGURES.items():
            if (figure := make(data)) is None:
                continue
            for form in ("png", "svg"):
                buffer = io.BytesIO()
                metadata = {"Date": None} if form == "svg" else {}
                figure.savefig(buffer, format=form, dpi=_DPI, metadata=metadata)
                paths[f"{name}.{form}"] = folder / f"{name}.{form}"
                replace(folder / f"{name}.{form}", buffer.getvalue())
    return paths


def layouts(data: FigureData) -> Figure | None:
    """Rows: images. Columns: the image, then each MoTo's entity of the largest share per position, and below
    it the entities' shares over the validation set. None without MoTo."""
    columns = _layout_columns(data)
    if not columns:
        return None
    images = data.maps["images"]
    figure = Figure(figsize=(1.15 * (1 + len(columns)), 1.08 * len(images) + 1.0), layout="constrained")
    grid: Any = figure.subplots(
        len(images) + 1,
        1 + len(columns),
        squeeze=False,
        gridspec_kw={"height_ratios": [1.0] * len(images) + [0.22]},
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for row, image in enumerate(images):
        grid[row][0].imshow(image, interpolation="nearest")
    grid[0][0].set_title("image", fontsize=7)
    for column, (trial, layout) in enumerate(columns, 1):
        colours = entity_colours(layout.shares)
        palette = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
        for row, entity_HW in enumerate(data.maps[f"layout/{trial.identity}/{layout.place}"]):
            height, width = images.shape[1:3]
            grid[row][column].imshow(_enlarged(palette[entity_HW], height, width), interpolation="nearest")
        several = len(trial.layouts) > 1
        title = _wrapped(trial.label) + (f"\n{layout.place}" if several else "")
        grid[0][column].set_title(title, fontsize=7)
        _shares(grid[-1][column], layout, colours)
    grid[-1][0].text(
        1.0,
        0.5,
        "share of\npositions, %",
        ha="right",
        va="center",
        transform=grid[-1][0].transAxes,
        fontsize=7,
    )
    return figure


def _shares(axes: Any, layout: figure_data.Layout, colours: Sequence[str]) -> None:
    """A legend that is a bar: the largest entities with their shares."""
    order = sorted(range(len(layout.shares)), key=lambda entity: -layout.shares[entity])
    axes.set_axis_on()
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    left = 0.0
    for entity in order:
        share = 100 * layout.shares[entity]
        axes.barh(0, share, left=left, color=colours[entity], height=0.5)
        if share >= 14:
            light = colours[entity] in ("#f0e442", "#e69f00", "#56b4e9", *_REST)
            ink = "black" if light else "white"
            axes.text(left + share / 2, 0, f"{share:.0f}", color=ink, ha="center", va="center", fontsize=6.5)
        left += share
    used = sum(share >= 0.01 for share in layout.shares)
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.3, 0.3)
    axes.set_xlabel(
        f"{used} of {len(order)} in use\nη² {layout.brightness:.2f} (fresh {layout.untrained:.2f})",
        fontsize=6.5,
    )


def entity_colours(shares: Sequence[float]) -> list[str]:
    """A colour for each entity, by the order of their shares: ENTITIES, then greys."""
    order = sorted(range(len(shares)), key=lambda entity: -shares[entity])
    found = [""] * len(shares)
    for rank, entity in enumerate(order):
        found[entity] = ENTITIES[rank] if rank < len(ENTITIES) else _REST[(rank - len(ENTITIES)) % len(_REST)]
    return found


def features(data: FigureData) -> Figure | None:
    """Rows: arms. Columns: channels of the tokenizer's output on the first image, each in its own range from
    black to white; above each row its counts of dead and saturated maps."""
    shown = [t for t in data.trials if f"features/{t.identity}" in data.maps][:COLUMNS]
    if not shown:
        return None
    count = max(data.maps[f"features/{t.identity}"].shape[1] for t in shown)
    figure = Figure(figsize=(0.5 * (count + 1) + 0.4, 0.78 * len(shown) + 0.2), layout="constrained")
    parts: Any = np.atleast_1d(np.asarray(figure.subfigures(len(shown), 1, squeeze=False)).ravel())
    for part, trial in zip(parts, shown, strict=True):
        same = [t for t in data.trials if t.label == trial.label]
        dead = ", ".join(str(t.dead) for t in same)
        saturated = ", ".join(str(t.saturated) for t in same)
        part.suptitle(
            f"{trial.label}: {trial.channels} maps; by seed {dead} dead, {saturated} saturated",
            fontsize=7.5,
            x=0.01,
            ha="left",
        )
        grid = part.subplots(1, count + 1, squeeze=False)[0]
        for axes in grid:
            axes.set_axis_off()
        grid[0].imshow(data.maps["images"][0], interpolation="nearest")
        for axes, feature_HW in zip(grid[1:], data.maps[f"features/{trial.identity}"][0], strict=False):
            axes.imshow(feature_HW.astype(np.float32), cmap="gray", interpolation="nearest")
    return figure


def diversity(data: FigureData) -> Figure | None:
    """The three measures of token diversity by arm: a dot a seed, a bar at their mean."""
    labels = _labels(data)
    figure = Figure(figsize=(7.2, 0.9 + 0.26 * len(labels)), layout="constrained")
    axes: Any = figure.subplots(1, len(_MEASURES), sharey=True)
    for part, (field, title) in zip(axes, _MEASURES, strict=True):
        _dots(part, data, labels, operator.attrgetter(field))
        part.set_xlabel(title)
    return figure


def reconstruction(data: FigureData) -> Figure | None:
    """Held-out error of the decoders by arm. None where none was trained."""
    if all(trial.heldout is None for trial in data.trials):
        return None
    labels = _labels(data)
    figure = Figure(figsize=(4.8, 0.9 + 0.26 * len(labels)), layout="constrained")
    axes: Any = figure.subplots()
    _dots(axes, data, labels, operator.attrgetter("heldout"))
    axes.set_xlabel(
        f"held-out squared error after {data.steps} steps\n(bounds H(A|B) from above, up to constants)"
    )
    return figure


_FIGURES: dict[str, Callable[[FigureData], Figure | None]] = {
    "layouts": layouts,
    "features": features,
    "diversity": diversity,
    "reconstruction": reconstruction,
}


def captions(data: FigureData) -> dict[str, str]:
    """What a reader must know of each figure, definitions included."""
    columns = [layout.largest * len(layout.shares) for t in data.trials for layout in t.layouts]
    said = (
        f" The largest share is on average {min(columns):.2f} to {max(columns):.2f} times the uniform 1/n."
        if columns
        else ""
    )
    measured = f"on all {data.validation} validation images"
    return {
        "layouts": "Entity with the largest share at each position, first seed. Colours by size: the same "
        "colour in two columns is not the same entity, and greys are all beyond the eighth. Bars: each "
        f"entity's part of the positions, {measured}; in use are those with 1 % or more. "
        "η²: part of the variance of the positions' brightness that lies between entities, and the same "
        f"of the fresh model: only what differs was learned.{said}",
        "features": "Maps of the tokenizer's output (with what components put behind it) on one image, first "
        f"seed, each scaled to its own range. Counted over all maps {measured}: dead, standard deviation at "
        "most 1 % of the root mean square over the maps; saturated, not dead and more than half of the "
        "values within 1 % of the range at one of its ends.",
        "diversity": f"Diversity of the tokens of an image, mean over images, {measured}; a dot is a seed. "
        "Mean cosine over all pairs of tokens; effective rank, exp of the entropy of the normalised singular "
        "values (Roy & Vetterli 2007); distance from the mean token x̄.",
        "reconstruction": "How well a decoder (TokenProp's at width 1) rebuilds images of side "
        f"{data.scale} from the frozen tokens after {data.steps} steps on training images: mean squared "
        f"error {measured}; smaller is a tighter upper bound on the conditional entropy of the image.",
    }


def section(table: Table, folder: Path) -> str:
    """HTML of the page's panel with the figures that were drawn into `folder`; empty where there are none,
    or where they show trials that the table no longer has. Where their data is damaged the section says so:
    a table does not wait for its figures."""
    try:
        data = figure_data.load(folder)
    except StoreError as error:
        return f'<p class="hole">{html.escape(str(error))}</p>\n'
    if data is None:
        return ""
    known = {identity for row in table.spec.rows for _, identity in row.identities}
    if not all(trial.identity in known for trial in data.trials):
        return ""
    parts = ["<p>What the models learned, from their kept weights.</p>"]
    for name, caption in captions(data).items():
        path = folder / f"{name}.png"
        if path.exists():
            uri = base64.b64encode(path.read_bytes()).decode()
            parts.append(
                f'<figure><img alt="{name}" style="max-width:100%;background:#fff" '
                f'src="data:image/png;base64,{uri}"><figcaption>{html.escape(caption)}</figcaption></figure>'
            )
    for label, why in data.skipped.items():
        parts.append(f'<p class="fine">{html.escape(label)}: not shown, {html.escape(why)}.</p>')
    return "\n".join([*parts, ""])


def _layout_columns(data: FigureData) -> list[tuple[TrialFigures, figure_data.Layout]]:
    found = [(t, layout) for t in data.trials for layout in t.layouts]
    return [(t, m) for t, m in found if f"layout/{t.identity}/{m.place}" in data.maps][:COLUMNS]


def _enlarged(map_HW3: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Nearest neighbours, to the image's size."""
    rows = np.arange(height) * map_HW3.shape[0] // height
    columns = np.arange(width) * map_HW3.shape[1] // width
    enlarged: NDArray[Any] = map_HW3[rows][:, columns]
    return enlarged


def _labels(data: FigureData) -> list[str]:
    return list(dict.fromkeys(trial.label for trial in data.trials))


def _dots(
    axes: Any, data: FigureData, labels: Sequence[str], value_of: Callable[[TrialFigures], float | None]
) -> None:
    for position, label in enumerate(labels):
        found = [value_of(t) for t in data.trials if t.label == label]
        values = [value for value in found if value is not None]
        if values:
            axes.plot(values, [position] * len(values), "o", color=ENTITIES[0], markersize=4, alpha=0.75)
            axes.plot(float(np.mean(values)), position, "|", color="#222222", markersize=12)
    axes.set_yticks(range(len(labels)), [_wrapped(label, 28) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)


def _wrapped(label: str, width: int = 16) -> str:
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
