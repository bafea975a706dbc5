"""What a model's output means: losses and metrics."""

from ablator.registry import TASKS
from ablator.tasks.settings import MeasureSettings, ProbeSettings

TASKS.add(
    "classification",
    "ablator.tasks.classification:build",
    summary="one label per image: cross-entropy, top-1 and top-5",
)
TASKS.add(
    "linear_probe",
    "ablator.tasks.linear_probe:build",
    settings=ProbeSettings,
    section="probe",
    summary="classification by linear heads on a frozen backbone, one head per learning rate",
)
TASKS.add(
    "inference_time",
    "ablator.tasks.inference_time:build",
    settings=MeasureSettings,
    section="measure",
    trains=False,
    summary="nothing is trained: wall time and memory of an operator on maps of several sizes",
)
