"""What the statistics promise, counted over synthetic studies whose truth is known.

    python benchmarks/verdicts.py                                # 10,000 studies, some minutes
    python benchmarks/verdicts.py --studies 500                  # half a minute
    python benchmarks/verdicts.py --page docs/statistics.md      # put the figures into the page

Each study has one to eight rows; its values vary by seed, together with the baseline's, so that pairing
matters; some trials fail and some rows diverge. Every study is run twice: with all seeds (the fixed design),
and with sequential seeds that are looked at after every round. Intervals, p values and verdicts come from the
functions that make the tables. Legend: S studies, R rows, N seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from ablator.report import statistics
from ablator.report.effects import ALPHA, BOOTSTRAP_PAIRS, bootstrap_interval
from ablator.report.looks import look, looks_at
from ablator.report.sequential import Arm, SequentialDesign, decide
from ablator.report.statistics import LARGE_EFFECT, Comparison

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ROWS = range(1, 9)
EFFECTS = {-1.0: 0.1, 0.0: 0.3, 0.5: 0.1, 1.0: 0.2, 2.0: 0.2, 3.0: 0.1}
"""True differences, in standard deviations of the differences, and how often each is drawn."""
SHARED, OWN = 1.0, 0.3
"""Deviation of what a seed does to every row alike, and of what it does to each row and the baseline."""
UNIT = OWN * math.sqrt(2.0)
"""Standard deviation of the differences."""
EXPECTED = 2.0
"""What the source reports in every other study, in standard deviations of the differences."""
FAILED, DIVERGED = 0.02, 0.01
"""Chance that a trial fails, and that a row has a diverged seed."""
BOOTSTRAPPED = 1_000
"""Rows whose bootstrap interval is computed."""
NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], FloatArray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails (t, 3 degrees of freedom)": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3.0),
    "skewed (exponential)": lambda rng, shape: rng.standard_exponential(shape) - 1.0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Studies:
    """Studies with the same number of rows: truth (S, R), values (S, R, N), baseline (S, N), diverged (S, R).
    Values of failed and diverged trials are NaN."""

    truth: FloatArray
    """True differences, in the unit of the metric."""
    values: FloatArray
    baseline: FloatArray
    diverged: IntArray
    """The seed that diverges; N where none does."""
    expected: tuple[float | None, ...]

    @property
    def differences(self) -> FloatArray:
        """Arm minus baseline; NaN where either has no value."""
        return self.values - self.baseline[:, None]


def draw(
    rng: np.random.Generator,
    studies: int,
    rows: int,
    seeds: int,
    *,
    null: bool = False,
    noise: str = "normal",
) -> Studies:
    """Fresh studies; with `null` no row differs, and nothing fails or diverges."""
    effects, chances = np.array(list(EFFECTS)), list(EFFECTS.values())
    truth_SR = np.zeros((studies, rows)) if null else UNIT * rng.choice(effects, (studies, rows), p=chances)
    seed_S1N = 80.0 + SHARED * rng.standard_normal((studies, 1, seeds))
    own_SRN = OWN * NOISES[noise](rng, (studies, rows + 1, seeds))
    all_SRN = seed_S1N + own_SRN + np.pad(truth_SR, ((0, 0), (1, 0)))[..., None]
    diverged_SR = np.full((studies, rows), seeds)
    if not null:
        all_SRN[rng.random(all_SRN.shape) < FAILED] = np.nan
        hit_SR = rng.random((studies, rows)) < DIVERGED
        diverged_SR = np.where(hit_SR, rng.integers(seeds, size=(studies, rows)), seeds)
        all_SRN[:, 1:][np.arange(seeds) == diverged_SR[..., None]] = np.nan
    return Studies(
        truth=truth_SR,
        values=all_SRN[:, 1:],
        baseline=all_SRN[:, 0],
        diverged=diverged_SR,
        expected=tuple(EXPECTED * UNIT if index % 2 else None for index in range(studies)),
    )


# ---- the two designs ------------------------------------------------------------------------


def fixed(studies: Studies, index: int) -> list[Comparison]:
    """One study with all of its seeds, as the table compares it."""
    baseline = _by_seed(studies.baseline[index])
    seeds = studies.baseline.shape[-1]
    paired = [
        statistics.compare(_by_seed(values), baseline, bootstrap=False) for values in studies.values[index]
    ]
    ps = [one.p for one in paired]
    return [
        statistics.judge(
            one,
            mode="max",
            p_holm=p_holm,
            family=sum(p is not None for p in ps),
            expected=studies.expected[index],
            diverged=(int(diverged < seeds), seeds),
        )
        for one, p_holm, diverged in zip(paired, statistics.holm(ps), studies.diverged[index], strict=True)
    ]


def stopping(studies: Studies, design: SequentialDesign) -> IntArray:
    """How many seeds each row is asked for, round after round until none is open. Shape (S, R)."""
    law = design.law
    there_SRN = np.isfinite(studies.differences)
    # Differences that are there first, in the order of their seeds.
    order = np.argsort(~there_SRN, axis=-1, kind="stable")
    differences_SRN = np.nan_to_num(np.take_along_axis(studies.differences, order, -1))
    expected_S = np.array([math.nan if one is None else one for one in studies.expected])
    looks = looks_at(differences_SRN, np.broadcast_to(expected_S[:, None], studies.truth.shape), law)
    pairs_SRN = there_SRN.cumsum(-1)
    tried = np.full(studies.truth.shape, design.least)
    while True:
        last = np.take_along_axis(pairs_SRN, tried[..., None] - 1, -1)[..., 0] - design.least
        lost = studies.diverged < tried
        seen = look(law, looks, last, lost)
        open_ = ~(lost | seen.hopeless | (seen.holm < ALPHA)) & (tried < design.most)
        if not open_.any():
            return tried
        tried = tried + open_


def sequential(studies: Studies, index: int, tried_R: IntArray, design: SequentialDesign) -> list[Comparison]:
    """One study with the seeds that its rows were asked for, as `decide` finds it."""
    baseline = _by_seed(studies.baseline[index])
    arms = {
        str(row): Arm(
            values=_by_seed(studies.values[index, row, :tried]),
            baseline=baseline,
            tried=int(tried),
            expected=studies.expected[index],
            diverged=int(studies.diverged[index, row] < tried),
        )
        for row, tried in enumerate(tried_R)
    }
    decisions = decide(arms, design=design)
    assert not any(one.open for one in decisions.values()), "the rounds went on until none was open"
    return [one.comparison for one in decisions.values()]


def _by_seed(values_N: FloatArray) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values_N) if math.isfinite(value)}


# ---- what is counted ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A share of rows or studies, with the half-width of its 95 % interval."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} ± {100 * self.error:.2f} %"


def share(hits_S: FloatArray, of_S: FloatArray) -> Share:
    """Σ hits / Σ of; as rows of one study share their baseline, the error is that of a ratio over studies."""
    value = float(hits_S.sum() / of_S.sum())
    residuals = hits_S - value * of_S
    return Share(value=value, error=float(1.96 * math.sqrt((residuals**2).sum()) / of_S.sum()))


class Tally:
    """Hits and cases by question and study."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, tuple[float, float]]] = {}

    def add(self, question: str, study: int, hit: float, of: float = 1.0) -> None:
        """Count `hit` of `of` cases."""
        hits, cases = self._found.setdefault(question, {}).get(study, (0.0, 0.0))
        self._found[question][study] = (hits + hit, cases + of)

    def share(self, question: str) -> Share:
        """What was counted for one question."""
        hits, cases = np.array(list(self._found[question].values())).T
        return share(hits, cases)

    def shares(self) -> dict[str, Share]:
        """Every question, in the order in which they came up."""
        return {question: self.share(question) for question in self._found}


def count(
    tally: Tally,
    design: str,
    study: int,
    truth_R: FloatArray,
    found: list[Comparison],
    expected: float | None,
) -> None:
    """One study under one design."""
    matters = expected or LARGE_EFFECT * UNIT
    false = False
    for truth, one in zip(truth_R, found, strict=True):
        effect = f"{truth / UNIT:g}"
        if one.low is not None and one.high is not None:
            tally.add(f"{design}: coverage", study, one.low <= truth <= one.high)
            tally.add(f"{design}: coverage, true effect {effect}", study, one.low <= truth <= one.high)
        rejected = one.p_holm is not None and one.p_holm < ALPHA
        false |= truth == 0 and rejected
        tally.add(f"{design}: supported, true effect {effect}", study, one.verdict == "supported")
        if truth >= matters and "diverged" not in one.reason:
            tally.add(
                f"{design}: not supported, but as large as asked for", study, one.verdict == "not supported"
            )
    if (truth_R == 0).any():
        tally.add(f"{design}: a row without effect is found to differ", study, false)
    wrong = any(one.verdict == "supported" for one, t in zip(found, truth_R, strict=True) if t <= 0)
    tally.add(f"{design}: false support in a study", study, wrong)


def simulate(studies: int, design: SequentialDesign, seed: int) -> dict[str, Share]:
    """Both designs over `studies` studies with effects, failures and divergence."""
    tally = Tally()
    rng = np.random.default_rng(seed)
    for start, group in groups(rng, studies, design):
        tried_SR = stopping(group, design)
        for index, tried_R in enumerate(tried_SR):
            study, truth_R = start + index, group.truth[index]
            both = fixed(group, index), sequential(group, index, tried_R, design)
            for name, found in zip(("fixed", "sequential"), both, strict=True):
                count(tally, name, study, truth_R, found, group.expected[index])
            for whole, early in zip(*both, strict=True):
                tally.add("same verdict", study, whole.verdict == early.verdict)
                agree = (whole.verdict == "supported") == (early.verdict == "supported")
                tally.add("same answer, supported or not", study, agree)
                if whole.verdict == "supported":
                    tally.add("supported stays supported", study, early.verdict == "supported")
            # The baseline is trained for as long as any row wants it.
            used = tried_R.sum() + tried_R.max()
            tally.add("trials used", study, used, design.most * (len(tried_R) + 1))
    return tally.shares()


def null_errors(studies: int, design: SequentialDesign, seed: int) -> dict[str, Share]:
    """Family-wise error where no row differs: fixed, sequential, and with looks that nothing ever ends."""
    tally = Tally()
    rng = np.random.default_rng(seed)
    law = design.law
    for noise in NOISES:
        for start, group in groups(rng, studies, design, null=True, noise=noise):
            looks = looks_at(group.differences, np.full(group.truth.shape, math.nan), law)
            tried_SR = stopping(group, design)
            ends = {
                "fixed": statistics.step_down(stats.ttest_1samp(group.differences, 0.0, axis=-1).pvalue),
                "sequential": look(law, looks, tried_SR - design.least, tried_SR < 0).holm,
                "sequential, never stopped for futility": statistics.step_down(looks.p[..., -1]),
            }
            for name, holm_SR in ends.items():
                for index, false in enumerate((holm_SR < ALPHA).any(axis=-1)):
                    tally.add(f"{name}: {noise}", start + index, float(false))
    return tally.shares()


def bootstrap_coverage(design: SequentialDesign, seed: int) -> dict[str, Share]:
    """Coverage of the bootstrap interval in fixed designs of the fewest and the most pairs that get one."""
    tally = Tally()
    rng = np.random.default_rng(seed)
    for pairs in (BOOTSTRAP_PAIRS, design.most):
        for row in range(BOOTSTRAPPED):
            ends = bootstrap_interval(list(rng.standard_normal(pairs)))
            if ends is not None:
                tally.add(f"bootstrap, {pairs} pairs", row, ends[0] <= 0.0 <= ends[1])
    return tally.shares()


def groups(
    rng: np.random.Generator,
    studies: int,
    design: SequentialDesign,
    *,
    null: bool = False,
    noise: str = "normal",
) -> Iterator[tuple[int, Studies]]:
    """`studies` studies by their number of rows, and the number of the first study of each group."""
    start = 0
    for position, rows in enumerate(ROWS):
        size = (studies + position) // len(ROWS)
        if size:
            yield start, draw(rng, size, rows, design.most, null=null, noise=noise)
        start += size


def measure(studies: int, design: SequentialDesign, seed: int) -> dict[str, dict[str, Share]]:
    """Every figure of the page, by section."""
    return {
        "null": null_errors(studies, design, seed),
        "studies": simulate(studies, design, seed + 1),
        "bootstrap": bootstrap_coverage(design, seed + 2),
    }


# ---- the page -------------------------------------------------------------------------------

MARKS = ("<!-- figures -->\n", "<!-- /figures -->")
"""Between these the page has the figures; the rest of it is written by hand."""


def tables(found: dict[str, dict[str, Share]]) -> str:
    """The figures as Markdown."""
    null, counted = found["null"], found["studies"]
    lines = ["### No row has an effect: studies with any row found to differ (at most 5 %)", ""]
    designs = ("fixed", "sequential", "sequential, never stopped for futility")
    lines += [_head("noise of the seeds", *designs)]
    lines += [_line(noise, *(null[f"{design}: {noise}"] for design in designs)) for noise in NOISES]
    lines += ["", "### Some rows have one", "", _head("", "fixed", "sequential")]
    questions = {
        "a row without effect is found to differ": (
            "studies in which a row without effect is found to differ (at most 5 %)"
        ),
        "false support in a study": "studies that support a row that is no better (at most 2.5 %)",
        "not supported, but as large as asked for": (
            "rows *not supported* although they are as good as was asked for"
        ),
        "coverage": "intervals that hold the true difference (95 ± 1 %)",
    }
    lines += [
        _line(text, counted[f"fixed: {question}"], counted[f"sequential: {question}"])
        for question, text in questions.items()
    ]
    lines += ["", "### By true difference, in standard deviations of the differences", ""]
    lines += [_head("", "supported, fixed", "sequential", "interval holds it, fixed", "sequential")]
    for effect in EFFECTS:
        keys = (
            f"{design}: {what}, true effect {effect:g}"
            for what in ("supported", "coverage")
            for design in ("fixed", "sequential")
        )
        lines += [_line(f"{effect:+g}".replace("-", "−"), *(counted[key] for key in keys))]
    lines += ["", "### The sequential design beside the fixed one, study by study", "", _head("", "share")]
    lines += [
        _line("trials trained, the baseline's included (at most 60 %)", counted["trials used"]),
        _line("rows with the same answer, supported or not", counted["same answer, supported or not"]),
        _line("rows with the same verdict", counted["same verdict"]),
        _line("supported rows that stay supported", counted["supported stays supported"]),
    ]
    lines += ["", "### Bootstrap intervals that hold the true difference", "", _head("", "share")]
    lines += [_line(name, found) for name, found in found["bootstrap"].items()]
    return "\n".join(lines)


def _head(first: str, *others: str) -> str:
    return f"| {' | '.join((first, *others))} |\n| --- |{' ---: |' * len(others)}"


def _line(first: str, *others: Share) -> str:
    return f"| {' | '.join((first, *map(str, others)))} |"


def with_figures(
    text: str, found: dict[str, dict[str, Share]], studies: int, design: SequentialDesign, seed: int
) -> str:
    """The page `text` with these figures in place of its own."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    command = f"python benchmarks/verdicts.py --studies {studies} --page docs/statistics.md"
    setting = (
        f"{studies:,} synthetic studies with {ROWS[0]} to {ROWS[-1]} rows and {design.most} seeds,\n"
        f"sequential from {design.least} on, drawn with random seed {seed}; written by `{command}`.\n"
        "After ± is the half-width of each share's 95 % interval."
    )
    assert rest, "the page has a place for the figures"
    return f"{before}{MARKS[0]}{setting}\n\n{tables(found)}\n{MARKS[1]}{after}"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--least", type=int, default=3, help="seeds that a sequential design begins with")
    parser.add_argument("--most", type=int, default=12, help="seeds of the fixed design, and at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="also put the figures into this page")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON here")
    options = parser.parse_args()
    design = SequentialDesign(least=options.least, most=options.most)
    found = measure(options.studies, design, options.seed)
    print(tables(found))
    if options.page is not None:
        text = options.page.read_text(encoding="utf-8")
        text = with_figures(text, found, options.studies, design, options.seed)
        options.page.write_text(text, encoding="utf-8")
    if options.output is not None:
        plain = {
            section: {name: dataclasses.asdict(one) for name, one in shares.items()}
            for section, shares in found.items()
        }
        options.output.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
