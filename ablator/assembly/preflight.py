"""What can be known to be wrong with trials before a worker is started for them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ablator import data
from ablator.assembly.build import build_task
from ablator.assembly.check import Size, check
from ablator.contracts.protocols import DataInfo, World
from ablator.errors import SettingError, UserError, nearest
from ablator.plan.spec import TrialSpec
from ablator.plan.trial import Trial
from ablator.registry import OBJECTIVES
from ablator.training.batching import micro_batch_size
from ablator.training.loop import metric_names


def preflight(
    trials: Iterable[Trial], *, workers: int, metric: str | None = None, weights: bool = True
) -> dict[str, Size]:
    """Build every different model of `trials` on the meta device, and look for data and weights (which
    may fetch them; not with `weights=False`), and for `metric` among what the trials will measure.

    Returns each trial's size by identity. Raises the first UserError, which names the row.
    """
    sizes: dict[str, Size] = {}
    models: dict[str, Size] = {}
    checked: set[str] = set()
    for trial in trials:
        spec = trial.spec
        try:
            rest = json.dumps({**spec.to_json(), "seed": 0}, sort_keys=True)
            if rest not in checked:
                _check_rest(spec, workers, metric, weights)
                checked.add(rest)
            key = model_key(spec)
            if key not in models:
                models[key] = check(spec, data.info(spec.data))
        except UserError as error:
            raise type(error)(f"{trial.label!r}: {error}") from error
        sizes[trial.identity] = models[key]
    return sizes


def model_key(spec: TrialSpec) -> str:
    """Equal for specs whose models have the same shape."""
    plain = spec.to_json()
    for section in ("seed", "train", "augment"):
        del plain[section]
    return json.dumps(plain, sort_keys=True)


def _check_rest(spec: TrialSpec, workers: int, metric: str | None, weights: bool) -> None:
    data.check(spec.data, spec.augment)
    micro_batch_size(spec.train, World(size=workers))
    info = data.info(spec.data)
    if info.train_size < spec.train.batch_size:
        raise SettingError(
            f"train.batch_size {spec.train.batch_size} is more than the {info.train_size} training images of "
            f"{info.name} (data.fraction {spec.data.fraction:g}); use a smaller batch or more data"
        )
    if metric is not None:
        _check_metric(spec, info, metric)
    for name, settings in spec.objectives.items() if weights else ():
        OBJECTIVES.get(name).verify(settings)


def _check_metric(spec: TrialSpec, info: DataInfo, metric: str) -> None:
    names = metric_names(build_task(spec, info), spec.train)
    if metric in names:
        return
    average = " (ema_* need train.ema_decay)" if metric.startswith("ema_") else ""
    raise SettingError(
        f"report.metric is {metric!r}, which this trial would not measure{average}"
        f"{nearest(metric, names)}; it measures: {', '.join(names)}"
    )
