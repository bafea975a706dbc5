"""What is refused before a worker is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.assembly.preflight import preflight
from ablator.errors import SettingError, UserError, WeightsError
from ablator.plan.spec import TrialSpec
from ablator.plan.trial import Trial

Make = Callable[..., TrialSpec]


def trial(spec: TrialSpec, label: str = "an arm") -> Trial:
    return Trial(identity=spec.identity("data"), arm=1, label=label, seed=spec.seed, spec=spec, changes={})


def test_every_trial_gets_the_size_of_its_own_model(spec_of: Make) -> None:
    small, big = trial(spec_of()), trial(spec_of(changes={"moto.n": 8}))
    again = trial(spec_of(seed=1))
    sizes = preflight([small, big, again], workers=1)
    assert set(sizes) == {small.identity, big.identity, again.identity}
    assert sizes[small.identity] is sizes[again.identity]
    assert sizes[big.identity].parameters > sizes[small.identity].parameters


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.batch_size": 5000}, "5000.*1438"),
        ({"train.batch_size": 33, "train.mixup": 0.8}, "even"),
        ({"augment.rand_augment": "rand-q9"}, "rand_augment"),
        ({"data.name": "folder", "data.root": "/nowhere"}, "/nowhere"),
        ({"moto.blocks": "7:9"}, "2 blocks"),
    ],
    ids=str,
)
def test_errors_name_the_row(spec_of: Make, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        preflight([trial(spec_of()), trial(spec_of(changes=changes), "the bad row")], workers=1)
    assert "'the bad row'" in str(caught.value)


def test_a_batch_that_does_not_divide_over_the_workers_is_refused(spec_of: Make) -> None:
    with pytest.raises(SettingError, match="multiple"):
        preflight([trial(spec_of())], workers=3)


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # No server listens there, so that a machine with a network fetches nothing either.
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    import urllib.request

    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_are_found_before_training(spec_of: Make) -> None:
    spec = spec_of(changes={"tokenprop.loss": "contextual", "tokenprop.scale": 32})
    with pytest.raises(WeightsError, match="efficientnet_lite0"):
        preflight([trial(spec)], workers=1)
