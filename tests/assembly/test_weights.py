"""Starting weights beside components, in preflight and on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablator.assembly.build import assemble
from ablator.assembly.check import check
from ablator.assembly.preflight import preflight
from ablator.contracts.protocols import DataInfo
from ablator.errors import SettingError, WeightsError
from ablator.plan.spec import TrialSpec
from ablator.plan.trial import Trial

Make = Callable[..., TrialSpec]

MOTO: dict[str, Any] = {"moto.n": 2, "moto.blocks": "0:1"}
STEM: dict[str, Any] = {"moto.n": 2, "moto.placement": "stem"}
FROZEN: dict[str, Any] = {"tokenizer.kind": "frozen"}


def checkpoint(folder: Path, spec: TrialSpec, info: DataInfo) -> str:
    """What a trial of `spec` keeps, with weights that differ from fresh ones."""
    model = assemble(spec, info).model
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    path = folder / "trial.pt"
    torch.save({"format": 1, "tag": "x", "state": {"model": model.state_dict()}}, path)
    return str(path)


@pytest.mark.parametrize("changes", [{}, MOTO, FROZEN, {**MOTO, "tokenprop.scale": 16}], ids=str)
def test_a_trials_weights_come_back_with_its_components(
    spec_of: Make, info: DataInfo, family: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = checkpoint(tmp_path, spec_of(family, changes), info)
    without_objective = {key: value for key, value in changes.items() if not key.startswith("tokenprop")}
    model = assemble(spec_of(family, {**without_objective, "model.weights": path}, seed=1), info).model
    saved = torch.load(path, weights_only=True)["state"]["model"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name]), name


@pytest.mark.parametrize("changes", [MOTO, STEM, FROZEN], ids=["blocks", "stem", "frozen"])
def test_a_component_that_the_weights_do_not_know_starts_fresh(
    spec_of: Make, info: DataInfo, tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = checkpoint(tmp_path, spec_of(), info)
    plain = assemble(spec_of(changes={"model.weights": path}), info)
    made = assemble(spec_of(changes={**changes, "model.weights": path}), info)
    shared = plain.model.state_dict()
    for name, value in made.model.state_dict().items():
        if name in shared:
            assert torch.equal(value, shared[name]), name
    assert any("start fresh" in note for note in made.notes)
    assert not any("start fresh" in note for note in plain.notes)


def test_weights_of_another_arm_are_refused(spec_of: Make, info: DataInfo, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, spec_of(changes=MOTO), info)
    with pytest.raises(SettingError, match=r"the model has no .*appended.*switch on the components"):
        assemble(spec_of(changes={"model.weights": path}), info)
    with pytest.raises(SettingError, match=r"it lacks .*blocks\.1\.appended"):
        assemble(spec_of(changes={"moto.n": 2, "moto.blocks": "0:2", "model.weights": path}), info)


def test_sizes_are_counted_without_reading_the_weights(spec_of: Make, info: DataInfo, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"never looked into")
    spec = spec_of(changes={"model.weights": str(tmp_path / "w.pth")})
    assert check(spec, info).parameters == check(spec_of(), info).parameters


def test_preflight_names_the_row_whose_weights_are_gone(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(changes={"model.weights": str(tmp_path / "gone.pth")})
    trial = Trial(
        identity=spec.identity("data", "digest"), arm=1, label="probed", seed=0, spec=spec, changes={}
    )
    with pytest.raises(WeightsError, match=r"'probed'.*gone\.pth"):
        preflight([trial], workers=1)


@pytest.mark.parametrize("image_size", [32, 48])
def test_preflight_looks_whether_a_file_fits(
    spec_of: Make, info: DataInfo, family: str, tmp_path: Path, image_size: int
) -> None:
    path = checkpoint(tmp_path, spec_of(family, MOTO), info)

    def look(changes: dict[str, Any]) -> None:
        spec = spec_of(family, {"data.image_size": image_size, "model.weights": path, **changes})
        identity = spec.identity("data", "digest")
        trial = Trial(identity=identity, arm=1, label="probed", seed=0, spec=spec, changes={})
        preflight([trial], workers=1)

    look(MOTO)
    with pytest.raises(SettingError, match=r"'probed': .*does not fit.*the model has no .*appended"):
        look({})
