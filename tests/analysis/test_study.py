"""Real tiny models, from their training to their figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ablator import data
from ablator.analysis.study import analyse
from ablator.analysis.trained import load_trained
from ablator.assembly.build import assemble
from ablator.cli import figures, studies  # noqa: F401 (they add their commands)
from ablator.cli.app import app
from ablator.contracts.protocols import World
from ablator.errors import StoreError
from ablator.plan.planning import Plan
from ablator.plan.planning import plan as make_plan
from ablator.plan.trial import ticket_of
from ablator.report.figures import ENTITIES, draw, entity_colours
from ablator.results import figure_data
from ablator.results.store import Store
from ablator.study.loading import load
from ablator.training.kept import kept_weights
from ablator.training.loop import evaluate
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner

CPU = torch.device("cpu")
ARMS = [
    {"label": "MoTo", "set": {"moto": {"n": 4, "blocks": "0:1"}}},
    {"label": "stem", "set": {"moto": {"n": 8, "placement": "stem"}}},
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., Path]) -> tuple[Plan, Store]:
    """Three trials that are finished, the last of them without weights."""
    folder = tmp_path_factory.mktemp("figures")
    study = load(write_study(folder, "looks", ARMS, seeds=1))
    planned = make_plan(
        study,
        overrides=["train.epochs=1", "data.fraction=0.2", "train.ema_decay=0.5"],
        fingerprint=lambda settings: data.info(settings).fingerprint,
    )
    store = Store.open(folder / "store")
    for trial in planned.trials:
        kept = trial.label != "stem"
        runner = TrialRunner(store, Execution(keep_weights=kept), world=World(), device=CPU)
        record = runner.run(ticket_of(trial), attempts=1, on_progress=lambda progress: True)
        assert record is not None
        assert record.status == "completed", record.error
    return planned, store


def test_kept_weights_are_those_that_the_record_was_measured_with(trained: tuple[Plan, Store]) -> None:
    planned, store = trained
    trial = planned.trials[1]
    record = store.ledger.get(trial.identity)
    assert record is not None
    for metric in ("val_loss", "ema_val_loss"):
        state = kept_weights(store.weights(trial.identity), trial.identity, metric)
        assert state is not None
        runner = TrialRunner(store, Execution(), world=World(), device=CPU)
        images = runner._load(trial.spec, trial.spec.train.batch_size)
        built = assemble(trial.spec, images.info)
        built.model.load_state_dict(state)
        assert evaluate(built.model, built.task, images, CPU)["val_loss"] == record.metrics[metric]
    assert not store.checkpoint(trial.identity).exists()


def test_model_weights_can_start_from_a_kept_file(trained: tuple[Plan, Store]) -> None:
    planned, store = trained
    trial = planned.trials[1]
    path = store.weights(trial.identity)
    model = dataclasses.replace(trial.spec.model, weights=str(path))
    info = data.info(trial.spec.data)
    begun = assemble(dataclasses.replace(trial.spec, model=model, seed=7), info).model.backbone.state_dict()
    state = kept_weights(path, trial.identity, "top1")
    assert state is not None
    assert begun
    assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in begun.items())


def test_damaged_weights_are_named(trained: tuple[Plan, Store], tmp_path: Path) -> None:
    planned, store = trained
    trial = planned.trials[0]
    copy = tmp_path / "copy.pt"
    content = bytearray(store.weights(trial.identity).read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        kept_weights(copy, trial.identity, "top1")


def test_tokens_and_layouts_are_those_inside_the_model(trained: tuple[Plan, Store]) -> None:
    planned, store = trained
    trial = planned.trials[1]
    found = load_trained(trial.spec, store.weights(trial.identity), trial.identity, "top1", CPU)
    seen = next(found.validation())
    assert seen.tokens.shape[1:] == (32, 4, 4)
    assert set(seen.layouts) == {"patch_embed.proj", "blocks.0"}
    for layout_BEHW in seen.layouts.values():
        assert layout_BEHW.shape[1:] == (4, 4, 4)
        torch.testing.assert_close(layout_BEHW.sum(1), torch.ones(len(layout_BEHW), 4, 4))
    assert 0 <= float(seen.images.min()) < float(seen.images.max()) <= 1


def test_what_is_found_is_drawn_and_what_is_missing_said(trained: tuple[Plan, Store], tmp_path: Path) -> None:
    planned, store = trained
    found = analyse(planned, store, steps=3, device=CPU)
    assert [trial.label for trial in found.trials] == ["DeiT", "MoTo"]
    assert "--retrain" in found.skipped["stem · seed 0"]
    assert all(trial.heldout is not None and 0 < trial.heldout < 1 for trial in found.trials)
    assert found.maps["images"].shape == (6, 32, 32, 3)
    for layout in found.trials[1].layouts:
        assert sum(layout.shares) == pytest.approx(1.0)
        assert found.maps[f"layout/{found.trials[1].identity}/{layout.place}"].max() < 4
    assert analyse(planned, store, steps=3, device=CPU).trials == found.trials

    figure_data.save(found, tmp_path)
    held = figure_data.load(tmp_path)
    assert held is not None
    assert dataclasses.replace(held, maps={}) == dataclasses.replace(found, maps={})
    assert all(np.array_equal(held.maps[name], value) for name, value in found.maps.items())
    drawn = ("layouts", "features", "diversity", "reconstruction")
    names = {f"{name}.{form}" for name in drawn for form in ("png", "svg")}
    assert draw(held, tmp_path).keys() == names
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)
    (tmp_path / "figures.npz").write_bytes(b"another")
    with pytest.raises(StoreError, match="ablator figures"):
        figure_data.load(tmp_path)


def test_training_again_gives_the_weights_and_leaves_the_record(trained: tuple[Plan, Store]) -> None:
    planned, store = trained
    trial = planned.trials[2]
    before = store.ledger.get(trial.identity)
    said: list[str] = []
    found = analyse(planned, store, steps=0, again=True, device=CPU, on_note=said.append)
    assert store.ledger.get(trial.identity) == before
    assert before is not None
    value = f"{before.metrics['top1']:.2f}"
    assert f"stem · seed {trial.seed}: trained again, top1 {value} (recorded: {value})" in said
    assert found.skipped == {}
    assert not list((store.root / "scratch").glob("retrain-*"))


def test_the_largest_entities_have_colours_and_the_rest_greys() -> None:
    shares = [0.01 * k for k in range(12)]
    colours = entity_colours(shares)
    assert colours[::-1][:8] == list(ENTITIES)
    assert not set(colours[:4]) & set(ENTITIES)


def test_the_command_draws_into_the_report_and_its_page(
    trained: tuple[Plan, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, store = trained
    command: list[str] = ["figures", planned.study.file, "--store", str(store.root), "--json"]
    for override in ("train.epochs=1", "data.fraction=0.2", "train.ema_decay=0.5"):
        command += ["--set", override]
    monkeypatch.setenv("COLUMNS", "150")
    result = CliRunner().invoke(app, [*command, "--steps", "0", "--retrain"], prog_name="ablator")
    assert result.exit_code == 0, result.output
    files = json.loads(result.stdout.strip().splitlines()[-1])["files"]
    page = store.reports("looks") / planned.profile / "page.html"
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == len(files) / 2 == 3
    assert text.index("What the models learned") < text.index("</main>")

    for path in files.values():
        Path(path).unlink()
    again = CliRunner().invoke(app, [*command, "--redraw"], prog_name="ablator")
    assert again.exit_code == 0, again.output
    assert all(Path(path).exists() for path in files.values())

    # Of other trials the page shows nothing.
    other = CliRunner().invoke(
        app, ["report", planned.study.file, "--store", str(store.root), "--set", "train.epochs=2"]
    )
    assert other.exit_code == 1
    assert "What the models learned" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", ["paper", "gpu", "laptop"])
def test_the_study_of_the_docs_is_planned_at_every_scale(profile: str) -> None:
    study = load(Path(__file__).parents[2] / "docs" / "figures.yaml")
    planned = make_plan(study, profile=profile, fingerprint=lambda settings: settings.name)
    assert len(planned.arms) == 6
    assert len(planned.unique()) == len(planned.trials)
