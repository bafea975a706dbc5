"""A study to send."""

from __future__ import annotations

from pathlib import Path

import pytest

STUDY = """
study: tiny
source: "a book, Table 1"
question: Does it help?
baseline: {label: base}
arms: [{label: two, set: {moto.n: 2}}]
seeds: 2
report: {metric: top1}
"""


@pytest.fixture
def tiny_study(tmp_path: Path) -> Path:
    """tiny.yaml, in `tmp_path`."""
    file = tmp_path / "tiny.yaml"
    file.write_text(STUDY, encoding="utf-8")
    return file
