from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from ablator.plan.planning import Plan, plan
from ablator.study.schema import Study
from ablator.study.validation import validate

# The first example pays for what is then cached, on a machine that may be busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout, in which the shipped studies lie."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def planned() -> Callable[..., Plan]:
    """Plan a study given as plain data."""

    def make(document: dict[str, Any], **options: Any) -> Plan:
        study = validate(Study, {"study": "s", "base": {"data": {"name": "digits"}}, **document}, "s.yaml")
        return plan(study, **{"fingerprint": lambda data: f"{data.name} {data.fraction}", **options})

    return make
