from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ablator.plan.json_schema import profile_schema, recipe_schema, space_schema, study_schema
from ablator.study import yaml

_FILES = {
    "experiments": study_schema,
    "search_spaces": space_schema,
    "recipes": recipe_schema,
    "recipes/profiles": profile_schema,
}


def _errors(schema: dict[str, Any], document: Any) -> list[str]:
    # Through JSON, as an editor sees it: keys are text.
    plain = json.loads(json.dumps(document))
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(plain)]


@pytest.mark.parametrize("folder", _FILES)
def test_every_shipped_file_fits_its_schema(root: Path, folder: str) -> None:
    schema = _FILES[folder]()
    jsonschema.Draft202012Validator.check_schema(schema)
    files = sorted((root / folder).glob("*.yaml"))
    assert files
    for path in files:
        assert _errors(schema, yaml.read(path, "file")) == [], path


@pytest.mark.parametrize(
    "change",
    [
        {"armz": []},
        {"study": "No Name"},
        {"set": {"moto.nn": 2}},
        {"set": {"moto": {"nn": 2}}},
        {"set": {"moto.n": [2, 4]}},
        {"set": {"moto.partition": "sotf"}},
        {"base": {"trian": {}}},
        {"task": "classify"},
        {"arms": [{"label": "a", "design": "gird"}]},
        {"arms": [{"label": "a", "set": {"moto.n": ["2"]}}]},
        {"arms": [{"label": "a", "space": {"dimensions": {"moto.nn": {"kind": "int"}}}}]},
        {"seeds": 0},
        {"file": "x.yaml"},
        {"profiles": {"laptop": {"set": {"train.epoch": 1}}}},
    ],
)
def test_an_editor_marks_what_loading_would_refuse(change: dict[str, Any]) -> None:
    study = {
        "study": "s",
        "arms": [{"label": "a", "set": {"moto.n": [2], "model.options.depth": 3, "norm": "on"}}],
    }
    assert _errors(study_schema(), study) == []
    assert _errors(study_schema(), study | change) != []


def test_keys_come_with_their_documentation() -> None:
    overlay = study_schema()["$defs"]["overlay"]["properties"]
    assert overlay["moto.n"]["description"] == "Number of semantic entities."
    assert overlay["moto.n"]["minimum"] == 1
    assert overlay["moto.partition"]["enum"] == ["soft", "hard"]
    for name, field in overlay.items():
        assert field.get("description") or name == "task", name
