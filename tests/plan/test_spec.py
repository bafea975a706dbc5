from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.contracts.settings import as_plain
from ablator.errors import SettingError
from ablator.plan.differences import differences
from ablator.plan.spec import SECTIONS, TrialSpec, optional_sections, resolve

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.integers(0, 9),
    "data.fraction": st.sampled_from([0.1, 0.5, 1.0]),
    "data.image_size": st.sampled_from([32, 64]),
    "augment.flip": st.sampled_from([0.0, 0.5]),
    "model.name": st.sampled_from(["deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]),
    "model.options.depth": st.integers(1, 3),
    "train.lr": st.sampled_from([1e-3, 1.0, 5e-4]),
    "train.clip_grad": st.sampled_from([None, 1.0]),
    "moto.n": st.integers(1, 4),
    "moto.partition": st.sampled_from(["soft", "hard"]),
    "norm.kind": st.sampled_from(["layer", "batch"]),
    "tokenprop.weight": st.sampled_from([0.0, 0.001]),
}
_FLAT = st.fixed_dictionaries({}, optional=_VALUES)


def _document(flat: dict[str, Any], order: int = 0) -> dict[str, Any]:
    keys = list(flat)
    random.Random(order).shuffle(keys)
    document: dict[str, Any] = {}
    for key in keys:
        *parents, last = key.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = flat[key]
    return document


@given(flat=_FLAT)
def test_a_spec_survives_the_way_through_json(flat: dict[str, Any]) -> None:
    spec = resolve(_document(flat), "f")
    again = TrialSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert again.identity("x") == spec.identity("x")


@given(flat=_FLAT, order=st.integers(0, 1000))
def test_identity_is_blind_to_the_order_of_keys_and_to_defaults_said_aloud(
    flat: dict[str, Any], order: int
) -> None:
    spec = resolve(_document(flat), "f")
    document = _document(flat, order)
    for name, cls in ({**SECTIONS, **optional_sections()}).items():
        if name in SECTIONS or name in document:
            document[name] = as_plain(cls()) | document.get(name, {})
        else:
            document[name] = None
    assert resolve(document, "f").identity("x") == spec.identity("x")


@given(a=_FLAT, b=_FLAT)
def test_identity_differs_exactly_where_specs_do(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, other = resolve(_document(a), "f"), resolve(_document(b), "f")
    assert (one.identity("x") == other.identity("x")) == (differences(one, other) == {})
    assert (one == other) == (differences(one, other) == {})


def test_identity_knows_the_data_by_content_and_not_by_place() -> None:
    here = resolve({"data": {"name": "folder", "root": "/here"}}, "f")
    there = resolve({"data": {"name": "folder", "root": "/there"}}, "f")
    assert here.identity("x") == there.identity("x")
    assert here.identity("x") != here.identity("y")


def test_naming_a_section_switches_it_on_and_null_off() -> None:
    assert resolve({"moto": {}}, "f").components["moto"].n == 8
    spec = resolve({"moto": None, "tokenprop": {"scale": 8}}, "f")
    assert spec.components == {}
    assert spec.objectives["tokenprop"].scale == 8
    assert "moto" not in spec.to_json()


def test_a_key_that_came_later_makes_no_new_identity_at_its_default() -> None:
    before = "a98ae98a442f31514f1ff63696d5a56c3536bf502508d7737305a91bfef8c3f4"
    assert resolve({}, "f").identity("x") == before
    assert resolve({"train": {"cooldown_epochs": 0}}, "f").identity("x") == before
    cooled = resolve({"train": {"cooldown_epochs": 10}}, "f")
    assert cooled.identity("x") != before
    assert differences(resolve({}, "f"), cooled) == {"train.cooldown_epochs": (0, 10)}


def test_one_and_one_point_zero_are_one_number() -> None:
    assert resolve({"train": {"lr": 1}}, "f").identity("x") == resolve({"train": {"lr": 1.0}}, "f").identity(
        "x"
    )


def test_differences_are_dotted_and_a_section_is_one_key() -> None:
    a = resolve({"train": {"lr": 0.1}, "model": {"options": {"depth": 3}}}, "f")
    b = resolve({"train": {"lr": 0.2}, "moto": {"n": 2}}, "f")
    found = differences(a, b)
    assert found.keys() == {"train.lr", "model.options.depth", "moto"}
    assert found["train.lr"] == (0.1, 0.2)
    assert found["moto"][0] is None


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"motto": {}}, "f: unknown section 'motto' (did you mean 'moto'?); known: task, seed, data"),
        ({"task": "clasification"}, "f: task: unknown task 'clasification' (did you mean 'classification'?)"),
        ({"task": 3}, "f: task: unknown task '3'"),
        ({"data": {"name": "digit"}}, "f: data.name: unknown data set 'digit' (did you mean 'digits'?)"),
        ({"seed": "1"}, "f: seed: must be a whole number from 0 on, not '1'"),
        ({"train": {"epochs": "ten"}}, "f: train.epochs: must be a whole number, not 'ten'"),
        ({"train": 3}, "f: train: must be a mapping, not 3"),
        (
            {"tokenprop": {"loss": "l3"}},
            "f: tokenprop.loss: must be 'l1', 'l2', 'perceptual' or 'contextual'",
        ),
    ],
)
def test_a_wrong_document_is_one_clear_error(document: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        resolve(document, "f")
    assert str(caught.value).startswith(text)
