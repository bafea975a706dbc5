"""A plan in the terminal: every trial with what it changes, its size, its cost, and what is there already."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from ablator.plan.cost import Estimate, total
from ablator.plan.matrix import Matrix, matrix
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
    """Whether the ledger has its record; of what others start from, whether its weights are kept."""
    parameters: int | None = None
    gmacs: float | None = None
    cost: Estimate | None = None
    study: str = ""
    """Its study's name, of what others start from."""
    recorded: bool = False
    """The same: whether the ledger has its record."""


def render_plan(plan: Plan, priced: Sequence[Priced], starts: Sequence[Priced] = ()) -> RenderableType:
    """The plan's trials (as `priced`, in order), its searches, what its trials start from, and what all comes
    to."""
    study = plan.study
    parts: list[RenderableType] = [
        Text(study.study, style="bold") + Text(f"  {study.source} · profile {plan.profile}")
    ]
    parts += [Text(study.question)] if study.question else []
    parts += [Text(), _table(plan, priced), Text()]
    parts += _design(matrix(plan))
    parts += [line for search in plan.searches for line in _search(search)]
    parts += [Text(f"Note: {note}", style="dim") for note in plan.notes]
    parts += [Text(line) for line in start_lines(starts)]
    return Group(*parts, Text(total_line(plan, priced)))


PAST = {"train": "trained", "measure": "measured", "run": "ran"}
"""Of what `verb` says."""


def verb(plans: Sequence[Plan]) -> str:
    """What is done with the plans' trials: train, measure (a task that trains nothing), or run (both)."""
    kinds = {trial.spec.trains for plan in plans for trial in plan.trials}
    kinds |= {True for plan in plans if plan.searches}
    return "run" if len(kinds) > 1 else "measure" if kinds == {False} else "train"


def total_line(plan: Plan, priced: Sequence[Priced]) -> str:
    """How many trials, how many of them are there already, and what the rest will cost."""
    one_each = {item.trial.identity: item for item in priced}
    todo = [item for item in one_each.values() if not item.cached]
    text = (
        f"{_count(len(one_each), 'trial')}, {len(one_each) - len(todo)} cached, {len(todo)} to {verb([plan])}"
    )
    if len(one_each) < len(priced):
        text += f" ({len(priced) - len(one_each)} equal to another row's)"
    samples = sum(search.samples * len(search.seeds) for search in plan.searches)
    text += f", and up to {samples} of searches" if samples else ""
    if plan.sequential is None:
        return text + _cost_text(todo)
    said, to = plan.sequential, verb([plan])
    begun = [item for item in todo if item.trial.seed in plan.seeds[: said.min]]
    return (
        f"sequential seeds: {said.min} a row at first, {len(begun)} to {to}{_cost_text(begun)}\n"
        f"then one more at a time where a row is not decided, up to {said.max}: at most "
        f"{text}{_cost_text(todo)}"
    )


def bound_line(
    plans: Sequence[Plan], priced: Sequence[Sequence[Priced]], starts: Sequence[Sequence[Priced]] = ()
) -> str:
    """The same over several studies, with how many trainings are saved because they share trials, and what
    is trained beside them because trials start from it."""
    each = [{item.trial.identity: item for item in items} for items in priced]
    one_each: dict[str, Priced] = {}
    for items in each:
        one_each |= items
    todo = [item for item in one_each.values() if not item.cached]
    beside = {
        item.trial.identity: item
        for items in starts
        for item in items
        if not item.cached and (item.recorded or item.trial.identity not in one_each)
    }
    samples = sum(search.samples * len(search.seeds) for plan in plans for search in plan.searches)
    line = shared_line(
        planned=sum(map(len, each)),
        studies=len(plans),
        shared=sum(map(len, each)) - len(one_each),
        cached=len(one_each) - len(todo),
        samples=samples,
        needed=len(beside),
        to=verb(plans),
    )
    return line + _cost_text([*todo, *beside.values()])


def shared_line(
    *, planned: int, studies: int, shared: int, cached: int, samples: int, needed: int, to: str
) -> str:
    """`84 trials of 14 studies; 31 shared, 10 cached, so 43 to train`: of the different trials, those in the
    ledger are cached; `samples` of searches and what is `needed` of other studies come on top. `to` is the
    verb."""
    text = f"{_count(planned, 'trial')} of {studies} studies; {shared} shared"
    text += f", {cached} cached" if cached else ""
    text += f", so {planned - shared - cached} to {to}"
    text += f", and up to {samples} of searches" if samples else ""
    return text + (f"; first {needed_text(needed)}" if needed else "")


def needed_text(count: int) -> str:
    """`12 trials whose weights others start from`."""
    return f"{_count(count, 'trial')} whose weights others start from"


def start_lines(starts: Sequence[Priced]) -> list[str]:
    """What a plan's trials start from, a line a study: `starts from designs: DeiT-S; intra (seeds 0, 1): 4
    trials, 1 kept, 1 to train again for the weights, 2 to train first`, and what that will cost."""
    lines = []
    for name in dict.fromkeys(item.study for item in starts):
        own = [item for item in starts if item.study == name]
        seeds = ", ".join(map(str, dict.fromkeys(item.trial.seed for item in own)))
        labels = "; ".join(dict.fromkeys(item.trial.label for item in own))
        again = sum(item.recorded and not item.cached for item in own)
        kept = sum(item.cached for item in own)
        text = f"starts from {name}: {labels} (seeds {seeds}): {_count(len(own), 'trial')}, {kept} kept"
        text += f", {again} to train again for the weights" if again else ""
        text += f", {len(own) - kept - again} to train first"
        lines.append(text + _cost_text([item for item in own if not item.cached]))
    return lines


def _cost_text(todo: Sequence[Priced]) -> str:
    costs = [item.cost for item in todo if item.cost is not None]
    if not costs:
        return ""
    cost = total(costs)
    unit, size = flop_unit([cost])
    time = f"about {duration(cost.seconds)} one after the other" if cost.seconds is not None else ""
    return f": {flop_text(cost.pflop, size)} {unit} of training, {time or 'time: no measurement yet'}"


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
    sized = any(item.gmacs is not None for item in priced)
    titles = ("params M", "GMACs") if sized else ()
    for title in (*titles, *((unit,) if costs else ()), *(("time",) if timed else ())):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("cached", justify="right", no_wrap=True)
    for lines in _by_arm(priced).values() if long else [[item] for item in priced]:
        cells = [lines[0].trial.label, _seeds(lines), changes_text(plan, lines[0].trial)]
        cells += [millions(lines[0].parameters), giga(lines[0].gmacs)] if sized else []
        cells += _costs(lines, unit_size, timed) if costs else []
        done = sum(item.cached for item in lines)
        cells.append(f"{done}/{len(lines)}" if long else "yes" if done else "")
        table.add_row(*(Text(cell) for cell in cells), style="dim" if done == len(lines) else "")
    return table


def _design(found: Matrix) -> list[RenderableType]:
    """The design matrix, indented, and what it can answer."""
    if not found.keys:
        return []
    table = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0)
    )
    for title in ("row", *found.keys, "against", "seeds"):
        # Long keys break at their dots rather than make the matrix wide.
        table.add_column(title.replace(".", ".\n", 1), overflow="fold")
    for row in found.rows:
        cells = (row.label, *row.values, row.against or "", _range(row.seeds))
        table.add_row(*(Text(cell) for cell in cells))
    lines: list[RenderableType] = [Text("Design", style="bold"), Padding(table, (0, 0, 0, 2))]
    if found.effects:
        lines.append(
            Text(f"  Effects that can be told (rows differ in nothing else): {', '.join(found.effects)}")
        )
    if found.interactions:
        crossed = ", ".join(" × ".join(pair) for pair in found.interactions)
        lines.append(Text(f"  Interactions that can be told (crossed, all else equal): {crossed}"))
    lines += [Text(f"  Warning: {text}", style="yellow") for text in found.confounded]
    return [*lines, Text()]


def _costs(lines: Sequence[Priced], unit_size: float, timed: bool) -> list[str]:
    cost = total(item.cost for item in lines if item.cost is not None)
    cells = [flop_text(cost.pflop, unit_size)]
    return [*cells, duration(cost.seconds)] if timed else cells


def _by_arm(priced: Sequence[Priced]) -> Mapping[int, list[Priced]]:
    found: dict[int, list[Priced]] = {}
    for item in priced:
        found.setdefault(item.trial.arm, []).append(item)
    return found


def _seeds(lines: Sequence[Priced]) -> str:
    return _range([item.trial.seed for item in lines])


def _range(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def changes_text(plan: Plan, trial: Trial) -> str:
    """`moto.n = 2, moto.partition = soft`; for a baseline's own row that it is one, and for a row that is not
    compared with the first baseline, with which it is."""
    arm, first = plan.arms[trial.arm], plan.arms[0]
    if arm is first:
        return "(baseline)"
    text = ", ".join(f"{key} = {_value(value)}" for key, value in trial.changes.items())
    if arm.kind == "baseline":
        return f"(further baseline) {text}".rstrip()
    return text if arm.against == first.label else f"from {arm.against}: {text}"


def _value(value: object) -> str:
    return {"{}": "on", "null": "off"}.get(text := value_text(value), text)


def _search(search: SearchPlan) -> list[RenderableType]:
    cells = search.space.cells()
    draws = f"{_count(search.samples, 'sample')} × {_count(len(search.seeds), 'seed')}"
    head = f"{draws} by {search.sampler} (seed {search.sampler_seed}) of "
    counted = "a space with continuous dimensions, or with too many points to count"
    head += f"{cells:,} different points" if cells is not None else counted
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
