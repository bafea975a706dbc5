from __future__ import annotations

import copy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ablator.errors import SettingError
from ablator.study.overlay import apply, flatten, merge, overlaps

_KEYS = st.sampled_from(["a", "b", "c"])
_DOCUMENTS = st.dictionaries(
    st.sampled_from(["x", "y"]),
    st.dictionaries(_KEYS, st.integers() | st.dictionaries(_KEYS, st.integers(), min_size=1), min_size=1),
)


def test_dotted_and_nested_keys_are_the_same() -> None:
    assert flatten({"moto": {"n": 8, "tau": 0.1}}, "f") == flatten({"moto.n": 8, "moto.tau": 0.1}, "f")


@pytest.mark.parametrize(
    ("switch", "value"), [("on", {}), (True, {}), ("off", None), (False, None), (None, None)]
)
def test_a_section_can_be_switched(switch: object, value: object) -> None:
    assert flatten({"moto": switch}, "f") == {"moto": value}


def test_switching_on_keeps_what_is_there_and_off_removes_it() -> None:
    document = {"moto": {"n": 4}}
    assert apply(document, {"moto": {}}, "f") == {"moto": {"n": 4}}
    assert apply(document, {"moto": None}, "f") == {"moto": None}
    assert apply({"moto": None}, {"moto.n": 8}, "f") == {"moto": {"n": 8}}


@pytest.mark.parametrize(
    "overlay",
    [
        {"moto": None, "moto.n": 4},
        {"moto.n": 4, "moto": {"n": 5}},
        {"model.options": 3, "model.options.depth": 2},
    ],
)
def test_an_overlay_may_not_contradict_itself(overlay: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=r"f: says .* and also"):
        flatten(overlay, "f")


@pytest.mark.parametrize("key", ["", ".n", "moto.", "a..b"])
def test_a_broken_key_is_named(key: str) -> None:
    with pytest.raises(SettingError, match="is not a key"):
        flatten({key: 1}, "f")


def test_a_key_below_a_value_says_what_is_in_the_way() -> None:
    with pytest.raises(SettingError, match=r"train\.lr\.x cannot be set, because train\.lr is 0\.1"):
        apply({"train": {"lr": 0.1}}, {"train.lr.x": 1}, "f")


@given(below=_DOCUMENTS, above=_DOCUMENTS)
def test_what_lies_above_wins_and_the_rest_stays(below: dict, above: dict) -> None:  # type: ignore[type-arg]
    before = copy.deepcopy(below)
    flat = flatten(above, "f")
    values = {key: value for key, value in flatten(below, "f").items() if not isinstance(value, dict)}
    assume(not any(key.startswith(value + ".") for key in flat for value in values))
    merged = flatten(merge(below, above, "f"), "f")
    assert below == before
    kept = {
        key: value for key, value in flatten(below, "f").items() if not any(overlaps(key, k) for k in flat)
    }
    assert merged == kept | flat
    assert merge(merge(below, above, "f"), above, "f") == merge(below, above, "f")
