"""From a plan and the weights in the store to what its figures are drawn from.

Shape legend: B batch, C channels, M shown channels, N tokens, E entities, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablator.analysis import measures
from ablator.analysis.reconstruction import heldout_error, scale_of
from ablator.analysis.retrain import retrain
from ablator.analysis.trained import Seen, Trained, load_trained, load_untrained
from ablator.errors import StoreError
from ablator.plan.planning import Plan
from ablator.plan.trial import Trial, ticket_of
from ablator.results.figure_data import FigureData, Layout, TrialFigures
from ablator.results.store import Store
from ablator.worker.starting import trial_weights

IMAGES = 6
"""Validation images that are shown: the first one of each of the first classes."""
CHANNELS = 16
"""First-layer maps that are shown of each model, evenly spread over its channels."""
STEPS = 500

OnNote = Callable[[str], None]


def analyse(
    planned: Plan,
    store: Store,
    *,
    steps: int = STEPS,
    again: bool = False,
    device: torch.device | None = None,
    on_note: OnNote | None = None,
) -> FigureData:
    """Measure every completed trial of the plan's arms whose weights are kept. Searches are left out.

    A decoder is trained for `steps` steps on each (0: none). With `again`, finished trials without kept
    weights are trained once more on `device`, by themselves; their records stay as they are. `on_note` is
    told of each trial in a line. Raises StoreError where no trial has weights, or where a file is damaged.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    note = on_note or (lambda text: None)
    found: dict[str, TrialFigures] = {}
    maps: dict[str, NDArray[Any]] = {}
    trials: list[TrialFigures] = []
    skipped: dict[str, str] = {}
    validation, scale = 0, 0
    for trial in _trials(planned, skipped):
        why = _weights(trial, store, planned.study.report.metric, again=again, device=device, note=note)
        if why is not None:
            skipped[f"{trial.label} · seed {trial.seed}"] = why
            continue
        if trial.identity not in found:
            trained = load_trained(
                trial.spec,
                store.bring(store.weights(trial.identity)),
                trial.identity,
                planned.study.report.metric,
                device,
            )
            scale = scale_of(trial.spec.data.image_size) if steps else 0
            validation = trained.info.val_size
            # One seed of an arm is shown; all are measured.
            shown = maps if all(t.label != trial.label for t in trials) else None
            found[trial.identity] = _measure(trial, store, trained, steps, scale, device, shown)
            note(f"{trial.label} · seed {trial.seed}: measured")
        trials.append(dataclasses.replace(found[trial.identity], label=trial.label, seed=trial.seed))
    if not trials:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise StoreError(f"no trial of {planned.study.study} has weights to look at ({reasons})")
    return FigureData(
        study=planned.study.study,
        profile=planned.profile,
        trials=tuple(trials),
        skipped=skipped,
        validation=validation,
        steps=steps,
        scale=scale,
        maps=maps,
    )


def _trials(planned: Plan, skipped: dict[str, str]) -> Iterator[Trial]:
    for arm in planned.arms:
        if arm.kind == "search":
            skipped[arm.label] = "samples of searches are not shown"
            continue
        for trial in planned.of(arm):
            if not trial.spec.trains or trial.spec.probe is not None:
                skipped[arm.label] = f"task {trial.spec.task} trains no tokenizer"
            else:
                yield trial


def _weights(
    trial: Trial, store: Store, metric: str, *, again: bool, device: torch.device, note: OnNote
) -> str | None:
    """None once the trial's weights are there, else why not and what to do."""
    record = store.ledger.get(trial.identity)
    if record is None:
        return "not trained yet; `ablator run --keep-weights STUDY` does it"
    if record.status != "completed":
        return f"{record.status}, so that there is no final model"
    if store.has(store.weights(trial.identity)):
        return None
    if not again:
        return (
            "its weights were not kept; `ablator figures --retrain STUDY` trains it again, and "
            "`ablator run --keep-weights` keeps those of trials that are still to be trained"
        )
    note(f"{trial.label} · seed {trial.seed}: trained again, {retrain(trial, record, store, metric, device)}")
    return None


def _measure(
    trial: Trial,
    store: Store,
    trained: Trained,
    steps: int,
    scale: int,
    device: torch.device,
    shown: dict[str, NDArray[Any]] | None,
) -> TrialFigures:
    """All numbers of one model; its maps go into `shown`."""
    statistics: measures.MapStatistics | None = None
    layouts: dict[str, measures.LayoutStatistics] = {}
    diverse: list[Tensor] = []
    picked = _Picked(trial.identity, len(trained.info.classes))
    for seen in trained.validation():
        tokens_BNC = measures.tokens_of(seen.tokens)
        each = (measures.cosine_diversity, measures.effective_rank, measures.residual)
        diverse.append(torch.stack([measure(tokens_BNC) for measure in each]).cpu())
        statistics = statistics or measures.MapStatistics(seen.tokens.shape[1])
        statistics.observe(seen.tokens)
        _observe(layouts, seen)
        picked.take(seen.images, seen.labels, seen.tokens, seen.layouts)
    assert statistics is not None, "a data set has validation images"
    for seen in trained.validation():
        statistics.count_ends(seen.tokens)
    if shown is not None:
        shown.update(picked.maps())
    before = _untrained(trial, store, device) if layouts else {}
    diversity, rank, apart = torch.cat(diverse, dim=1).mean(1).tolist()
    dead_C, saturated_C = statistics.dead(), statistics.saturated()
    return TrialFigures(
        identity=trial.identity,
        label=trial.label,
        seed=trial.seed,
        channels=len(dead_C),
        dead=int(dead_C.sum()),
        saturated=int(saturated_C.sum()),
        diversity=diversity,
        effective_rank=rank,
        residual=apart,
        heldout=heldout_error(trained, steps=steps, scale=scale, seed=trial.seed, device=device)
        if steps
        else None,
        layouts=tuple(
            Layout(
                place=place,
                shares=kept.shares,
                largest=kept.largest,
                brightness=kept.brightness,
                untrained=before[place].brightness,
            )
            for place, kept in layouts.items()
        ),
    )


def _untrained(trial: Trial, store: Store, device: torch.device) -> dict[str, measures.LayoutStatistics]:
    """By place, how the layouts of the trial's fresh model divide the validation set."""
    found: dict[str, measures.LayoutStatistics] = {}
    start = trial_weights(trial.spec, ticket_of(trial), store)
    for seen in load_untrained(trial.spec, device, start).validation():
        _observe(found, seen)
    return found


def _observe(layouts: dict[str, measures.LayoutStatistics], seen: Seen) -> None:
    for place, layout_BEHW in seen.layouts.items():
        layouts.setdefault(place, measures.LayoutStatistics(layout_BEHW.shape[1])).observe(
            layout_BEHW, seen.images
        )


class _Picked:
    """The first validation image of each of the first classes, and the maps that belong to them."""

    def __init__(self, identity: str, classes: int) -> None:
        self._identity = identity
        self._wanted = list(range(min(IMAGES, classes)))
        self._kept: dict[str, dict[int, NDArray[Any]]] = {}

    def take(
        self, images_B3HW: Tensor, labels_B: Tensor, tokens_BCHW: Tensor, layouts_BEHW: dict[str, Tensor]
    ) -> None:
        for label in list(self._wanted):
            at = (labels_B == label).nonzero().flatten()
            if not len(at):
                continue
            self._wanted.remove(label)
            index = int(at[0])
            image_HW3 = images_B3HW[index].permute(1, 2, 0).cpu().numpy()
            self._keep("images", label, np.rint(255 * image_HW3).astype(np.uint8))
            channels = np.linspace(0, tokens_BCHW.shape[1] - 1, min(CHANNELS, tokens_BCHW.shape[1]))
            features_MHW = tokens_BCHW[index, channels.astype(int)].cpu().numpy().astype(np.float16)
            self._keep(f"features/{self._identity}", label, features_MHW)
            for place, layout_BEHW in layouts_BEHW.items():
                entity_HW = layout_BEHW[index].argmax(0).cpu().numpy().astype(np.uint16)
                self._keep(f"layout/{self._identity}/{place}", label, entity_HW)

    def maps(self) -> dict[str, NDArray[Any]]:
        """By name, stacked in the order of the classes."""
        return {name: np.stack([kept[k] for k in sorted(kept)]) for name, kept in self._kept.items()}

    def _keep(self, name: str, label: int, value: NDArray[Any]) -> None:
        self._kept.setdefault(name, {})[label] = value
