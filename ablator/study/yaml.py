"""YAML as studies use it: the YAML 1.2 core schema, safe, and without duplicate keys.

YAML 1.1, which PyYAML reads by default, takes `4:8` for a number in base 60, `1e-3` for text and
`off` for false; in a study they are a slice, a number and a word.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from ablator.contracts.reading import read_file
from ablator.errors import SettingError


class _Loader(yaml.SafeLoader):
    """Safe loader of the core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute)


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads: text that it would take for something else is quoted."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Values that are there twice are written twice."""
        return True


CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, turn the direction of text around, or cannot be written."""
_MOST_BYTES = 2**19
_MOST_VALUES = 250_000
_MOST_LEVELS = 40
_TOO_DEEP = f"it is nested more than {_MOST_LEVELS} levels deep, or in itself"
_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}
_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(rf"^(?:{_pattern})$"), [*_first, ""] if _name == "null" else list(_first)
    )


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a single word", key.start_mark)
        name = (key.tag, key.value)
        if name in lines:
            problem = f"the key {key.value!r} is there twice (first in line {lines[name]})"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        lines[name] = key.start_mark.line + 1
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(_TAG + "int", _integer)
_Loader.add_constructor(_TAG + "map", _mapping)


def parse(text: str, where: str) -> Any:
    """The value of one YAML document. Raises SettingError with `where` and the line; also for one that is
    nested too deeply, comes to too many values through its aliases, or holds characters that control a
    terminal."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise SettingError(f"{where}: not usable YAML: {_TOO_DEEP}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and "\n" in text else ""
        raise SettingError(f"{where}{line}: not valid YAML: {error.problem or error}") from None
    except (yaml.YAMLError, ValueError) as error:
        why = " ".join(str(error).split())
        raise SettingError(f"{where}: not valid YAML: {why}") from None


def _check_size(document: yaml.Node) -> None:
    """Refuse what a few lines can blow up: an alias is a copy to everything that comes after."""
    known: dict[int, tuple[int, int]] = {}

    def measured(node: yaml.Node, depth: int) -> tuple[int, int]:
        """Values and levels of a part, which stands `depth` levels below the document."""
        if isinstance(node, yaml.ScalarNode):
            if (found := CONTROL.search(node.value)) is not None:
                raise _refusal(control_text(found[0]), node)
            return 1, 1
        if id(node) not in known and depth <= _MOST_LEVELS:
            below = node.value if isinstance(node, yaml.SequenceNode) else itertools.chain(*node.value)
            parts = [measured(item, depth + 1) for item in below]
            known[id(node)] = (
                1 + sum(count for count, _ in parts),
                1 + max((high for _, high in parts), default=0),
            )
        count, levels = known.get(id(node), (1, 1))
        if depth + levels > _MOST_LEVELS:
            raise _refusal(_TOO_DEEP, node)
        if count > _MOST_VALUES:
            text = f"with its aliases it comes to more than {_MOST_VALUES:,} values, the most that are read"
            raise _refusal(text, node)
        return count, levels

    measured(document, 0)


def _refusal(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def control_text(character: str) -> str:
    """What is wrong with a character of CONTROL."""
    return (
        f"the character U+{ord(character):04X} controls how text is shown and does not belong into a study; "
        "leave it out"
    )


def dump(document: dict[str, Any]) -> str:
    """The YAML text of plain data, in its order; `parse` gives the same data again."""
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    return text


def read(path: Path, kind: str) -> dict[str, Any]:
    """The mapping in the file at `path`, which is a `kind` (such as "study") for the error's text."""
    try:
        text = read_file(path, _MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise SettingError(f"{kind} {path}: no such file{_others(path)}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{kind} {path}: cannot be read: it is not UTF-8 ({error})") from None
    except OSError as error:
        raise SettingError(f"{kind} {str(path)!r}: cannot be read: {error.strerror or error}") from None
    document = parse(text, str(path))
    if not isinstance(document, dict):
        found = "the file is empty" if document is None else f"this is {_KINDS.get(type(document), 'not')}"
        raise SettingError(f"{path}: a {kind} is a mapping of keys to values, and {found}")
    return {str(key): value for key, value in document.items()}


def _others(path: Path) -> str:
    """What there is in the same folder instead."""
    if not path.parent.is_dir():
        return f" (and no folder {path.parent})"
    there = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    return f"; there is: {', '.join(there)}" if there else ""
