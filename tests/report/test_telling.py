"""The watcher that says in the store where a run stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.contracts.events import Event
from ablator.plan.planning import Plan
from ablator.plan.trial import Trial
from ablator.report.live import Progress
from ablator.report.telling import Teller
from ablator.results.journal import Journal, Sample
from ablator.results.standing import Standing, own_name, read_standing
from ablator.results.store import Store

Planned = Callable[..., Plan]


def event(kind: str, trial: Trial, **more: object) -> Event:
    fields = {
        "identity": trial.identity,
        "label": f"s · {trial.label}",
        "seed": trial.seed,
        "slot": 0,
        **more,
    }
    return Event(kind=kind, **fields)  # type: ignore[arg-type]


def ends(trial: Trial) -> Event:
    return event("finished", trial, status="completed", metrics={"top1": 70.0})


def said(store: Store, study: str = "s") -> Standing:
    found = read_standing(store.live(study, "paper"))
    assert found is not None
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_every_finish_is_said_and_the_end_takes_it_back(planned: Planned, store: Store) -> None:
    made = planned({"arms": [{"label": "two", "set": {"moto.n": 2}}], "seeds": 2})
    first, second, third, _ = made.trials
    with Teller(Progress(4, 1), [made], store, [{}]) as teller:
        assert (said(store).host, said(store).pid) == own_name()
        assert (said(store).slots, said(store).planned, said(store).done) == (0, 4, 1)
        teller(Event(kind="slots", slot=2, text="started"))
        for trial in (first, second):
            teller(event("started", trial))
        epoch = {"epoch": 3, "epochs": 8, "metrics": {"top1": float("nan"), "train_loss": 1.0}}
        teller(event("epoch", second, **epoch, slot=1))
        teller(ends(first))
        (trial,) = said(store).running
        assert (trial.label, trial.seed, trial.slot) == (second.label, second.seed, 1)
        assert (trial.epoch, trial.epochs, trial.value) == (3, 8, None)
        assert (said(store).done, said(store).slots) == (2, 2)
        teller(Event(kind="round", text="more", trials=3))
        teller(event("finished", third, status="failed", text="boom"))
        assert (said(store).planned, said(store).done, said(store).failed) == (7, 3, 1)
    assert list((store.root / "live").iterdir()) == []


def test_the_end_of_an_interrupted_run_takes_it_back_as_well(planned: Planned, store: Store) -> None:
    made = planned({"arms": [{"label": "two", "set": {"moto.n": 2}}], "seeds": 1})

    def interrupted() -> None:
        with Teller(Progress(2, 0), [made], store, [{}]):
            assert said(store).done == 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_standing(store.live("s", "paper")) is None


def test_each_study_has_its_own_trials_by_its_own_labels(planned: Planned, store: Store) -> None:
    one = planned({"study": "one", "arms": [{"label": "two", "set": {"moto.n": 2}}], "seeds": 1})
    other = planned(
        {"study": "other", "baseline": {"label": "DeiT"}, "arms": [{"label": "four", "set": {"moto.n": 4}}]}
        | {"seeds": 1}
    )
    beside = planned({"arms": [{"label": "eight", "set": {"moto.n": 8}}], "seeds": 1})
    with Teller(Progress(4, 0), [one, other], store, [{}, {}]) as teller:
        for trial in (one.trials[0], other.trials[1], beside.trials[1]):
            teller(event("started", trial))
        teller(ends(one.trials[1]))
        # What is trained for its weights alone belongs to neither, and both wait for it.
        labels = [[trial.label for trial in said(store, name).running] for name in ("one", "other")]
        assert labels == [["base", "s · eight"], ["DeiT", "four", "s · eight"]]
        assert {said(store, name).studies for name in ("one", "other")} == {2}
        assert {said(store, name).done for name in ("one", "other")} == {1}
    assert read_standing(store.live("one", "paper")) is None
    assert read_standing(store.live("other", "paper")) is None


def test_what_a_search_drew_belongs_to_its_study(planned: Planned, store: Store) -> None:
    space = {"dimensions": {"moto.n": {"kind": "categorical", "choices": [2, 4]}}}
    found = {"label": "found", "design": "search", "space": space, "samples": 2}
    one = planned({"study": "one", "arms": [found], "seeds": 1})
    other = planned({"study": "other", "arms": [{"label": "eight", "set": {"moto.n": 8}}], "seeds": 1})
    (search,) = one.searches
    journal = Journal(store.root / "searches" / "one.jsonl")
    with Teller(Progress(4, 0), [one, other], store, [{search.arm: journal}, {}]) as teller:
        trial = search.trial({"moto.n": 4}, 0)
        journal.append(Sample(sample=0, point={"moto.n": 4}, identities=(trial.identity,)))
        teller(event("started", trial))
        teller(ends(one.trials[0]))
        assert [trial.label for trial in said(store, "one").running] == ["found"]
        assert said(store, "other").running == ()


def test_a_store_that_takes_nothing_does_not_end_the_run(planned: Planned, store: Store) -> None:
    made = planned({"arms": [{"label": "two", "set": {"moto.n": 2}}], "seeds": 1})
    (store.root / "live").write_text("a file where the folder should be")
    progress = Progress(2, 0)
    with Teller(progress, [made], store, [{}]) as teller:
        teller(ends(made.trials[0]))
    assert progress.done == 1
