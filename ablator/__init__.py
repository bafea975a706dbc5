"""Ablator: ablation studies as short YAML files.

    study = ablator.load("experiments/moto_n.yaml")
    plan = ablator.plan(study, profile="laptop")
    results = ablator.run(study, profile="laptop")

The names below are loaded when they are first asked for, so that `import ablator` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablator.api import (
        Bound,
        Figures,
        Results,
        Study,
        explain,
        figures,
        load,
        plan,
        plan_all,
        report,
        report_all,
        run,
        run_all,
        status,
        sync,
    )
    from ablator.scheduling.cluster import Resources
    from ablator.worker.execution import Execution

    __version__: str

__all__ = [
    "Bound",
    "Execution",
    "Figures",
    "Resources",
    "Results",
    "Study",
    "__version__",
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

# Where each name lies. As text, because the rooms below import this package and must not lead back up.
_HOMES = {
    **dict.fromkeys(
        (
            "Bound",
            "Figures",
            "Results",
            "Study",
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
        ),
        "ablator.api",
    ),
    "Resources": "ablator.scheduling.cluster",
    "Execution": "ablator.worker.trial",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        value: Any = metadata.version("ablator")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'ablator' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """`plan` and `report` are functions here and also the names of two rooms. Importing a room would put
    it over the function; that one assignment is left out. `from ablator.plan.spec import ...` reads
    sys.modules and works as ever; only `import ablator.plan.spec as name` does not."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
