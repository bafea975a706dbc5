"""Starting weights: from a checkpoint file into a fresh backbone and what components put into it.

The backbone's own weights are loaded before components are attached, when its parts still have their
published names; what a checkpoint of one of our trials holds for components follows afterwards.
"""

from __future__ import annotations

import dataclasses
import pickle
import sys
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from ablator.backbones.settings import ModelSettings
from ablator.backbones.weights import find_weights, weights_digest
from ablator.contracts.archives import check_archive
from ablator.errors import SettingError, WeightsError

_NAMED = 5
_PREFIXES = ("module.", "base_encoder.", "momentum_encoder.", "backbone.")
"""What wraps a backbone in published files: data parallelism, MoCo v3's two encoders (its linear probe takes
the base encoder), and a model with further parts, such as our trials' own."""
_UNREADABLE = (
    *(OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, MemoryError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError),
)
"""What readers of checkpoints raise for files that are none."""
_TRIAL = {"format", "tag", "state"}
"""Top-level keys of a trial's checkpoint."""
_MISFITS = (RuntimeError, ValueError, KeyError, AttributeError, IndexError, TypeError, AssertionError)
"""Everything that timm's renaming and resampling raise on weights of another architecture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialWeights:
    """What one of our own trials trained, in place of a file."""

    state: Mapping[str, Tensor]
    """The trained model's state dict."""
    origin: str
    """Which trial it was, in words, for footnotes and errors."""


class StartingWeights:
    """The content of one checkpoint on its way into one model: `fill`, then `finish`."""

    def __init__(self, settings: ModelSettings, given: TrialWeights | None = None) -> None:
        """Take what is `given`, or read the file (weights only, no code); raises WeightsError where that
        cannot be done."""
        assert settings.weights is not None
        self._settings = settings
        self._missing: list[str] = []
        self._before: set[str] = set()
        if given is not None:
            self._state = _unwrapped(given.state)
            self._name = f"{settings.weights[:18]}… ({given.origin})"
            self._notes = [f"starts from {given.origin}"]
        else:
            self._state = read(settings.weights)
            self._name = repr(settings.weights)
            file = find_weights(settings.weights).name
            self._notes = [f"starts from {file} (SHA-256 {self._digest()[:12]})"]

    def fill(self, model: nn.Module) -> None:
        """Load what belongs to the fresh backbone `model`. The model's own `checkpoint_filter_fn` (timm's, in
        the module of its class) renames keys and resamples positions and patches of another size; a
        classifier that does not fit is left out. A model on the meta device gets the checks and no numbers.
        Raises SettingError where a size differs."""
        own = model.state_dict()
        if next(iter(own.values())).is_meta:
            self._state = {name: value.to("meta") for name, value in self._state.items()}
        adapted = self._adapted(model)
        self._leave_classifier(adapted, own, model)
        wrong = [name for name, value in adapted.items() if name in own and value.shape != own[name].shape]
        if wrong:
            sizes = [f"{k} {_size(adapted[k])} (the model has {_size(own[k])})" for k in wrong]
            raise SettingError(f"{self._does_not_fit()}: sizes differ: {_some(sizes)}")
        model.load_state_dict({name: value for name, value in adapted.items() if name in own}, strict=False)
        self._before = set(own)
        self._state = {name: value for name, value in adapted.items() if name not in own}
        classifier = _classifier_name(model)
        self._missing = [k for k in own if k not in adapted and not _below(k, classifier)]

    def finish(self, model: nn.Module) -> tuple[str, ...]:
        """Load what the file holds for components that are attached by now, and return the footnotes.

        A projection that a component replaced need not be in the file, and components that it does not know
        start fresh. Raises SettingError that names keys which the model or the file lacks.
        """
        now = model.state_dict()
        late = {k: v for k, v in self._state.items() if k in now and v.shape == now[k].shape}
        model.load_state_dict(late, strict=False)
        unexpected = [name for name in self._state if name not in late]
        missing = [name for name in self._missing if name in now]
        added = [name for name in now if name not in self._before]
        if late:
            missing += [name for name in added if name not in late]
        if unexpected or missing:
            raise SettingError(f"{self._does_not_fit()}: {_differences(missing, unexpected)}")
        if added and not late:
            self._notes.append("components are not in these weights and start fresh")
        self._state = {}
        return tuple(self._notes)

    def _adapted(self, model: nn.Module) -> dict[str, Tensor]:
        adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if adapt is None:
            return self._state
        try:
            adapted: dict[str, Tensor] = adapt(dict(self._state), model)
        except _MISFITS as error:
            raise SettingError(f"{self._does_not_fit()}: {type(error).__name__}: {error}") from error
        return adapted

    def _leave_classifier(
        self, adapted: dict[str, Tensor], own: Mapping[str, Tensor], model: nn.Module
    ) -> None:
        classifier = _classifier_name(model)
        given = {k: v.shape for k, v in adapted.items() if _below(k, classifier)}
        if given == {k: v.shape for k, v in own.items() if _below(k, classifier)}:
            return
        for name in given:
            del adapted[name]
        self._notes.append(
            f"the classifier ({classifier}) starts fresh: "
            + ("the one of these weights has another size" if given else "these weights have none")
        )

    def _does_not_fit(self) -> str:
        return f"model.weights {self._name} does not fit {self._settings.name}"

    def _digest(self) -> str:
        digest = weights_digest(self._settings)
        assert digest is not None
        return digest


def read(weights: str) -> dict[str, Tensor]:
    """A checkpoint's tensors on CPU, without wrappers and their prefixes; `.safetensors` or what torch.save
    wrote. Of a file that holds an average of the weights beside them (state_dict_ema, model_ema) it is the
    average, as in timm: published numbers, such as T2T-ViT's, are the average's. No code in a file is run.
    Raises WeightsError."""
    path = find_weights(weights)
    try:
        with path.open("rb") as file:
            check_archive(file)
        held: Any = load_state_dict(str(path), use_ema=True, weights_only=True)
    except _UNREADABLE as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"model.weights {weights!r} holds no weights that can be read safely: {why}; save its state_dict "
            "alone, with torch.save or as .safetensors"
        ) from error
    if set(held) >= _TRIAL and isinstance(held["state"], Mapping):
        held = held["state"].get("model", {})
    held = held if isinstance(held, Mapping) else {}
    state = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(
            f"model.weights {weights!r} holds no weights under model, state_dict or at its top, "
            f"but: {_some([str(name) for name in held])}"
        )
    return _unwrapped(state)


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(state)
    for prefix in _PREFIXES:
        found = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)} or found
    return found


def _classifier_name(model: nn.Module) -> str:
    classifier = model.get_classifier()  # type: ignore[operator]
    return next(str(name) for name, module in model.named_modules() if module is classifier)


def _below(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def _differences(missing: list[str], unexpected: list[str]) -> str:
    parts = [f"it lacks {_some(missing)}"] if missing else []
    parts += [f"the model has no {_some(unexpected)}"] if unexpected else []
    if any(".appended." in name for name in unexpected):
        parts.append("switch on the components that it was trained with")
    return "; ".join(parts)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _size(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "scalar"
