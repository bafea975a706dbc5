"""What workers train on where Ray does not say it."""

from __future__ import annotations

import pytest

from ablator.errors import SettingError
from ablator.worker.execution import on_cpu_anyway


@pytest.mark.parametrize(("said", "expected"), [(None, False), ("", False), ("cpu", True)])
def test_only_a_variable_puts_workers_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, said: str | None, expected: bool
) -> None:
    monkeypatch.delenv("ABLATOR_DEVICE", raising=False)
    if said is not None:
        monkeypatch.setenv("ABLATOR_DEVICE", said)
    assert on_cpu_anyway() is expected


def test_it_chooses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATOR_DEVICE", "cuda:1")
    with pytest.raises(SettingError, match=r"ABLATOR_DEVICE=cuda:1.*Ray says which GPU"):
        on_cpu_anyway()
