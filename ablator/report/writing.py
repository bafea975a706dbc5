"""The report as files, each replaced whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablator.contracts.secrets import scrubbed
from ablator.errors import StoreError
from ablator.report import figures
from ablator.report.csv import render_csv, render_json
from ablator.report.latex import render_latex
from ablator.report.markdown import bind_markdown, render_markdown
from ablator.report.page import render_bound, render_page
from ablator.report.table import Table

RENDERERS = {
    "table.md": render_markdown,
    "table.tex": render_latex,
    "table.csv": render_csv,
    "page.html": render_page,
    "results.json": render_json,
}


def write_report(table: Table, directory: Path) -> dict[str, Path]:
    """Write every file of RENDERERS into `directory` (made where it is not there) and return their paths by
    name. A reader sees the old file or the new one, never a part. Raises StoreError where it cannot write."""
    texts = {name: render(table) for name, render in RENDERERS.items() if name != "page.html"}
    return write_page(table, directory) | _write(texts, directory)


def write_page(table: Table, directory: Path) -> dict[str, Path]:
    """Write the page alone, as `write_report` does."""
    # What `ablator figures` drew beside the page belongs to it, as long as it shows the table's own trials.
    models = figures.section(table, directory / figures.FOLDER)
    return _write({"page.html": render_page(table, models=models)}, directory)


def write_bound(tables: Sequence[Table], directory: Path) -> dict[str, Path]:
    """Write all tables as one page (page.html) and one Markdown file (tables.md), as `write_report` does."""
    return _write({"page.html": render_bound(tables), "tables.md": bind_markdown(tables)}, directory)


def _write(texts: Mapping[str, str], directory: Path) -> dict[str, Path]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return {name: _replace(directory / name, scrubbed(text)) for name, text in texts.items()}
    except OSError as error:
        raise StoreError(f"the report cannot be written to {directory}: {error.strerror or error}") from error


def _replace(path: Path, text: str) -> Path:
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives 0600; a report is for others to read, as far as the user's umask lets them.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    return path
