"""How studies, plans and results show themselves in a notebook: one compact table as HTML.

Colours and backgrounds are the notebook's own, so that it reads on light and on dark. Every text is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

_CELL = "padding:.15em .6em;border:0;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)"


def inline_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    notes: Sequence[str] = (),
    numeric: Sequence[bool] = (),
) -> str:
    """The table with its caption above and notes below; `numeric` columns are aligned to the right, all
    others to the left."""
    right = [*numeric, *[False] * (len(titles) - len(numeric))]
    head = "".join(_cell("th", title, to_right) for title, to_right in zip(titles, right, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell('td', cell, to_right) for cell, to_right in zip(row, right, strict=True))}</tr>"
        for row in rows
    )
    below = "".join(f"<div>{html.escape(note)}</div>" for note in notes)
    return (
        f'<div style="font-size:.9em">'
        f'<table style="border-collapse:collapse;font-variant-numeric:tabular-nums">'
        f'<caption style="text-align:left;caption-side:top;font-weight:600">{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<div style="opacity:.75">{below}</div></div>'
    )


def _cell(tag: str, text: str, right: bool) -> str:
    align = "right" if right else "left"
    return f'<{tag} style="{_CELL};text-align:{align};white-space:nowrap">{html.escape(text)}</{tag}>'
