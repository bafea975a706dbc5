"""A study of a few arms, built from plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ablator.contracts.record import Record
from ablator.plan.planning import Plan, plan
from ablator.report.building import build_table
from ablator.report.table import RowSpec, Table, TableSpec
from ablator.study.schema import Study
from ablator.study.validation import validate

Outcome = float | str | None
"""A value (completed), "failed", "diverged" or "pruned", or None (no record)."""


def record_of(identity: str, seed: int, outcome: float | str, **more: Any) -> Record:
    common = {"identity": identity, "spec": {"seed": seed}, **more}
    if isinstance(outcome, str):
        if outcome == "pruned":
            return Record(status="pruned", metrics={"top1": 12.0}, **common)
        return Record(status=outcome, error=f"{outcome} on purpose", **common)  # type: ignore[arg-type]
    return Record(status="completed", metrics={"top1": outcome}, **common)


@pytest.fixture
def build() -> Callable[..., Table]:
    """`build({"base": [80.0, 81.0], "arm": [82.0, "failed"]})`: outcomes by seed, the baseline first."""

    def make(
        arms: Mapping[str, Sequence[Outcome]],
        *,
        reported: Mapping[str, Mapping[str, float]] | None = None,
        more: Mapping[str, Mapping[str, Any]] | None = None,
        chosen_from: Mapping[str, int] | None = None,
        against: Mapping[str, str | None] | None = None,
        searches: Sequence[Any] = (),
        **spec: Any,
    ) -> Table:
        rows: list[RowSpec] = []
        records: dict[str, Record] = {}
        for label, outcomes in arms.items():
            identities = tuple((seed, f"{label}/{seed}") for seed in range(len(outcomes)))
            for (seed, identity), outcome in zip(identities, outcomes, strict=True):
                if outcome is not None:
                    records[identity] = record_of(identity, seed, outcome, **(more or {}).get(label, {}))
            rows.append(
                RowSpec(
                    label=label,
                    changes={"moto.n": len(rows)},
                    identities=identities,
                    reported=(reported or {}).get(label, {}),
                    chosen_from=(chosen_from or {}).get(label, 0),
                    baseline=label in (against or {}) and (against or {})[label] is None,
                    against=(against or {}).get(label),
                )
            )
        settings: dict[str, Any] = {
            "study": "demo",
            "question": "Does it help?",
            "source": "Table 1",
            "profile": "laptop",
            "metric": "top1",
            "mode": "max",
            "baseline": next(iter(arms)),
            "command": "ablator run demo.yaml",
        }
        return build_table(TableSpec(**{**settings, **spec}, rows=tuple(rows)), records, searches)

    return make


@pytest.fixture
def full(build: Callable[..., Table]) -> Table:
    """Every kind of cell, with sizes, costs, notes, curves and reported values."""

    def measured(factor: float) -> dict[str, Any]:
        return {
            "cost": {
                "step_ms": 40.0 * factor,
                "images_per_second": 1000.0 / factor,
                "peak_memory_mb": 500.0 * factor,
                "train_seconds": 30.0 * factor,
                "eval_seconds": 2.0,
            },
            "size": {
                "parameters": 22.05e6 * factor,
                "training_parameters": 23e6 * factor,
                "gmacs": 4.6 * factor,
            },
            "curves": tuple({"epoch": float(epoch), "top1": 50.0 + 10 * epoch} for epoch in range(1, 4)),
            "versions": {"torch": "2.15.0", "python": "3.11"},
        }

    return build(
        {
            "DeiT-S": [80.0, 81.0, 80.5],
            "n = 8, soft": [81.5, 82.4, 82.0],
            "n = 16 | hard": [80.2, None, 80.1],
            "λ = 1.0": ["diverged", "diverged", "diverged"],
            "n = 32_hard": [79.0, 80.2, "failed"],
        },
        reported={
            "DeiT-S": {"top1": 79.8},
            "n = 8, soft": {"top1": 81.6, "training_overhead": 4.1},
            "λ = 1.0": {"top1": math.nan},
        },
        more={
            "DeiT-S": measured(1.0),
            "n = 8, soft": {**measured(1.1), "notes": ("features of lite0 stand in for VGG19",)},
            "n = 16 | hard": measured(1.2),
            "λ = 1.0": measured(1.3),
            "n = 32_hard": measured(1.4),
        },
        notes=("Trained on digits.",),
    )


@pytest.fixture(scope="session")
def planned() -> Callable[..., Plan]:
    """`planned({"arms": [...], "seeds": 3})` plans a study given as plain data; its first row is `base`."""

    def make(document: Mapping[str, Any]) -> Plan:
        whole = {
            "study": "s",
            "base": {"data": {"name": "digits"}},
            "baseline": {"label": "base"},
            **document,
        }
        return plan(validate(Study, whole, "s.yaml"), fingerprint=lambda data: data.name)

    return make
