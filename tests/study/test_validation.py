from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.components.settings import MoToSettings
from ablator.contracts.settings import as_plain
from ablator.contracts.train import TrainSettings
from ablator.errors import SettingError
from ablator.study.schema import Study
from ablator.study.validation import validate


def test_numbers_are_read_strictly_but_one_is_a_number() -> None:
    assert validate(TrainSettings, {"lr": 1}, "here").lr == 1.0
    for wrong in ("8", 8.0, 8.5, True):
        with pytest.raises(SettingError, match="must be a whole number"):
            validate(MoToSettings, {"n": wrong}, "here")


def test_lists_become_tuples() -> None:
    study = validate(Study, {"study": "s", "arms": [{"label": "a"}], "seeds": [3, 1]}, "here")
    assert study.seeds == (3, 1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"nn": 8}, "f: moto.nn: unknown key (did you mean 'n'?); known: blocks, n, "),
        (
            {"partition": "sotf"},
            "f: moto.partition: must be 'soft' or 'hard', not 'sotf' (did you mean 'soft'?)",
        ),
        ({"n": 0}, "f: moto.n: must be greater than or equal to 1, not 0"),
        ({"tau": float("nan")}, "f: moto.tau: must be a finite number, not nan"),
        ({"blocks": 4}, "f: moto.blocks: must be text, not 4"),
        ([], "f: moto: must be a mapping, not []"),
    ],
)
def test_an_error_says_path_rule_value_and_alternative(data: object, text: str) -> None:
    with pytest.raises(SettingError) as caught:
        validate(MoToSettings, data, "f", prefix="moto")
    assert str(caught.value).startswith(text)


def test_every_mistake_is_in_the_one_error() -> None:
    with pytest.raises(SettingError) as caught:
        validate(
            Study,
            {"study": "s", "seed": 2, "arms": [{"label": 3}], "stop": {"kind": "asha", "grace": 1}},
            "f",
        )
    text = str(caught.value)
    assert "3 mistakes" in text
    assert "\n  seed: unknown key (did you mean 'seeds'?)" in text
    assert "\n  arms[0].label: must be text, not 3" in text
    assert "\n  stop.grace: unknown key (did you mean 'grace_epochs'?)" in text


def test_data_that_is_no_data_is_refused() -> None:
    with pytest.raises(SettingError, match="f: not plain data"):
        validate(MoToSettings, {"n": object()}, "f")


@given(
    n=st.integers(1, 64),
    tau=st.floats(1e-6, 10),
    partition=st.sampled_from(["soft", "hard"]),
    blocks=st.none() | st.text(),
)
def test_settings_survive_the_way_through_json(
    n: int, tau: float, partition: str, blocks: str | None
) -> None:
    made = validate(MoToSettings, {"n": n, "tau": tau, "partition": partition, "blocks": blocks}, "f")
    assert validate(MoToSettings, as_plain(made), "f") == made
