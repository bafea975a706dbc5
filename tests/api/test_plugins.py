"""A study with a plug-in through the whole house: the workers get its code from the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store

HALVES = """
import torch
from ablator.contracts.protocols import Change
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS

@settings
class HalvesSettings:
    factor: float = 0.5

class Scale(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x_BCHW):
        return x_BCHW * self.factor

def attach(seams, settings):
    seam = seams.tokenizer()
    seam.append(Scale(settings.factor))
    return Change(places=(seam.name,), notes=("halves were here",))

COMPONENTS.add("halves", attach, settings=HalvesSettings)
"""


@pytest.mark.slow
def test_workers_run_it_and_its_change_is_a_new_trial(
    cli: Callable[..., Any], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    arms = [{"label": "halves", "set": {"halves": "on"}}]
    study = write_study(tmp_path, "own_code", arms, plugins=["halves.py"], seeds=1, set={"train.epochs": 1})
    code = tmp_path / "halves.py"
    code.write_text(HALVES)
    store = tmp_path / "store"
    done = cli("run", study, "--store", store, "--mlflow", "off", "--json")
    assert done.code == 0, done.err
    assert done.json["completed"] == 2
    ledger = Store(store).ledger
    base, own = sorted(ledger.load(ledger.identities()).values(), key=lambda record: "halves" in record.spec)
    assert "plugins" not in base.spec
    assert "halves were here" in own.notes
    assert base.metrics != own.metrics
    assert (store / "plugins" / f"{own.spec['plugins']['halves']}.py").read_text() == HALVES

    code.write_text(HALVES.replace("x_BCHW * self.factor", "x_BCHW * self.factor + 1"))
    trials = cli("plan", study, "--store", store, "--json").json["trials"]
    assert [trial["cached"] for trial in trials] == [True, False]
    code.write_text("import nothing_like_this\n")
    wrong = cli("run", study, "--store", store)
    assert wrong.code == 2
    assert "plugins[0]: halves.py, line 1: ModuleNotFoundError" in wrong.err
    assert "Traceback" not in wrong.err
