"""Reading plain data into settings classes, with errors that a person can act on."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from ablator.contracts.settings import as_plain
from ablator.errors import SettingError, nearest

T = TypeVar("T")

_MOST_MISTAKES = 200
"""Mistakes that are looked at; branches of a union count one by one."""
_SHOWN_MISTAKES = 50
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "null",
}


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def validate(cls: type[T], data: Any, where: str, *, prefix: str = "") -> T:
    """Read `data` (plain mappings, lists and scalars, or settings) as the settings class `cls`.

    `prefix` is the dotted key at which the data stands in its document. Types are strict: "8" is not 8
    and 8.0 is not a whole number, but 1 is the number 1.0; lists become tuples. Raises SettingError,
    which starts with `where` and names for every mistake the path of the key, the rule, the value, and
    the nearest known key.
    """
    plain = as_plain(data)
    try:
        text = json.dumps(plain)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{where}: not plain data ({error})") from None
    try:
        return cast(T, _adapter(cast(Any, cls)).validate_json(text, strict=True))
    except ValidationError as error:
        raise SettingError(_explain(cls, plain, error, where, prefix)) from None


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a settings class, with the fields' documentation."""
    return _adapter(cls).json_schema(ref_template="#/$defs/{model}")


def _explain(cls: type, data: Any, error: ValidationError, where: str, prefix: str) -> str:
    """One text for everything that is wrong; the branches of a union become one line."""
    rules: dict[tuple[int | str, ...], list[str]] = {}
    values: dict[tuple[int | str, ...], Any] = {}
    for item in error.errors(include_url=False)[:_MOST_MISTAKES]:
        keys, value = _locate(item["loc"], data, missing=item["type"] == "missing")
        values[keys] = value
        rule = _rule(cls, keys, cast(Mapping[str, Any], item))
        if rule not in rules.setdefault(keys, []):
            rules[keys].append(rule)
    # What is said of a whole where a part of it is wrong only follows from the part.
    deepest = [keys for keys in rules if not any(k != keys and k[: len(keys)] == keys for k in rules)]
    lines = [
        _line(path_text((prefix, *keys) if prefix else keys), rules[keys], values[keys]) for keys in deepest
    ]
    if len(lines) == 1:
        return f"{where}: {lines[0]}"
    count = f"{len(lines)} mistakes" if len(lines) <= _SHOWN_MISTAKES else "many mistakes, the first"
    lines = lines[:_SHOWN_MISTAKES]
    return f"{where}: {count}\n" + "\n".join(f"  {line}" for line in lines)


def _line(path: str, rules: Sequence[str], value: Any) -> str:
    prefix = f"{path}: " if path else ""
    complete = [rule for rule in rules if not rule.startswith("must be ")]
    if complete:
        return prefix + "; ".join(complete)
    wanted = " or ".join(rule.removeprefix("must be ") for rule in rules)
    hint = ""
    if isinstance(value, str):
        hint = nearest(value, [w.strip("'") for w in wanted.replace(", ", " or ").split(" or ")])
    return f"{prefix}must be {wanted}, not {value!r}{hint}"


def _locate(loc: Sequence[int | str], data: Any, *, missing: bool) -> tuple[tuple[int | str, ...], Any]:
    """The keys of pydantic's location that are in the data (it also names branches of unions), and the
    last one of a key that is missing."""
    keys: list[int | str] = []
    value = data
    for position, part in enumerate(loc):
        inside = (
            part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        )
        last = missing and isinstance(value, dict) and position == len(loc) - 1
        if inside:
            keys.append(part)
            value = value[part]
        elif last:
            keys.append(part)
            value = None
    return tuple(keys), value


def path_text(keys: Sequence[int | str]) -> str:
    """("arms", 0, "set") as `arms[0].set`."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        elif all(part.isidentifier() for part in key.split(".")):
            text += f".{key}" if text else key
        else:
            text += f"[{key!r}]"
    return text


def _rule(cls: type, keys: Sequence[int | str], item: Mapping[str, Any]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "unexpected_keyword_argument":
        known = sorted(_known(cls, keys[:-1]))
        return f"unknown key{nearest(str(keys[-1]), known)}; known: {', '.join(known)}"
    if kind == "missing":
        return "is needed and missing"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "too_short":
        return f"needs at least {context['min_length']} item"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}"
    message = str(item["msg"])
    if message.startswith("Input should be "):
        return "must be " + message.removeprefix("Input should be ")
    return f"{message[:1].lower()}{message[1:]}, not {item['input']!r}"


def _known(cls: Any, keys: Sequence[int | str]) -> set[str]:
    """Field names of the settings classes that may stand at `keys` below `cls`."""
    candidates = list(_dataclasses(cls))
    for key in keys:
        if isinstance(key, int):
            continue
        below: list[type] = []
        for candidate in candidates:
            if key in {f.name for f in dataclasses.fields(candidate)}:
                below += _dataclasses(typing.get_type_hints(candidate)[key])
        candidates = below or candidates
    fields = [f for candidate in candidates for f in dataclasses.fields(candidate)]
    return {f.name for f in fields if f.metadata.get("written", True)}


def _dataclasses(hint: Any) -> Iterator[Any]:
    """Settings classes anywhere in a type, such as `tuple[Arm, ...] | None`."""
    if dataclasses.is_dataclass(hint):
        yield hint
    elif get_origin(hint) in (Union, types.UnionType, Annotated, tuple, list, dict):
        for part in get_args(hint):
            yield from _dataclasses(part)
