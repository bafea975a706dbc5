"""What can be known to be wrong with trials before a worker is started for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ablator import data
from ablator.assembly.build import build_task
from ablator.assembly.check import Size, check, check_operator, meta_start
from ablator.assembly.operator import build_measurement
from ablator.backbones.starting import TrialWeights
from ablator.backbones.weights import find_weights, trial_identity
from ablator.contracts.protocols import World
from ablator.errors import SettingError, UserError, nearest
from ablator.plan.spec import TrialSpec
from ablator.plan.trial import Trial
from ablator.registry import OBJECTIVES
from ablator.training.batching import micro_batch_size
from ablator.training.loop import metric_names

Shown = Mapping[str, Sequence[str]]
"""Key of the study file to the metrics that it names."""


def preflight(
    trials: Iterable[Trial],
    *,
    workers: int,
    metric: str | None = None,
    columns: Sequence[str] = (),
    weights: bool = True,
    models: dict[str, Size] | None = None,
) -> dict[str, Size]:
    """Build every different model of `trials` on the meta device, and look for data and weights (which
    may fetch them; not with `weights=False`), and for `metric` and the table's further `columns` among what
    the trials will measure. `models` holds what was built before, for studies that share models, and is
    added to.

    Returns each trial's size by identity. Raises the first UserError, which names the row.
    """
    sizes: dict[str, Size] = {}
    models = {} if models is None else models
    checked: set[str] = set()
    shown = {"report.columns": columns, "report.metric": () if metric is None else (metric,)}
    for trial in trials:
        spec = trial.spec
        try:
            rest = json.dumps({**_any_trial(spec), "seed": 0}, sort_keys=True)
            if rest not in checked:
                _check_rest(spec, workers, shown, weights)
                checked.add(rest)
            key = model_key(spec) + ("" if trial.start is None else model_key(trial.start.trial.spec))
            if key not in models:
                models[key] = _check(trial) if spec.trains else check_operator(spec)
        except UserError as error:
            raise type(error)(f"{trial.label!r}: {error}") from error
        sizes[trial.identity] = models[key]
    return sizes


def model_key(spec: TrialSpec) -> str:
    """Equal for specs whose models have the same shape."""
    plain = _any_trial(spec)
    for section in ("seed", "train", "augment"):
        plain.pop(section, None)
    return json.dumps(plain, sort_keys=True)


def _any_trial(spec: TrialSpec) -> dict[str, Any]:
    """The spec as JSON, equal for all trials that it may start from: every seed has its own."""
    plain = spec.to_json()
    if spec.trains and trial_identity(spec.model.weights) is not None:
        plain["model"]["weights"] = "trial"
    return plain


def _check(trial: Trial) -> Size:
    return check(trial.spec, data.info(trial.spec.data), _start(trial), files=True)


def _start(trial: Trial) -> TrialWeights | None:
    if trial.start is None:
        return None
    spec = trial.start.trial.spec
    return meta_start(spec, data.info(spec.data), trial.start.text())


def _check_rest(spec: TrialSpec, workers: int, shown: Shown, weights: bool) -> None:
    if not spec.trains:
        _check_shown(build_measurement(spec).measures, shown)
        return
    data.check(spec.data, spec.augment)
    micro_batch_size(spec.train, World(size=workers))
    if spec.model.weights is not None and trial_identity(spec.model.weights) is None:
        find_weights(spec.model.weights)
    info = data.info(spec.data)
    if info.train_size < spec.train.batch_size:
        raise SettingError(
            f"train.batch_size {spec.train.batch_size} is more than the {info.train_size} training images of "
            f"{info.name} (data.fraction {spec.data.fraction:g}); use a smaller batch or more data"
        )
    if any(shown.values()):
        _check_shown(metric_names(build_task(spec, info), spec.train), shown)
    for name, settings in spec.objectives.items() if weights else ():
        OBJECTIVES.get(name).verify(settings)


def _check_shown(names: Sequence[str], shown: Shown) -> None:
    for key, metrics in shown.items():
        for metric in metrics:
            if metric not in names:
                average = " (ema_* need train.ema_decay)" if metric.startswith("ema_") else ""
                raise SettingError(
                    f"{key} is {metric!r}, which this trial would not measure{average}"
                    f"{nearest(metric, names)}; it measures: {', '.join(names)}"
                )
