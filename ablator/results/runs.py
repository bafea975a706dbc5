"""A record as MLflow's parameters, metrics and tags."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ablator.contracts.record import Record, retries_text
from ablator.contracts.secrets import scrubbed
from ablator.results.store import Store

MAX_VALUE = 6000
"""Most characters that MLflow keeps of a parameter's value (3.17)."""
MAX_TAG = 5000
"""Most characters of a tag that every MLflow of version 2 and 3 keeps."""
MAX_NAME = 250
STATUS = {"completed": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "diverged": "FAILED"}
"""MLflow's status of a run by the record's."""
_REFUSED = re.compile(r"[^A-Za-z0-9_\-. :/]")

Point = tuple[str, float, int, int]
"""A metric's value: name, value, timestamp in ms, step."""


def clean_name(name: str) -> str:
    """`name` as MLflow takes it: what it refuses becomes `_`, and paths that it would resolve (`..`, a
    leading or a double slash) are broken up."""
    name = _REFUSED.sub("_", name)
    parts = [part if part.strip(".") else "_" * max(len(part), 1) for part in name.split("/")]
    return "/".join(parts)[:MAX_NAME]


def shortened(text: str, most: int) -> str:
    """`text` if it has at most `most` characters, else its beginning and how much is missing."""
    if len(text) <= most:
        return text
    note = f"… ({len(text)} characters)"
    return text[: most - len(note)] + note


def parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    """The resolved spec, flat: dotted key to text. Two keys that MLflow would take for one get a number."""
    flat: dict[str, str] = {}
    for key, value in _flattened(spec, ""):
        name, number = clean_name(key), 2
        while name in flat:
            suffix = f"_{number}"
            name, number = clean_name(key)[: MAX_NAME - len(suffix)] + suffix, number + 1
        flat[name] = shortened(scrubbed(value), MAX_VALUE)
    return flat


def metrics(record: Record) -> list[Point]:
    """The curves under their own names, a step an epoch; `final/…`, `cost/…` and `size/…` at the last one.
    Times are spread evenly over the trial, so that sending twice gives the same points."""
    start, end = milliseconds(record.started), milliseconds(record.finished)
    points: list[Point] = []
    steps = [int(row.get("epoch", index)) for index, row in enumerate(record.curves, start=1)]
    for index, (step, row) in enumerate(zip(steps, record.curves, strict=True), start=1):
        when = start + (end - start) * index // len(steps)
        points += [point(k, v, when, step) for k, v in row.items() if k != "epoch"]
    last = max(steps, default=0)
    for group, values in (("final", record.metrics), ("cost", record.cost), ("size", record.size)):
        points += [point(f"{group}/{k}", v, end, last) for k, v in values.items()]
    return points


def point(name: str, value: float, when: int, step: int) -> Point:
    """One value at a time in ms and a step. One that is not finite becomes NaN, because MLflow turns
    infinity into 1.8e308, which spoils every plot."""
    return clean_name(name), float(value) if math.isfinite(value) else math.nan, when, step


def tags(store: Store, study: str, entry: Mapping[str, Any], record: Record) -> dict[str, str]:
    """What tells the run from others, and how it came to be."""
    found = {
        **labels(entry),
        "ablator.study": study,
        "ablator.identity": record.identity,
        "ablator.version": entry["version"],
        "ablator.status": record.status,
        "ablator.attempts": str(record.attempts),
        "mlflow.source.name": "ablator",
        "mlflow.source.type": "LOCAL",
    }
    if record.error is not None:
        found["ablator.error"] = record.error
    if record.unmeasured:
        found["ablator.unmeasured"] = ", ".join(f"{name} {word}" for name, word in record.unmeasured.items())
    if record.retries:
        found["ablator.retries"] = retries_text(record.retries)
    if record.incidents:
        found["ablator.incidents"] = "\n".join(record.incidents)
    if record.notes:
        found["ablator.notes"] = "\n".join(record.notes)
    for package, version in record.versions.items():
        found[clean_name(f"ablator.version.{package}")] = version
    if commit := record.versions.get("git_commit"):
        found["mlflow.source.git.commit"] = commit
    if (diff := record.versions.get("git_diff")) and (path := store.diff(diff)).exists():
        found["ablator.git_diff"] = path.read_text(errors="replace")
    # Older records and diffs may hold what is taken out today.
    return {name: shortened(scrubbed(value), MAX_TAG) for name, value in found.items()}


def labels(entry: Mapping[str, Any]) -> dict[str, str]:
    """The tags that follow the study file, and change when only its labels are edited."""
    return {
        "ablator.arm": shortened(entry["arm"], MAX_TAG),
        "ablator.seed": str(entry["seed"]),
        "ablator.changes": shortened(
            json.dumps(entry["changes"], sort_keys=True, ensure_ascii=False), MAX_TAG
        ),
    }


def milliseconds(seconds: float) -> int:
    """Unix seconds as MLflow's time; at least 1, because it takes 0 for now."""
    return max(1, int(seconds * 1000))


def _flattened(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flattened(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str):
        yield key, value
    else:
        yield key, json.dumps(value, ensure_ascii=False)
