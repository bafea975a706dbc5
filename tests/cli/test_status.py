"""status: where a study stands, with and without somebody who runs it."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ablator import api
from ablator.contracts.events import Ticket
from ablator.contracts.settings import as_plain
from ablator.plan.planning import Plan
from ablator.results.standing import RunningTrial, Standing, write_standing
from ablator.results.store import Store

Ablator = Callable[..., Result]
Fill = Callable[..., Path]

HALF: dict[tuple[str, int], None] = {("n = 2", 1): None, ("n = 4", 0): None, ("n = 4", 1): None}


def last_json(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return value


@pytest.fixture
def plan(study: Path) -> Plan:
    return api.plan(study, profile="laptop")


@pytest.fixture
def drive(plan: Plan) -> Callable[..., Standing]:
    """`drive(store)`: a driver on another machine says that it trains n = 2, seed 1."""

    def make(folder: Path, **changes: Any) -> Standing:
        trial = next(t for t in plan.trials if (t.label, t.seed) == ("n = 2", 1))
        now = time.time()
        said = Standing(
            host="farm7",
            pid=4711,
            started=now - 75,
            updated=now - 1,
            studies=1,
            metric="top1",
            slots=2,
            joined=False,
            elapsed=74.0,
            planned=6,
            done=3,
            cached=1,
            failed=0,
            diverged=0,
            pruned=0,
            eta=95.0,
            running=(
                RunningTrial(
                    identity=trial.identity,
                    label=trial.label,
                    seed=trial.seed,
                    slot=1,
                    epoch=3,
                    epochs=8,
                    value=71.5,
                    seconds=12.0,
                ),
            ),
        )
        said = dataclasses.replace(said, **changes)
        write_standing(Store(folder).live("tiny", "laptop"), said)
        return said

    return make


def status(ablator: Ablator, study: Path, store: Path, *options: str) -> Result:
    result = ablator("status", study, "-p", "laptop", "--store", store, *options)
    assert result.exit_code == 0, result.output
    return result


def test_status_counts_without_training(ablator: Ablator, study: Path, fill: Fill) -> None:
    found = last_json(status(ablator, study, fill({("base", 1): None}), "--json"))
    rows = found.pop("rows")
    counts = {"planned": 6, "completed": 5, "failed": 0, "diverged": 0, "pruned": 0, "missing": 1}
    nothing = {"running": [], "samples": {}, "waiting": 0, "live": None, "searches": []}
    assert found == counts | nothing
    base, two, _ = rows
    done = {"completed": 1, "failed": 0, "diverged": 0, "pruned": 0}
    progress = {"done": 1, "planned": 2, "running": 0, "counts": done, "words": []}
    numbers = {"mean": 80.0, "std": None, "delta": None, "pairs": 0}
    assert base == {"label": "base", "against": None} | progress | numbers
    # Of n = 2 both seeds are there, of its baseline one.
    assert (two["label"], two["against"], two["done"], two["pairs"]) == ("n = 2", "base", 2, 1)
    assert (two["mean"], two["delta"]) == (pytest.approx(81.05), pytest.approx(1.0))


def test_a_run_elsewhere_is_shown_with_slots_time_and_table(
    ablator: Ablator, study: Path, fill: Fill, drive: Callable[..., Standing]
) -> None:
    store = fill(HALF)
    drive(store)
    text = status(ablator, study, store).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert re.search(r"running on farm7, process 4711; said \d+ s ago", text)
    assert "0 idle" in lines
    assert "1 n = 2 · seed 1 3/8 ━━━━ 71.50 0:12" in lines
    assert "3/6 done (1 cached) · 1:14 elapsed · about 1:35 left" in text
    assert "base 2/2 80.05 ± 0.07" in lines
    assert "▸ n = 2 1/2 81.00 +1.00" in lines
    assert "n = 4 0/2" in lines
    assert "6 planned = 3 completed" in text
    for word in ("verdict", "p (Holm)", "underpowered"):
        assert word not in text


def test_the_same_for_programs(
    ablator: Ablator, study: Path, fill: Fill, drive: Callable[..., Standing]
) -> None:
    store = fill(HALF)
    said = drive(store)
    found = last_json(status(ablator, study, store, "--json"))
    live = found["live"]
    assert live.pop("age") > 0
    assert live.pop("stale") is False
    assert live == json.loads(json.dumps(dataclasses.asdict(said)))
    assert [row["running"] for row in found["rows"]] == [0, 1, 0]


def test_a_driver_that_fell_silent_may_have_died(
    ablator: Ablator, study: Path, fill: Fill, drive: Callable[..., Standing]
) -> None:
    store = fill(HALF)
    drive(store, updated=time.time() - 12 * 60)
    text = status(ablator, study, store).stdout
    assert (
        "the run on farm7 last said something 12 min ago; it may have died: `ablator run` again goes on"
        in text
    )
    for word in ("seed 1", "elapsed", "▸"):
        assert word not in text
    found = last_json(status(ablator, study, store, "--json"))
    assert found["live"]["stale"] is True
    assert [row["running"] for row in found["rows"]] == [0, 0, 0]


def test_without_a_driver_that_says_it_tickets_tell_what_runs(
    ablator: Ablator, study: Path, fill: Fill, plan: Plan
) -> None:
    store = fill(HALF)
    trial = next(t for t in plan.trials if (t.label, t.seed) == ("n = 4", 0))
    ticket = Ticket(identity=trial.identity, spec={}, label=trial.label, seed=trial.seed)
    spot = Store(store).ticket(trial.identity)
    spot.files.write(spot.name, json.dumps(as_plain(ticket)).encode())
    text = status(ablator, study, store).stdout
    assert "no run says how it stands; tickets are out for n = 4 · seed 0" in text
    assert last_json(status(ablator, study, store, "--json"))["running"] == [{"label": "n = 4", "seed": 0}]


def test_of_several_studies_the_run_is_shown_once_and_the_tables_that_fill(
    ablator: Ablator, study: Path, fill: Fill, drive: Callable[..., Standing]
) -> None:
    store = fill(HALF)
    other = study.with_name("other.yaml")
    other.write_text(study.read_text().replace("study: tiny", "study: other"))
    said = drive(store, studies=3)
    write_standing(Store(store).live("other", "laptop"), dataclasses.replace(said, running=()))
    result = ablator("status", study, other, "-p", "laptop", "--store", store)
    text = result.stdout
    said_once = r"running on farm7, process 4711, together with 1 more study; said \d+ s ago"
    assert len(re.findall(said_once, text)) == 1
    assert text.count("3/6 done") == 1
    # The slot that none of these two has may be the third one's.
    assert "idle" not in text
    assert [line for line in text.splitlines() if line in ("tiny", "other")] == ["tiny"]
    assert "tiny: 6 planned" in text
    assert "other: 6 planned" in text


def test_watching_ends_when_all_is_there(ablator: Ablator, study: Path, fill: Fill) -> None:
    text = status(ablator, study, fill(), "--watch").stdout
    assert text.count("6 planned = 6 completed") == 1


def test_watching_follows_the_run_to_its_end(
    ablator: Ablator,
    study: Path,
    fill: Fill,
    drive: Callable[..., Standing],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = fill(HALF)
    drive(store)

    def meanwhile(seconds: float) -> None:
        fill()
        (store / "live" / "tiny-laptop.json").unlink()

    monkeypatch.setattr("ablator.cli.states.time.sleep", meanwhile)
    text = status(ablator, study, store, "-w").stdout
    before, _, after = text.partition("3 missing")
    assert "running on farm7" in before
    assert "running on farm7" not in after
    assert "6 planned = 6 completed" in after


def test_watching_ends_with_an_interruption(
    ablator: Ablator, study: Path, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablator.cli.states.time.sleep", interrupted)
    result = status(ablator, study, fill(HALF), "--watch")
    assert result.stderr == ""
    assert "3 missing" in result.stdout


def test_watching_is_not_for_programs(ablator: Ablator, study: Path) -> None:
    result = ablator("status", study, "-p", "laptop", "--watch", "--json")
    assert result.exit_code == 2
    assert "--watch" in result.stderr
    assert "--json" in result.stderr
    assert "give one of them" in last_json(result)["error"]
