"""JSON schemas (draft 2020-12) of the files that people write, for editors to complete and check."""

from __future__ import annotations

import copy
from typing import Any

from ablator.plan.spec import SECTIONS, optional_sections
from ablator.registry import DATASETS, TASKS
from ablator.study.schema import Profile, Study
from ablator.study.spaces import SpaceDocument
from ablator.study.validation import json_schema

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SWITCH = {"enum": ["on", "off", True, False], "description": "on: with its defaults; off: not there."}


def study_schema() -> dict[str, Any]:
    """Of a study file. In `set` every dotted key is listed with its documentation, type and range."""
    schema = json_schema(Study)
    del schema["properties"]["file"]
    definitions = schema.setdefault("$defs", {})
    definitions |= _overlay_definitions()
    recipe = {**recipe_schema()["properties"]}
    definitions["recipe"] = {"type": "object", "properties": recipe, "additionalProperties": False}
    properties = schema["properties"]
    properties["study"]["pattern"] = "^[a-z0-9_]+$"
    properties["base"] = {
        "description": properties["base"]["description"],
        "anyOf": [{"type": "string"}, {"$ref": "#/$defs/recipe"}],
    }
    properties["task"] = {"description": properties["task"]["description"], "enum": [None, *TASKS.names()]}
    _point(properties, "set", "overlay")
    _point(definitions["Baseline"]["properties"], "set", "overlay")
    _point(definitions["Arms"]["properties"], "set", "overlay_or_lists")
    definitions["Arms"]["properties"]["points"]["items"] = {"$ref": "#/$defs/overlay"}
    _point(definitions["Profile"]["properties"], "set", "overlay")
    _space(definitions)
    return _document(schema, "Ablator study")


def profile_schema() -> dict[str, Any]:
    """Of a file of recipes/profiles/."""
    schema = json_schema(Profile)
    schema.setdefault("$defs", {}).update(_overlay_definitions())
    _point(schema["properties"], "set", "overlay")
    return _document(schema, "Ablator profile")


def space_schema() -> dict[str, Any]:
    """Of a file of search_spaces/."""
    schema = json_schema(SpaceDocument)
    definitions = schema.setdefault("$defs", {})
    definitions["SpaceDocument"] = {"properties": schema["properties"]}
    _space(definitions)
    del definitions["SpaceDocument"]
    return _document(schema, "Ablator search space")


def recipe_schema() -> dict[str, Any]:
    """Of a file of recipes/: sections of the trial spec, and the recipe that it is based on."""
    properties: dict[str, Any] = {
        "base": {"type": "string", "description": "Recipe that this one changes, relative to this file."},
        "task": {"enum": list(TASKS.names()), "description": "What the model is trained for."},
    }
    for name in SECTIONS:
        properties[name] = _section(name)
    for name in optional_sections():
        properties[name] = {"anyOf": [_section(name), {"type": "null"}, _SWITCH]}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return _document(schema, "Ablator recipe")


def _document(schema: dict[str, Any], title: str) -> dict[str, Any]:
    return {"$schema": _DRAFT, **schema, "title": title}


def _point(properties: dict[str, Any], name: str, definition: str) -> None:
    """Let a free mapping refer to the list of keys, and keep its documentation."""
    properties[name] = {"description": properties[name]["description"], "$ref": f"#/$defs/{definition}"}


def _section(name: str) -> dict[str, Any]:
    """One section as a mapping; all its keys are optional."""
    cls = SECTIONS.get(name) or optional_sections()[name]
    schema = copy.deepcopy(json_schema(cls))
    if name == "data":
        schema["properties"]["name"]["enum"] = list(DATASETS.names())
    schema.pop("title", None)
    return schema


def _overlay_definitions() -> dict[str, Any]:
    """`overlay` (dotted keys and sections to values), and the same where lists of values may stand."""
    single: dict[str, Any] = {"task": {"enum": list(TASKS.names())}}
    lists: dict[str, Any] = {"task": _or_list(single["task"])}
    patterns: dict[str, Any] = {}
    optional = optional_sections()
    for name in (*SECTIONS, *optional):
        section = _section(name)
        off = [{"type": "null"}, _SWITCH] if name in optional else []
        description = {"description": section["description"]}
        single[name] = {**description, "anyOf": [section, *off]}
        listed = {key: _or_list(field) for key, field in section["properties"].items()}
        lists[name] = {**description, "anyOf": [{**section, "properties": listed}, *off]}
        for key, field in section["properties"].items():
            single[f"{name}.{key}"] = field
            lists[f"{name}.{key}"] = _or_list(field)
            if field.get("type") == "object":
                patterns[rf"^{name}\.{key}\."] = {"description": field["description"]}
    shape = {"type": "object", "patternProperties": patterns, "additionalProperties": False}
    return {"overlay": {**shape, "properties": single}, "overlay_or_lists": {**shape, "properties": lists}}


def _or_list(field: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: field[key] for key in ("description", "default") if key in field}
    return {**kept, "anyOf": [field, {"type": "array", "items": field, "minItems": 1}]}


def _space(definitions: dict[str, Any]) -> None:
    """Only keys of the spec can be dimensions."""
    keys = _overlay_definitions()["overlay"]
    dimension = {"$ref": "#/$defs/Dimension"}
    dimensions = definitions["SpaceDocument"]["properties"]["dimensions"]
    dimensions["properties"] = {
        name: {key: field[key] for key in ("description",) if key in field} | dimension
        for name, field in keys["properties"].items()
        if name not in SECTIONS
    }
    dimensions["patternProperties"] = dict.fromkeys(keys["patternProperties"], dimension)
    dimensions["additionalProperties"] = False
