"""Where records come from: the environments that they name, grouped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from ablator.contracts.record import Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """One environment: software, device, threads and state of the code."""

    trials: int
    """Records that name it."""
    versions: Mapping[str, str]
    """As `Record.versions`."""

    @property
    def dirty(self) -> bool:
        """Whether the code had changes that no commit has."""
        return self.versions.get("git_dirty") == "true"


def origins(records: Sequence[Record]) -> tuple[Origin, ...]:
    """The different environments, the most frequent first; records that name none are left out."""
    counted = Counter(tuple(sorted(record.versions.items())) for record in records if record.versions)
    return tuple(Origin(trials=count, versions=dict(items)) for items, count in counted.most_common())


def common(found: Sequence[Origin]) -> dict[str, str]:
    """What all environments agree on, by name in order."""
    names = sorted({name for origin in found for name in origin.versions})
    return {
        name: value
        for name in names
        if len({origin.versions.get(name) for origin in found}) == 1
        and (value := found[0].versions.get(name)) is not None
    }


def differing(found: Sequence[Origin]) -> list[str]:
    """Names of what they do not agree on."""
    agreed = common(found)
    return sorted({name for origin in found for name in origin.versions} - agreed.keys())
