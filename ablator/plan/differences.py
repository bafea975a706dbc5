"""What two specs differ in."""

from __future__ import annotations

from typing import Any

from ablator.plan.spec import TrialSpec


def differences(a: TrialSpec, b: TrialSpec) -> dict[str, tuple[Any, Any]]:
    """Dotted key to the values in `a` and in `b`, where they differ.

    A section that is on in only one of them is one key, with None for the side where it is off. The code of
    plug-ins is none, because it follows from the sections and names.
    """
    found: dict[str, tuple[Any, Any]] = {}
    left, right = ({k: v for k, v in spec.plain().items() if k != "plugins"} for spec in (a, b))
    _compare("", left, right, found)
    return found


def _compare(path: str, a: dict[str, Any], b: dict[str, Any], found: dict[str, tuple[Any, Any]]) -> None:
    for key in dict.fromkeys([*a, *b]):
        dotted = f"{path}.{key}" if path else key
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            _compare(dotted, left, right, found)
        elif left != right or type(left) is not type(right):
            found[dotted] = (left, right)
