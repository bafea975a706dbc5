"""What a model's output means: losses and metrics."""

from ablator.registry import TASKS

TASKS.add(
    "classification",
    "ablator.tasks.classification:build",
    summary="one label per image: cross-entropy, top-1 and top-5",
)
