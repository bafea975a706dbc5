"""The table while it fills: what a row has so far, and what of it a small terminal shows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablator.contracts.events import Event
from ablator.contracts.record import Record
from ablator.plan.planning import Plan
from ablator.report.filling import Board, Filling, FillingRow
from ablator.report.live import Live, Progress
from ablator.report.region import region
from ablator.results.journal import Journal, Sample

Planned = Callable[..., Plan]

GRID = {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}}


def identity_of(planned: Plan, label: str, seed: int) -> str:
    return next(t.identity for t in planned.trials if (t.label, t.seed) == (label, seed))


def record_of(identity: str, status: str = "completed", **more: Any) -> Record:
    if status == "completed":
        more = {"metrics": {"top1": 80.0}, **more}
    elif status == "pruned":
        more = {"metrics": {"top1": 12.0}, **more}
    else:
        more = {"error": "on purpose", **more}
    return Record(identity=identity, status=status, spec={}, **more)  # type: ignore[arg-type]


def filling_of(
    planned: Plan,
    records: Mapping[str, Record] | None = None,
    journals: Mapping[int, Journal] | None = None,
    **options: Any,
) -> Filling:
    known = {} if records is None else records
    return Filling(planned, mode="max", lookup=known.get, journals=journals or {}, **options)


def started(identity: str) -> Event:
    return Event(kind="started", identity=identity, label="another study's name · for it", slot=0)


def finished(identity: str, value: float | None = None, status: str = "completed") -> Event:
    metrics = {} if value is None else {"top1": value}
    return Event(kind="finished", identity=identity, status=status, metrics=metrics, text="why")


def by_label(filling: Filling) -> dict[str, FillingRow]:
    return {row.label: row for row in filling.rows()}


# ---- what is known


def test_a_row_has_the_ledgers_records_and_what_is_finished_since(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 3})
    first = identity_of(made, "n = 2", 0)
    filling = filling_of(made, {first: record_of(first)})
    filling.take(finished(identity_of(made, "n = 2", 1), 83.0))
    filling.take(started(identity_of(made, "n = 2", 2)))
    row = by_label(filling)["n = 2"]
    assert (row.done, row.planned, row.running) == (2, 3, 1)
    assert (row.mean, row.std) == (81.5, pytest.approx(4.5**0.5))
    assert row.counts["completed"] == 2
    empty = by_label(filling)["n = 4"]
    assert (empty.done, empty.planned, empty.mean, empty.std, empty.delta) == (0, 3, None, None, None)


def test_differences_are_paired_over_the_seeds_that_both_rows_have(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 3})
    filling = filling_of(made)
    for label, seed, value in (
        *(("base", 1, 70.0), ("base", 2, 60.0)),
        *(("n = 2", 0, 99.0), ("n = 2", 1, 72.0), ("n = 2", 2, 63.0), ("n = 4", 0, 71.0)),
    ):
        filling.take(finished(identity_of(made, label, seed), value))
    rows = by_label(filling)
    assert (rows["n = 2"].delta, rows["n = 2"].pairs, rows["n = 2"].values) == (2.5, 2, 3)
    assert (rows["n = 4"].delta, rows["n = 4"].pairs) == (None, 0)
    assert rows["base"].delta is None


def test_each_row_is_compared_with_its_own_baseline(planned: Planned) -> None:
    made = planned(
        {
            "arms": [
                {"label": "large", "set": {"train.batch_size": 64}, "baseline": True},
                {"label": "large, n = 2", "set": {"train.batch_size": 64, "moto.n": 2}, "against": "large"},
            ],
            "seeds": 1,
        }
    )
    filling = filling_of(made)
    for label, value in (("base", 10.0), ("large", 70.0), ("large, n = 2", 71.0)):
        filling.take(finished(identity_of(made, label, 0), value))
    rows = by_label(filling)
    assert (rows["large, n = 2"].delta, rows["large, n = 2"].against) == (1.0, "large")
    assert rows["large"].delta is None
    assert "against" in shown(filling, width=80)


def test_what_went_wrong_is_no_number(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 3})
    pruned = identity_of(made, "n = 2", 2)
    filling = filling_of(made, {pruned: record_of(pruned, "pruned")})
    filling.take(finished(identity_of(made, "n = 2", 0), status="failed"))
    filling.take(finished(identity_of(made, "n = 2", 1), status="diverged"))
    row = by_label(filling)["n = 2"]
    assert (row.done, row.mean) == (3, None)
    assert row.counts == {"completed": 0, "failed": 1, "diverged": 1, "pruned": 1}
    assert "1 failed, 1 diverged, 1 pruned" in shown(filling, width=80)


def test_a_word_stands_in_the_place_of_a_number(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 1})
    large = identity_of(made, "n = 4", 0)
    records: dict[str, Record] = {}
    filling = filling_of(made, records)
    records[large] = record_of(large, metrics={"loss": 1.0}, unmeasured={"top1": "OOM"})
    filling.take(finished(large))
    assert by_label(filling)["n = 4"].words == ("OOM",)
    assert "OOM" in shown(filling, width=80)


def test_what_failed_before_and_runs_again_is_not_done(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 1})
    identity = identity_of(made, "n = 2", 0)
    filling = filling_of(made, {identity: record_of(identity, "failed")})
    assert by_label(filling)["n = 2"].counts["failed"] == 1
    filling.take(started(identity))
    row = by_label(filling)["n = 2"]
    assert (row.done, row.running, row.counts["failed"]) == (0, 1, 0)


def test_a_trial_that_rows_share_fills_all_of_them(planned: Planned) -> None:
    two = {"label": "two", "set": {"moto.n": 2}}
    made = planned({"arms": [two, {**two, "label": "two again"}], "seeds": 1})
    shared = identity_of(made, "two", 0)
    assert shared == identity_of(made, "two again", 0)
    filling = filling_of(made)
    filling.take(finished(identity_of(made, "base", 0), 70.0))
    assert filling.take(finished(shared, 72.0))
    rows = by_label(filling)
    assert [(rows[label].mean, rows[label].delta) for label in ("two", "two again")] == [(72.0, 2.0)] * 2


def test_other_studies_trials_fill_nothing(planned: Planned) -> None:
    filling = filling_of(planned({"arms": [GRID], "seeds": 1}))
    assert not filling.take(finished("f" * 64, 80.0))
    assert not filling.take(Event(kind="slots", slot=2))
    assert all(row.done == 0 for row in filling.rows())


def test_planned_seeds_grow_with_what_is_asked_for(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 4})
    asked = [trial.identity for trial in made.trials if trial.seed < 2]
    third = identity_of(made, "n = 4", 2)
    filling = filling_of(made, {third: record_of(third)}, asked=asked)
    # A record of a seed that was not asked for is another design's.
    assert [(row.done, row.planned) for row in filling.rows()] == [(0, 2), (0, 2), (0, 2)]
    filling.take(Event(kind="round", text="one more seed for n = 2", trials=2))
    filling.take(started(identity_of(made, "n = 2", 2)))
    filling.take(finished(identity_of(made, "base", 2), 80.0))
    assert [(row.done, row.planned) for row in filling.rows()] == [(1, 3), (0, 3), (0, 2)]


def test_a_search_is_one_line_with_its_best_value(planned: Planned, tmp_path: Path) -> None:
    space = {"dimensions": {"moto.n": {"kind": "categorical", "choices": [2, 4, 8]}}}
    found = {"label": "found", "design": "search", "space": space, "samples": 5}
    made = planned({"arms": [{"label": "two", "set": {"moto.n": 2}}, found], "seeds": 2})
    (search,) = made.searches
    journal = Journal(tmp_path / "searches" / "s.jsonl")
    filling = filling_of(made, journals={search.arm: journal})
    assert [(line.done, line.planned, line.best) for line in filling.searches()] == [(0, 5, None)]
    drawn: list[tuple[str, ...]] = []
    for number, n in enumerate((2, 4, 8)):
        identities = tuple(search.trial({"moto.n": n}, seed).identity for seed in search.seeds)
        journal.append(Sample(sample=number, point={"moto.n": n}, identities=identities))
        drawn.append(identities)
    # The first point is the arm's; the second one has only one of its seeds; the third failed.
    for identity, value in zip((*drawn[0], drawn[1][0]), (70.0, 74.0, 90.0), strict=True):
        assert filling.take(finished(identity, value))
    for identity in drawn[2]:
        filling.take(finished(identity, status="failed"))
    filling.take(started(drawn[1][1]))
    (line,) = filling.searches()
    assert (line.done, line.planned, line.best, line.running) == (2, 5, 72.0, 1)
    assert line.counts["failed"] == 1
    assert by_label(filling)["two"].mean == 72.0
    assert [row.label for row in filling.rows()] == ["base", "two"]
    text = next(one for one in shown(filling, width=80).splitlines() if "found" in one)
    assert "2/5" in text
    assert "best 72.00" in text


# ---- what is shown


def shown(filling: Filling, *, width: int, height: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(region(None, filling, width=width, height=height))
    return capture.get()


def test_the_table_has_means_and_differences_and_no_verdict(planned: Planned) -> None:
    made = planned({"arms": [GRID], "seeds": 2})
    filling = filling_of(made)
    for label, seed, value in (("base", 0, 70.0), ("n = 2", 0, 71.0), ("n = 2", 1, 75.0)):
        filling.take(finished(identity_of(made, label, seed), value))
    filling.take(started(identity_of(made, "base", 1)))
    head, _, *rows = [" ".join(line.split()) for line in shown(filling, width=80).splitlines()]
    assert head == "done top1 Δ"
    assert rows == [
        "▸ base 1/2 70.00",
        "n = 2 2/2 73.00 ± 2.83 +1.00 Δ over 1 of 2 seeds",
        "n = 4 0/2",
    ]


def many(planned: Planned) -> tuple[Plan, Filling]:
    sizes = {"label": "n = {n}", "design": "grid", "set": {"moto.n": list(range(1, 18))}}
    made = planned({"arms": [sizes], "seeds": 1})
    return made, filling_of(made)


def test_of_a_long_table_the_rows_that_run_and_those_that_ended_last_are_shown(planned: Planned) -> None:
    made, filling = many(planned)
    for n in (3, 9, 2, 12):
        filling.take(finished(identity_of(made, f"n = {n}", 0), 70.0 + n))
    for n in (15, 5):
        filling.take(started(identity_of(made, f"n = {n}", 0)))
    lines = [line.strip() for line in shown(filling, width=80, height=7).splitlines()]
    assert len(lines) == 7
    # In the study's order; what waits and what ended first is left out.
    assert [line.partition("  ")[0] for line in lines[2:6]] == ["n = 2", "▸", "n = 12", "▸"]
    assert "n = 5 " in lines[3]
    assert "n = 15 " in lines[5]
    assert lines[6] == "… and 14 more rows"
    assert shown(filling, width=80, height=3) == ""


@pytest.mark.parametrize("slots", [2, 16, 40])
@pytest.mark.parametrize("height", [8, 14, 24, 60])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_slots_and_counts_stay_in_sight(planned: Planned, slots: int, height: int, width: int) -> None:
    made, filling = many(planned)
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    live = Live(console, Progress(18, 0), metric="top1", board=Board([filling]))
    live(Event(kind="slots", slot=slots))
    for slot, trial in zip(range(slots), made.trials, strict=False):
        live(Event(kind="started", identity=trial.identity, label=trial.label, slot=slot))
    with console.capture() as capture:
        console.print(live.render())
    lines = capture.get().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("slot")
    assert sum("0/18 done" in line for line in lines) == 1
    if slots == 2 and height >= 14:
        assert any(line.startswith("▸") for line in lines)
    if slots == 40 and height < 20:
        assert any("… and" in line for line in lines)


def test_the_table_of_the_study_is_shown_whose_trial_came_last(planned: Planned) -> None:
    one = planned({"study": "first", "arms": [{"label": "two", "set": {"moto.n": 2}}], "seeds": 1})
    other = planned({"study": "second", "arms": [{"label": "four", "set": {"moto.n": 4}}], "seeds": 1})
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    live = Live(console, Progress(3, 0), metric="top1", board=Board([filling_of(one), filling_of(other)]))

    def heading() -> str:
        with console.capture() as capture:
            console.print(live.render())
        return capture.get().splitlines()[3]

    assert heading() == "first"
    live(started(identity_of(other, "four", 0)))
    assert heading() == "second"
    # Both have the baseline: the table need not change.
    live(finished(identity_of(one, "base", 0), 70.0))
    assert heading() == "second"
    live(finished(identity_of(one, "two", 0), 71.0))
    assert heading() == "first"
