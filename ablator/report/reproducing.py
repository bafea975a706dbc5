"""How a reader gets a table, or one row of it, again: one command for a shell."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence

from ablator.report.table import RowSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What every command about a study says."""

    file: str | None
    """The study's file; None for one that was built in Python, which no command can name."""
    study: str
    """Its name, which stands in the file's place where there is none."""
    profile: str | None
    overrides: Sequence[str]
    """`--set` as typed."""
    chosen: Sequence[str] = ()
    """Labels of the rows that the table is about; none: all."""
    sequential: bool = False
    """Whether rows got their seeds one at a time. What a row alone would ask for is less, because its p value
    is then adjusted over fewer rows, so that its command says how many seeds it has."""

    def table(self) -> str:
        """What trains the whole table and writes it again."""
        return self._command(self.chosen)

    def rows(
        self, rows: Iterable[RowSpec], best: Sequence[RowSpec] = (), *, mark: str
    ) -> tuple[RowSpec, ...]:
        """The rows, then the `best` ones, each with what trains it and what it is compared with. A best row
        comes of its search, whose label is its own without the `mark` at its end."""
        single = [(row, row.label) for row in rows]
        single += [(row, row.label.removesuffix(mark)) for row in best]
        return tuple(
            dataclasses.replace(row, command=self._command([label], self._seeds(row)))
            for row, label in single
        )

    def _seeds(self, row: RowSpec) -> list[str]:
        return [f"seeds={len(row.identities)}"] if self.sequential else []

    def _command(self, rows: Sequence[str], more: Sequence[str] = ()) -> str:
        words = ["ablator", "run", self.file] if self.file else ["ablator", "run"]
        options = ["--profile", self.profile] if self.profile else []
        options += [word for override in (*self.overrides, *more) for word in ("--set", override)]
        options += [word for label in rows for word in ("--row", label)]
        said = [shlex.join(words)] + ([] if self.file else [f"<{self.study}>"])
        return " ".join([*said, shlex.join(options)] if options else said)
