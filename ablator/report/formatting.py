"""How numbers are written, the same in every output. Minus is U+2212, which is as wide as plus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ablator.report.table import STATUSES, Further, Row, Table, TableSpec

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
ARROWS = {"max": "↑", "min": "↓"}


def number(value: float | None, decimals: int) -> str:
    """`79.80`; empty for None."""
    if value is None:
        return ""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float | None, decimals: int) -> str:
    """`+0.53`, `−0.53`, and `0.00` for what rounds to nothing; empty for None."""
    if value is None:
        return ""
    text = number(value, decimals)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def decimals_of(values: Iterable[float | None]) -> int:
    """Digits after the point that suit a column: 2 from 10 upwards (percentages), 3 from 1, else 4."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 2 if largest >= 10 else 3 if largest >= 1 else 4


def printed_decimals(values: Iterable[float | None]) -> int:
    """Digits after the point with which a source printed its numbers: the most that one of them needs."""
    return max((len(_fraction(value)) for value in values if value is not None), default=0)


def _fraction(value: float) -> str:
    return f"{value:.6f}".partition(".")[2].rstrip("0")


def mean_std(mean: float | None, std: float | None, decimals: int) -> str:
    """`79.80 ± 0.12`, without the second part where one value has no deviation."""
    return number(mean, decimals) + ("" if std is None else f" ± {number(std, decimals)}")


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """`[+0.12, +0.94]`; empty where it is undefined."""
    return "" if low is None or high is None else f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def p_value(p: float | None) -> str:
    """Three digits, or `<0.001`; empty for None."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def millions(count: float | None) -> str:
    """`22.05` for 22,050,664; four digits below a million."""
    return "" if count is None else number(count / 1e6, 2 if count >= 1e6 else 4)


def giga(macs: float | None) -> str:
    """`4.61`; four digits below one."""
    return "" if macs is None else number(macs, 2 if macs >= 1 else 4)


def ratio(value: float | None) -> str:
    """`×0.98`; empty for None."""
    return "" if value is None else f"×{value:.2f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `3.5 min`, `12.0 h`; empty for None."""
    if seconds is None:
        return ""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.1f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def status_text(row: Row) -> str:
    """`diverged (2/2)`, or several of them; `OOM` where all completed cells have that word; empty where every
    cell has a value."""
    total = len(row.cells)
    parts = [
        f"{status} ({row.counts[status]}/{total})"
        for status in STATUSES
        if status != "completed" and row.counts[status]
    ]
    return ", ".join([*words_text([cell.word for cell in row.cells if cell.word], total), *parts])


def value_text(row: Row, decimals: int) -> str:
    """The row's mean and deviation, or why there is none; never a number for a row that has none."""
    return status_text(row) if row.mean is None else mean_std(row.mean, row.std, decimals)


def words_text(words: Sequence[str], total: int) -> list[str]:
    """`OOM` where all of `total` trials have the word, else `OOM (1/3)`."""
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    return [word if count == total else f"{word} ({count}/{total})" for word, count in counts.items()]


def further_text(found: Further, decimals: int) -> str:
    """Mean and deviation, and what stands in the place of numbers."""
    value = [mean_std(found.mean, found.std, decimals)] if found.n else []
    return ", ".join([*value, *words_text(found.words, found.n + len(found.words))])


def count_text(row: Row) -> str:
    """`3`, or `2/3` where cells of the plan have no value."""
    return str(row.n) if row.n == len(row.cells) else f"{row.n}/{len(row.cells)}"


def marks(row: Row) -> str:
    """The numbers of the row's footnotes, superscript."""
    return ",".join(str(number) for number in row.footnotes).translate(SUPERSCRIPTS)


def label_text(row: Row) -> str:
    """The label on one line, with its footnote marks."""
    return " ".join(row.label.split()) + marks(row)


def table_decimals(table: Table) -> int:
    """Digits after the point of the metric and its differences."""
    return decimals_of(cell.value for row in table.rows for cell in row.cells)


def summary(table: Table) -> str:
    """The verdicts, in one sentence."""
    verdicts = [row.comparison.verdict for row in table.rows if row.comparison is not None]
    if not verdicts:
        return "There is no arm to compare with the baseline."
    if table.spec.test == "none":
        return f"Of {len(verdicts)} arm{'' if len(verdicts) == 1 else 's'}: none tested, as the study asks."
    counts = [f"{verdicts.count(kind)} {kind}" for kind in ("supported", "not supported", "underpowered")]
    arms = "arm" if len(verdicts) == 1 else "arms"
    return f"Of {len(verdicts)} {arms}: {', '.join(counts)}."


def results_text(table: Table) -> str:
    """`14`, or `12/14` where trials have no result."""
    account = table.account
    there = account.planned - account.failed - account.missing
    return str(account.planned) if there == account.planned else f"{there}/{account.planned}"


def studies_text(tables: Sequence[Table]) -> str:
    """`14 studies`, and how many of them are not complete."""
    count = f"{len(tables)} {'study' if len(tables) == 1 else 'studies'}"
    holes = sum(not table.complete for table in tables)
    return f"{count}, {holes} of them with holes" if holes else count


def rule(spec: TableSpec) -> str:
    """What Δ, interval, p and the verdicts mean, for readers of the table."""
    if spec.sequential is None:
        test = "with its 95 % t interval; p: two-sided paired t test, Holm-adjusted over the table."
    else:
        test = (
            "with an interval that holds 95 % where rows stop early; p: two-sided, paired, valid at every "
            "look, Holm-adjusted over the table."
        )
    return (
        "Mean ± standard deviation over the n completed seeds. Δ: mean difference from the baseline (the one "
        f"under `against`, where there is that column), paired by seed, {test} Supported: better with p "
        "below 0.05. Not supported: worse with p below 0.05, or the interval rules out the difference that "
        "the source reports (or, without one, a large effect). Underpowered: the seeds are too few, or vary "
        "too much, for either. A row with a diverged seed is not supported. FLOPs are counted as "
        "multiply-adds, as papers print them."
    )


def reason(error: str | None) -> str:
    """What an error says in one line: its last, which in a traceback names the exception."""
    lines = (error or "").strip().splitlines()
    return lines[-1].strip() if lines else ""
