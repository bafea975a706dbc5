"""The nouns of the command line, in Python: `load`, `plan`, `run`, `report`, `figures`, `status`, `explain`,
`sync`; for several studies at once `plan_all`, `run_all`, `report_all`.

study = ablator.load("experiments/moto_n.yaml")
results = ablator.run(study, profile="laptop")
print(results.table.baseline.mean)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablator import data
from ablator.contracts.events import OnEvent
from ablator.data.settings import DataSettings
from ablator.errors import SettingError, StoreError
from ablator.plan.explaining import explanation, the_search
from ablator.plan.planning import Plan
from ablator.plan.planning import plan as make_plan
from ablator.plan.selecting import only, only_all
from ablator.results.read_once import ReadOnce
from ablator.results.store import Store
from ablator.results.sync import SyncResult
from ablator.results.sync import sync as send_missed
from ablator.results.tracking import check_server
from ablator.running import run_plans
from ablator.study.folder import load_all
from ablator.study.loading import load
from ablator.study.schema import Study
from ablator.tables import Bound, Results, Summary, bind, collect, journals_of
from ablator.watching import State, state_of, told

if TYPE_CHECKING:
    from ablator.results.figure_data import FigureData
    from ablator.scheduling.cluster import Resources
    from ablator.worker.execution import Execution

__all__ = [
    "Bound",
    "Figures",
    "Results",
    "Study",
    "Summary",
    "explain",
    "figures",
    "load",
    "plan",
    "plan_all",
    "report",
    "report_all",
    "run",
    "run_all",
    "status",
    "sync",
]

Studies = str | Path | Sequence[Study | str | Path]
"""One file or folder, or any number of these and of studies."""

DEFAULT_STORE = ".ablator"


def plan(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> Plan:
    """Every trial of a study, with identities, before any is paid for.

    `overrides` are "key=value" strings as of `--set`, and `rows` labels as of `--row`: of these rows alone,
    and of what they are compared with. Raises SettingError or DataError.
    """
    planned = make_plan(_study(study), profile=profile, overrides=overrides, fingerprint=_fingerprint)
    return only(planned, rows)


def run(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
    resources: Resources | None = None,
    execution: Execution | None = None,
    mlflow: str | None = None,
    repair: bool = False,
    on_event: OnEvent | None = None,
) -> Results:
    """Train what is missing of a study, mirror it to MLflow, and write its report.

    `mlflow` is a tracking URI, "off", or None for the store's own database. Raises UserError before
    anything is spent where the study, its data, the store or the server are at fault.
    """
    planned = plan(study, profile=profile, overrides=overrides, rows=rows)
    return _run(
        [planned],
        profile=profile,
        overrides=overrides,
        store=store,
        resources=resources,
        execution=execution,
        mlflow=mlflow,
        repair=repair,
        on_event=on_event,
    )[1][0]


def run_all(
    studies: Studies,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
    resources: Resources | None = None,
    execution: Execution | None = None,
    mlflow: str | None = None,
    repair: bool = False,
    on_event: OnEvent | None = None,
) -> Bound:
    """`run` for several studies (files, or folders of them) as one plan: all are planned and checked before
    the first is trained, and a trial that several of them have is trained once."""
    opened, found = _run(
        plan_all(studies, profile=profile, overrides=overrides, rows=rows),
        profile=profile,
        overrides=overrides,
        store=store,
        resources=resources,
        execution=execution,
        mlflow=mlflow,
        repair=repair,
        on_event=on_event,
    )
    return bind(found, opened)


def run_planned(
    plans: Sequence[Plan], *, store: Store, known: ReadOnce | None = None, **options: Any
) -> Bound:
    """`run_all` for who has the plans already, made with the same profile and overrides as are among the
    `options`, and may have read records of the store (`known`)."""
    return bind(_run(plans, store=store, known=known, **options)[1], store)


def plan_all(
    studies: Studies,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> list[Plan]:
    """`plan` for several studies; with `rows` of those that have one of them. Raises SettingError also for a
    folder that has no studies, and for a file in it that is none."""
    if isinstance(studies, (str, Path)):
        studies = [studies]
    loaded = [one for study in studies for one in ([study] if isinstance(study, Study) else load_all(study))]
    # A folder and a file in it name the same study.
    unique = {str(Path(study.file).resolve()) if study.file else study.study: study for study in loaded}
    return only_all([plan(study, profile=profile, overrides=overrides) for study in unique.values()], rows)


def report(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
) -> Results:
    """The table from the ledger alone; what is not trained is a hole in it."""
    planned = plan(study, profile=profile, overrides=overrides, rows=rows)
    return _report(planned, profile, overrides, _open(store))


def report_all(
    studies: Studies,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
) -> Bound:
    """`report` for several studies, bound into one page."""
    opened = _open(store)
    plans = plan_all(studies, profile=profile, overrides=overrides, rows=rows)
    return bind([_report(planned, profile, overrides, opened) for planned in plans], opened)


def explain(
    found: Results | Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
    search: str | None = None,
    seeds: int = 3,
) -> Study:
    """The study that takes the best point of a search apart: the point, then the point without each of its
    parts. Of results the options of their own run hold; of a study they say which run is meant. `search` is
    the label of one of several searches. Raises SettingError where there is no search, or no completed point
    yet."""
    results = (
        found
        if isinstance(found, Results)
        else report(found, profile=profile, overrides=overrides, store=store)
    )
    planned = results.plan
    chosen = the_search(planned, search)
    table = next(one for one in results.table.searches if one.label == chosen.label)
    if table.best is None:
        raise SettingError(
            f"{chosen.where}: the search has no completed point under profile {planned.profile} yet; run "
            "the study first (`ablator run`), or name its store"
        )
    return explanation(planned, chosen, table.best.params, drawn=len(table.points), seeds=seeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a study's trained models learned."""

    data: FigureData
    """The numbers and maps that are drawn; `data.skipped` says which rows are not, and why."""
    files: Mapping[str, Path]
    """Drawn figures by name."""


def figures(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
    steps: int = 500,
    retrain: bool = False,
    redraw: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> Figures:
    """Draw what the study's trained models learned, from the weights that a run kept, into the folder of its
    report and into its page.

    The decoder that bounds H(A|B) is trained for `steps` steps on each model (0: none). With `retrain`,
    finished trials without kept weights are trained once more, here; with `redraw` no model is looked at,
    and what was measured before is drawn again. `on_note` is told of each trial in a line. Raises StoreError
    where nothing can be drawn.
    """
    from ablator.report.figures import FOLDER, draw
    from ablator.results import figure_data

    planned, opened = plan(study, profile=profile, overrides=overrides), _open(store)
    folder = opened.reports(planned.study.study) / planned.profile / FOLDER
    if redraw:
        found = figure_data.load(opened.bring_folder(folder))
        if found is None:
            raise StoreError(f"{folder} holds no figures to redraw; run `ablator figures` without --redraw")
    else:
        from ablator.analysis.study import analyse

        found = analyse(planned, opened, steps=steps, again=retrain, on_note=on_note)
        figure_data.save(found, folder)
    files = draw(found, folder)
    opened.publish(folder)
    _report(planned, profile, overrides, opened)
    return Figures(data=found, files=files)


def status(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
) -> State:
    """Where a study stands, also while another process, or another machine that shares the store, runs it."""
    planned = plan(study, profile=profile, overrides=overrides, rows=rows)
    return state_of(planned, profile, overrides, _open(store))


def sync(store: Store | str | Path = DEFAULT_STORE, *, mlflow: str | None = None) -> SyncResult:
    """Send MLflow what it missed. Raises TrackingError where its server does not answer."""
    if mlflow is not None:
        check_server(mlflow)
    return send_missed(_open(store), mlflow)


# ---- the parts of them


def _study(study: Study | str | Path) -> Study:
    return study if isinstance(study, Study) else load(study)


def _open(store: Store | str | Path) -> Store:
    return store if isinstance(store, Store) else Store.open(store)


def _fingerprint(settings: DataSettings) -> str:
    return data.info(settings).fingerprint


def _run(
    plans: Sequence[Plan],
    *,
    store: Store | str | Path,
    mlflow: str | None,
    repair: bool,
    on_event: OnEvent | None,
    known: ReadOnce | None = None,
    **options: Any,
) -> tuple[Store, list[Results]]:
    opened = _open(store)
    known = known or ReadOnce(opened.ledger)
    if mlflow not in (None, "off"):
        check_server(mlflow)
    with told(plans, opened, on_event, repair=repair, known=known) as telling:
        found = run_plans(
            plans, store=opened, mlflow=mlflow, repair=repair, on_event=telling, known=known, **options
        )
    return opened, found


def _report(planned: Plan, profile: str | None, overrides: Sequence[str], store: Store) -> Results:
    return collect(planned, store, journals_of(store, planned), profile, overrides)
