"""Two workers do what one does, and agree with each other on everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def workers(run_child: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two gloo workers has to tell of the trials in `child.py`."""
    folder: Path = tmp_path_factory.mktemp("workers")
    for child, _, errors in run_child(*[["rank", str(n), "2", str(folder)] for n in range(2)]):
        assert child.returncode == 0, errors
    return [json.loads((folder / f"{n}.json").read_text()) for n in range(2)]


@pytest.mark.parametrize("trial", ["plain", "accumulated"])
def test_two_workers_equal_one(toy: Any, workers: list[dict[str, Any]], trial: str) -> None:
    outcome, model = toy.run()
    alone = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = workers[0][trial]
    torch.testing.assert_close(torch.tensor(found["weights"]), alone, rtol=1e-4, atol=1e-5)
    for row, expected in zip(found["curves"], outcome.curves, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


def test_workers_agree_on_everything(workers: list[dict[str, Any]]) -> None:
    assert workers[0] == workers[1]
    assert workers[0]["full"]["status"] == "completed"


def test_a_nan_on_one_worker_ends_both(workers: list[dict[str, Any]]) -> None:
    assert workers[0]["nan"]["status"] == "diverged"
    assert workers[0]["nan"]["error"].startswith("loss is nan at epoch 1, step 3 ")


def test_one_worker_stops_both_and_both_resume(workers: list[dict[str, Any]]) -> None:
    assert workers[0]["stopped"]["status"] == "stopped"
    assert len(workers[0]["stopped"]["curves"]) == 1
    assert workers[0]["resumed"] == workers[0]["full"]


def test_every_worker_hears_of_a_damaged_checkpoint(workers: list[dict[str, Any]]) -> None:
    for found in workers:
        assert "is damaged" in found["damaged"]["error"]
