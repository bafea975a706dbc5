"""What a measuring trial is made of: its task, and an operator from map to map."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from ablator.assembly.build import random_stream
from ablator.components.moto import MoTo
from ablator.components.self_attention import PixelSelfAttention
from ablator.components.settings import MoToSettings
from ablator.contracts.protocols import Measuring
from ablator.errors import SettingError
from ablator.plan.spec import TrialSpec
from ablator.registry import TASKS

_OPERATORS: Mapping[str, Callable[[int, TrialSpec], nn.Module]] = {
    "self_attention": lambda channels, spec: PixelSelfAttention(channels),
    "moto": lambda channels, spec: MoTo(channels, spec.components.get("moto", MoToSettings())),
}


def build_measurement(spec: TrialSpec) -> Measuring:
    """The task of a measuring `spec`. Raises SettingError."""
    assert spec.measure is not None
    task: Measuring = TASKS.get(spec.task).load()(settings=spec.measure)
    return task


def build_operator(spec: TrialSpec) -> nn.Module:
    """The operator that `spec` measures, fresh, in eval mode. Works under `torch.device("meta")`.

    Raises SettingError for a section that would change nothing in it.
    """
    assert spec.measure is not None
    name = spec.measure.operator
    idle = [section for section in (*spec.components, *spec.objectives) if section != name]
    if idle:
        raise SettingError(
            f"measure.operator is {name}, in which the section {', '.join(idle)} has no effect; leave it out"
        )
    with random_stream(spec.seed, "operator"):
        return _OPERATORS[name](spec.measure.channels, spec).eval()
