"""A trial that hangs in a real run: started again, it goes on from its checkpoint, and its record says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store

HANGS = """
import time
from pathlib import Path

import torch

from ablator.contracts.protocols import Change
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS


@settings
class HangsSettings:
    marker: str = ""
    always: bool = False


class Hangs(torch.nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.settings, self.batches = settings, 0

    def forward(self, x_BCHW):
        self.batches += self.training
        marker = Path(self.settings.marker)
        # In the second epoch of the first attempt. One that goes on from a checkpoint sees fewer batches.
        first = not marker.exists()
        if self.training and (self.batches == 60 if first else self.settings.always):
            marker.touch()
            time.sleep(3600)
        return x_BCHW * 0.5


def attach(seams, settings):
    seam = seams.tokenizer()
    seam.append(Hangs(settings))
    return Change(places=(seam.name,))


COMPONENTS.add("hangs", attach, settings=HangsSettings)
"""


@pytest.mark.slow
def test_a_hung_trial_goes_on_from_its_checkpoint_and_one_that_always_hangs_fails(
    cli: Callable[..., Any], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    marker = str(tmp_path / "hung")
    study = write_study(
        tmp_path,
        "hanging",
        [
            {"label": "once", "set": {"hangs.marker": marker}},
            {"label": "always", "set": {"hangs.marker": f"{marker}-again", "hangs.always": True}},
        ],
        plugins=["hangs.py"],
        seeds=1,
        set={"train.epochs": 3, "data.fraction": 1.0},
    )
    store = tmp_path / "store"
    done = cli("run", study, "--store", store, "--mlflow", "off", "--json", "--stall-seconds", 8)
    assert done.code == 1, done.err
    assert (done.json["completed"], done.json["failed"]) == (2, 1)
    ledger = Store(store).ledger
    found = ledger.load(ledger.identities()).values()
    (once,) = [record for record in found if "hangs" in record.spec]
    assert once.attempts == 2
    assert [(retry.ended, retry.epoch) for retry in once.retries] == [("hung", 1)]
    assert len(once.curves) == 3
    assert any("stopped once after 8 s without progress" in note for note in once.incidents)
    (failure,) = [ledger.failure(path.stem) for path in (store / "ledger" / "failures").glob("*.json")]
    assert failure is not None
    assert failure.attempts == 4
    assert [retry.ended for retry in failure.retries] == ["hung"] * 4
    assert "stopped 4 times after 8 s without progress" in str(failure.error)
