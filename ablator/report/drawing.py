"""How figures of the page are drawn: as SVG text whose colours are CSS variables of the page, so that they
follow its light or dark scheme, and such that the same table gives the same bytes."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

WIDTH = 4.8
"""Inches; small, so that the text of a figure is still readable on a phone."""
SERIES = 8
"""Colours of the page for series, `--series-0` to `--series-7`; at most so many curves are drawn."""
COLOURS = {"ink": "#010101", "muted": "#020202", "line": "#030303"}
COLOURS |= {"good": "#040404", "reported": "#050505"}
COLOURS |= {f"series-{index}": f"#0606{index:02x}" for index in range(SERIES)}
# Stand-ins that nothing else is drawn in; `svg` puts the page's variables in their place.
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["ink"],
    "text.color": COLOURS["ink"],
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "path.simplify": True,
}


@contextmanager
def style(salt: str) -> Iterator[None]:
    """The page's style of figures; `salt` names the figure and decides its ids."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        yield


def svg(figure: Figure, title: str, *, cut: bool = False) -> str:
    """The figure, `cut` to what is drawn or as large as it is, with the page's colours, and without XML
    prologue, metadata and unused ids."""
    buffer = io.StringIO()
    box = "tight" if cut else None
    metadata = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata, bbox_inches=box)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-z0-9.]*_\d+"', "", text)
    text = re.sub(r"font: ([^;\"]*?)'[^\"]*?sans-serif", r"font: \1sans-serif", text)
    for name, stand_in in COLOURS.items():
        text = text.replace(stand_in, f"var(--{name})")
    head = f'<svg role="img" aria-label="{html.escape(title)}" class="figure"'
    return text.replace("<svg", head, 1).rstrip() + "\n"


def scoped(figure: str, scope: str) -> str:
    """The figure's ids, and what refers to them, with `scope` before them, so that a page may have several
    of the same kind."""
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{scope}-", figure)


def short(label: str, longest: int = 30) -> str:
    """A label on one line of at most `longest` characters."""
    line = " ".join(label.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
