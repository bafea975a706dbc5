"""The table as LaTeX: a `table` with booktabs rules, for pdflatex, xelatex and lualatex alike."""

from __future__ import annotations

import unicodedata

from ablator.report.columns import GROUP_TITLES, Column, columns, grouped, interaction_columns
from ablator.report.table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "✓": r"$\surd$",
    **{digit: rf"\textsuperscript{{{index}}}" for index, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
_LATIN_LOOKALIKES = {
    "alpha": "A",
    "beta": "B",
    "epsilon": "E",
    "zeta": "Z",
    "eta": "H",
    "iota": "I",
    "kappa": "K",
}
_LATIN_LOOKALIKES |= {"mu": "M", "nu": "N", "rho": "P", "tau": "T", "chi": "X", "omicron": "O"}


def escape(text: str) -> str:
    """`text` on one line, such that LaTeX prints it as it is; Greek letters become mathematics."""
    return "".join(_SPECIAL.get(char) or _greek(char) for char in " ".join(text.split()))


def _greek(char: str) -> str:
    match unicodedata.name(char, "").split():
        case ["GREEK", "SMALL", "LETTER", name]:
            return "o" if name == "OMICRON" else rf"$\{name.lower().replace('lamda', 'lambda')}$"
        case ["GREEK", "CAPITAL", "LETTER", name]:
            lower = name.lower().replace("lamda", "lambda")
            return _LATIN_LOOKALIKES.get(lower, rf"$\{lower.capitalize()}$")
    return char


def render_latex(table: Table, costs: bool = True) -> str:
    """A floating table of parts below each other, results, further metrics and the rest, which fit a page's
    width together no more; with `costs=False` without what was measured in time and memory."""
    spec = table.spec
    shown = columns(table, costs=costs)
    results = [column for column in shown[1:] if column.group in ("result", "test")]
    further = [column for column in shown[1:] if column.group == "further"]
    rest = [column for column in shown[1:] if column.group not in ("result", "test", "further")]
    sentences = (spec.question, spec.source, f"Profile {spec.profile}")
    title = " ".join(part if part[-1] in ".?!" else f"{part}." for part in sentences if part)
    notes = [
        rf"\textsuperscript{{{number}}}~{escape(note)}"
        for number, note in enumerate(table.footnotes, start=1)
    ]
    notes += [escape(note) for note in table.notes]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(title)}}}",
        rf"\label{{tab:{spec.study}}}",
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        *_tabular([shown[0], *results]),
        *([r"\par\medskip", *_tabular([shown[0], *further])] if further else []),
        *([r"\par\medskip", *_tabular([shown[0], *rest])] if rest else []),
        *([r"\par\medskip", *_tabular(interaction_columns(table))] if table.interactions else []),
        *([r"\par\smallskip", " \\\\\n".join(notes)] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(shown: list[Column]) -> list[str]:
    rows = zip(*(column.cells for column in shown), strict=True)
    return [
        rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in shown)}}}",
        r"\toprule",
        *_group_heads(shown),
        " & ".join(_title(column) for column in shown) + r" \\",
        r"\midrule",
        *(" & ".join(_cell(cell) for cell in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _title(column: Column) -> str:
    # The heading above says already that these are reported.
    return escape(column.title.removeprefix("reported "))


def _cell(cell: str) -> str:
    # A row that starts with [ would be read as the optional argument of the \\ before it.
    escaped = escape(cell)
    return f"{{{escaped}}}" if escaped.startswith("[") else escaped


def _group_heads(shown: list[Column]) -> list[str]:
    heads, rules, start = [], [], 1
    for group, count in grouped(shown):
        name = GROUP_TITLES[group]
        heads.append(rf"\multicolumn{{{count}}}{{c}}{{{escape(name)}}}" if name else "")
        rules.extend([rf"\cmidrule(lr){{{start}-{start + count - 1}}}"] if name else [])
        start += count
    return [" & ".join(heads) + r" \\", "".join(rules)]
