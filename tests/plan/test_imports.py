from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
from ablator.plan import json_schema, planning
from ablator.study.loading import load
planning.plan(load("experiments/moto_n.yaml"), profile="laptop", fingerprint=lambda data: "x")
json_schema.study_schema()
heavy = {"torch", "torchvision", "timm", "ray", "mlflow", "optuna", "numpy", "pandas"} & set(sys.modules)
print(sorted(heavy))
"""


def test_planning_loads_nothing_heavy(root: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=str(root), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
