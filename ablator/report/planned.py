"""A plan in the terminal: every trial with what it changes, its size, its cost, and what is there already."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ablator.plan.cost import Estimate, total
from ablator.plan.planning import Plan
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import Trial
from ablator.report.formatting import duration, giga, millions
from ablator.study.overlay import value_text
from ablator.study.spaces import Dimension

LONG = 60
"""A plan of more trials shows one line an arm instead of one a trial."""
_UNITS = (("EFLOP", 1e3), ("PFLOP", 1.0), ("TFLOP", 1e-3), ("GFLOP", 1e-6))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Priced:
    """A trial with what is known of its cost; None where sizes were not asked for."""

    trial: Trial
    cached: bool
    """Whether the ledger has its record."""
    parameters: int | None = None
    gmacs: float | None = None
    cost: Estimate | None = None


def render_plan(plan: Plan, priced: Sequence[Priced]) -> RenderableType:
    """The plan's trials (as `priced`, in order), its searches, and what all comes to."""
    study = plan.study
    parts: list[RenderableType] = [
        Text(study.study, style="bold") + Text(f"  {study.source} · profile {plan.profile}")
    ]
    parts += [Text(study.question)] if study.question else []
    parts += [Text(), _table(plan, priced), Text()]
    parts += [line for search in plan.searches for line in _search(search)]
    parts += [Text(f"Note: {note}", style="dim") for note in plan.notes]
    return Group(*parts, Text(total_line(plan, priced)))


def total_line(plan: Plan, priced: Sequence[Priced]) -> str:
    """How many trials, how many of them are there already, and what the rest will cost."""
    one_each = {item.trial.identity: item for item in priced}
    todo = [item for item in one_each.values() if not item.cached]
    text = f"{_count(len(one_each), 'trial')}, {len(one_each) - len(todo)} cached, {len(todo)} to train"
    if len(one_each) < len(priced):
        text += f" ({len(priced) - len(one_each)} equal to another row's)"
    samples = sum(search.samples * len(search.seeds) for search in plan.searches)
    text += f", and up to {samples} of searches" if samples else ""
    costs = [item.cost for item in todo if item.cost is not None]
    if not costs:
        return text
    cost = total(costs)
    unit, size = flop_unit([cost])
    time = f"about {duration(cost.seconds)} one after the other" if cost.seconds is not None else ""
    return f"{text}: {flop_text(cost.pflop, size)} {unit} of training, {time or 'time: no measurement yet'}"


def flop_unit(costs: Iterable[Estimate]) -> tuple[str, float]:
    """The unit in which the largest of `costs` is a number of at most a few digits, in PFLOP."""
    largest = max((cost.pflop for cost in costs), default=0.0)
    return next(((unit, size) for unit, size in _UNITS if largest >= size), _UNITS[-1])


def flop_text(pflop: float, size: float) -> str:
    """Three significant digits of `pflop`, in a unit of `size` PFLOP."""
    value = pflop / size
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".") if value else "0"


def _table(plan: Plan, priced: Sequence[Priced]) -> RichTable:
    costs = [item.cost for item in priced if item.cost is not None]
    timed = any(cost.seconds is not None for cost in costs)
    unit, unit_size = flop_unit(costs)
    table = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0)
    )
    long = len(priced) > LONG
    table.add_column("arm", overflow="fold")
    table.add_column("seeds" if long else "seed", justify="right", no_wrap=True)
    table.add_column("differs from the baseline in", overflow="fold")
    for title in ("params M", "GMACs", unit, *(("time",) if timed else ())) if costs else ():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("cached", justify="right", no_wrap=True)
    for lines in _by_arm(priced).values() if long else [[item] for item in priced]:
        cells = [lines[0].trial.label, _seeds(lines), changes_text(plan, lines[0].trial)]
        cells += _numbers(lines, unit_size, timed) if costs else []
        done = sum(item.cached for item in lines)
        cells.append(f"{done}/{len(lines)}" if long else "yes" if done else "")
        table.add_row(*(Text(cell) for cell in cells), style="dim" if done == len(lines) else "")
    return table


def _numbers(lines: Sequence[Priced], unit_size: float, timed: bool) -> list[str]:
    first = lines[0]
    cost = total(item.cost for item in lines if item.cost is not None)
    cells = [millions(first.parameters), giga(first.gmacs), flop_text(cost.pflop, unit_size)]
    return [*cells, duration(cost.seconds)] if timed else cells


def _by_arm(priced: Sequence[Priced]) -> Mapping[int, list[Priced]]:
    found: dict[int, list[Priced]] = {}
    for item in priced:
        found.setdefault(item.trial.arm, []).append(item)
    return found


def _seeds(lines: Sequence[Priced]) -> str:
    seeds = [item.trial.seed for item in lines]
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def changes_text(plan: Plan, trial: Trial) -> str:
    """`moto.n = 2, moto.partition = soft`; for the baseline's own row that it is the baseline."""
    if trial.arm == plan.arms[0].index:
        return "(baseline)"
    return ", ".join(f"{key} = {_value(value)}" for key, value in trial.changes.items())


def _value(value: object) -> str:
    return {"{}": "on", "null": "off"}.get(text := value_text(value), text)


def _search(search: SearchPlan) -> list[RenderableType]:
    cells = search.space.cells()
    draws = f"{_count(search.samples, 'sample')} × {_count(len(search.seeds), 'seed')}"
    head = f"{draws} by {search.sampler} (seed {search.sampler_seed}) of "
    head += f"{cells:,} different points" if cells is not None else "a space with continuous dimensions"
    head += f", early stopping by {search.stop.kind}" if search.stop else ""
    lines = [Text(f"Search: {search.label}", style="bold"), Text(f"  {head}")]
    lines += [Text(f"  {key}: {_dimension(d)}") for key, d in search.space.dimensions.items()]
    return [*lines, Text()]


def _dimension(dimension: Dimension) -> str:
    if dimension.kind == "categorical":
        text = ", ".join(value_text(choice) for choice in dimension.choices)
    else:
        text = f"{dimension.kind} from {dimension.low:g} to {dimension.high:g}"
        text += f", step {dimension.step:g}" if dimension.step is not None else ""
        text += ", logarithmic" if dimension.log else ""
    where = ", ".join(f"{key} = {value_text(value)}" for key, value in dimension.when.items())
    return f"{text}  (where {where})" if where else text


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
