"""Measuring an operator: the operator itself, its memory, whole trials, and the study around them.

Shape legend: B batch, C channels, H W height and width, P = H·W positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from ablator.assembly.check import check_operator
from ablator.assembly.operator import build_operator
from ablator.assembly.preflight import preflight
from ablator.components.self_attention import PixelSelfAttention
from ablator.contracts.protocols import World
from ablator.contracts.record import Record
from ablator.errors import SettingError
from ablator.plan.planning import Plan
from ablator.plan.planning import plan as make_plan
from ablator.plan.spec import TrialSpec, resolve
from ablator.plan.trial import ticket_of
from ablator.results.runs import tags
from ablator.results.store import Store
from ablator.study.loading import load
from ablator.tables import collect
from ablator.tasks.devices import processor
from ablator.tasks.inference_time import build
from ablator.tasks.live_memory import live_bytes
from ablator.tasks.settings import MeasureSettings
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner

SMALL = {"sizes": [16, 32], "channels": 4, "warmup": 1, "repeats": 3}
STUDY = """
study: small_walltime
source: a test
question: Which is faster?
task: inference_time
set: {measure: {sizes: [16, 32], channels: 4, warmup: 1, repeats: 3, memory_gb: 0.0003}}
baseline: {label: attention}
arms:
  - {label: MoTo, set: {measure.operator: moto, moto.n: 2}}
seeds: 2
report:
  metric: ms_32
  columns: [ms_16, memory_mb_32]
  reported: {baseline: {ms_32: OOM, ms_16: 4.12}, MoTo: {ms_32: 0.5, ms_16: 0.25}}
"""


def spec_of(operator: str = "self_attention", **more: Any) -> TrialSpec:
    document = {"task": "inference_time", "measure": {"operator": operator, **SMALL}}
    return resolve({**document, **more}, "test")


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """`planned(text, **options)`: the plan of a study file, without any data."""

    def make(text: str = STUDY, **options: Any) -> Plan:
        path = tmp_path / "small_walltime.yaml"
        path.write_text(text)

        def refuse(data: Any) -> str:
            raise AssertionError(f"{data.name} is asked for, and nothing is trained")

        return make_plan(load(path), fingerprint=refuse, **options)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Plan], tuple[Store, list[Record]]]:
    """`run(plan)`: a store with the records of all its trials, and these."""

    def go(made: Plan) -> tuple[Store, list[Record]]:
        store = Store.open(tmp_path / "store")
        # Weights are asked for as well, of which a measurement leaves none.
        runner = TrialRunner(store, Execution(keep_weights=True), world=World(), device=torch.device("cpu"))
        records = [
            runner.run(ticket_of(trial), attempts=1, on_progress=lambda _: True) for trial in made.trials
        ]
        assert None not in records
        return store, [record for record in records if record is not None]

    return go


# ---- the operator and its memory


def test_attention_between_pixels_is_what_torch_computes() -> None:
    torch.manual_seed(0)
    module, x_BCHW = PixelSelfAttention(8), torch.randn(2, 8, 5, 6)
    q_BPC, k_BPC, v_BPC = (
        layer(x_BCHW).flatten(2).transpose(1, 2) for layer in (module.query, module.key, module.value)
    )
    expected_BPC = functional.scaled_dot_product_attention(q_BPC, k_BPC, v_BPC)
    expected_BCHW = x_BCHW + expected_BPC.transpose(1, 2).reshape(x_BCHW.shape)
    torch.testing.assert_close(module(x_BCHW), expected_BCHW)


def test_live_memory_is_what_is_there_at_once() -> None:
    numbers = 1000
    shape = (1, 1, 1, numbers)
    chain = torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(5)))
    # The input, which the caller keeps, and one intermediate on each side of the operation.
    assert live_bytes(chain, shape) == 3 * 4 * numbers
    assert live_bytes(torch.nn.Sequential(torch.nn.ReLU(inplace=True)), shape) == 4 * numbers
    assert live_bytes(torch.nn.Linear(numbers, 1), shape) < 4.1 * numbers, "parameters are left out"
    positions = 56 * 56
    needed = live_bytes(PixelSelfAttention(4), (1, 4, 56, 56))
    assert 2 * 4 * positions**2 < needed < 2.1 * 4 * positions**2


def test_the_size_is_counted_without_data() -> None:
    attention, moto = check_operator(spec_of()), check_operator(spec_of("moto", moto={"n": 2}))
    assert attention.parameters == 3 * 4 * 4
    positions = 8 * 8
    assert attention.gmacs == pytest.approx((3 * 4 * 4 * positions + 2 * 4 * positions**2) / 1e9)
    assert moto.parameters == sum(
        p.numel() for p in build_operator(spec_of("moto", moto={"n": 2})).parameters()
    )
    assert "16²" in attention.notes[0]


def test_weights_follow_the_seed_and_mode_is_eval() -> None:
    first, again, other = (build_operator(spec_of(seed=seed)) for seed in (1, 1, 2))
    assert not first.training
    assert torch.equal(first.query.weight, again.query.weight)
    assert not torch.equal(first.query.weight, other.query.weight)


# ---- what is refused


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"train": {"epochs": 3}}, "trains nothing and has no section train"),
        ({"model": {"name": "swin_tiny_patch4_window7_224"}, "data": {"name": "digits"}}, "data, model"),
        ({"probe": {"views": 2}}, "probe belongs to task linear_probe"),
    ],
)
def test_sections_of_training_are_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        spec_of(**document)


def test_a_section_that_changes_nothing_is_refused() -> None:
    for spec in (spec_of(moto={"n": 2}), spec_of("moto", norm={"kind": "batch"}), spec_of(tokenprop={})):
        with pytest.raises(SettingError, match="has no effect"):
            build_operator(spec)


def test_a_size_that_is_there_twice_is_refused() -> None:
    with pytest.raises(SettingError, match="has a size twice"):
        build(MeasureSettings(sizes=(16, 16)))


def test_training_has_no_section_measure() -> None:
    with pytest.raises(SettingError, match="measure belongs to task inference_time"):
        resolve({"measure": {"batch": 2}}, "test")


def test_a_search_is_refused(planned: Callable[..., Plan]) -> None:
    arm = "  - {label: MoTo, set: {measure.operator: moto, moto.n: 2}}"
    space = "{dimensions: {measure.batch: {kind: int, low: 1, high: 2}}}"
    with pytest.raises(SettingError, match="a search compares trained models"):
        planned(STUDY.replace(arm, f"  - {{label: best, design: search, space: {space}}}"))


def test_metrics_that_are_not_measured_are_refused_before_anything_runs(planned: Callable[..., Plan]) -> None:
    trials = planned().trials
    with pytest.raises(SettingError, match=r"report\.metric is 'ms_64'.*it measures: ms_16"):
        preflight(trials, workers=1, metric="ms_64")
    with pytest.raises(SettingError, match=r"report\.columns is 'top1'"):
        preflight(trials, workers=1, metric="ms_32", columns=["top1"])


# ---- identity


def test_a_time_belongs_to_its_device(planned: Callable[..., Plan]) -> None:
    here = planned().trials
    assert here[0].spec.measure is not None
    assert here[0].spec.measure.device is not None
    there = planned(overrides=["measure.device=another machine's"]).trials
    assert {t.identity for t in here}.isdisjoint(t.identity for t in there)


def test_profiles_of_training_do_not_touch_a_measurement(planned: Callable[..., Plan]) -> None:
    identities = {planned(profile=profile).trials[0].identity for profile in ("paper", "laptop", "gpu")}
    assert len(identities) == 1
    spec = planned().trials[0].spec
    assert set(spec.to_json()) == {"task", "seed", "measure"}
    assert TrialSpec.from_json(spec.to_json()) == spec


def test_an_override_of_training_is_said_to_change_nothing(planned: Callable[..., Plan]) -> None:
    made = planned(overrides=["train.epochs=3", "measure.repeats=4"])
    assert made.notes == ("nothing is trained here, so that train.epochs changes nothing",)
    assert made.trials[0].spec.measure is not None
    assert made.trials[0].spec.measure.repeats == 4


def test_another_device_than_planned_is_a_failure_that_says_what_to_do(
    planned: Callable[..., Plan], run: Callable[..., Any]
) -> None:
    _, records = run(planned(overrides=["measure.device=another"]))
    assert {record.status for record in records} == {"failed"}
    assert f"--set measure.device={processor()!r}" in (records[0].error or "")


# ---- whole trials


def test_out_of_memory_is_a_result_and_the_other_sizes_go_on(
    planned: Callable[..., Plan], run: Callable[..., Any]
) -> None:
    store, (attention, again, moto, _) = run(planned(overrides=[f"measure.device={processor()}"]))
    assert attention.status == again.status == "completed"
    assert attention.unmeasured == {"ms_32": "OOM", "spread_ms_32": "OOM", "memory_mb_32": "OOM"}
    assert set(attention.metrics) == {"ms_16", "spread_ms_16", "memory_mb_16", "largest"}
    assert attention.metrics["largest"] == 16
    assert any("OOM: a pass holds" in note and "32²" in note for note in attention.notes)
    assert moto.unmeasured == {}
    assert all(moto.metrics[key] > 0 for key in ("ms_16", "ms_32", "memory_mb_32"))
    assert Record.from_json(attention.to_json()) == attention
    with pytest.raises(ValueError, match="a number or a word for it, not both: ms_16"):
        dataclasses.replace(attention, unmeasured={"ms_16": "OOM"})
    entry = {"arm": "attention", "seed": 0, "changes": {}, "version": "x"}
    assert "ms_32 OOM" in tags(store, "s", entry, attention)["ablator.unmeasured"]


def test_a_trial_in_which_nothing_fits_is_a_result_too(
    planned: Callable[..., Plan], run: Callable[..., Any]
) -> None:
    made = planned(overrides=["measure.memory_gb=1e-6", f"measure.device={processor()}"])
    _, records = run(made)
    assert all(record.metrics == {"largest": 0.0} for record in records)


def test_the_table_says_oom_in_every_format(planned: Callable[..., Plan], run: Callable[..., Any]) -> None:
    made = planned(overrides=[f"measure.device={processor()}"])
    store, _ = run(made)
    results = collect(made, store, {}, None, ())
    attention, moto = results.table.rows
    assert (attention.mean, attention.n) == (None, 0)
    assert attention.further["memory_mb_32"].words == ("OOM", "OOM")
    assert attention.further["ms_16"].mean is not None
    assert moto.reported["ms_32"].delta is None, "there is no difference to an OOM"
    assert moto.reported["ms_16"].delta == pytest.approx(0.25 - 4.12)
    assert results.table.complete
    assert results.table.spec.mode == "min"
    for name in ("table.md", "table.tex", "page.html"):
        text = results.files[name].read_text()
        # The metric, a further one, and what the source reports.
        assert text.count("OOM") >= 3, name
    frame = results.files["table.csv"].read_text().splitlines()
    assert frame[1].count("OOM") >= 4, "two seeds, a further metric, the source"
    assert '"word": "OOM"' in results.files["results.json"].read_text()


def test_the_shipped_study_plans_both_operators_without_data() -> None:
    study = load(Path(__file__).parents[2] / "experiments" / "moto_walltime.yaml")
    made = make_plan(study, profile="laptop", fingerprint=lambda data: data.name)
    sizes = preflight(made.trials, workers=1, metric="ms_224", columns=made.study.report.columns)
    attention, moto = (sizes[made.of(arm)[0].identity] for arm in made.arms)
    assert attention.gmacs > 100 * moto.gmacs
    assert made.reported[made.arms[0].label]["ms_512"] == "OOM"
