"""How the site of mkdocs.yml differs from the Markdown files as they lie in the repository.

- The README is its first page.
- Links out of `docs/` lead to copies of those files in the site, because nothing here knows where
  the repository lies.
- Mermaid diagrams, which a browser would need a library from the network for, are the drawings in `images/`
  (mermaid 11.17.2, rendered once in a browser; a test compares their words with the source).
- Pages that lie in `docs/` and not in the navigation are listed under it, so that none is lost.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.DOTALL | re.MULTILINE)
_COPIED = "repository"


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name behind it."""
    named = set(re.findall(r"[\w/-]+\.md", str(config.nav)))
    there = (path.relative_to(ROOT / "docs").as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))
    rest = [path for path in there if path not in named]
    if rest:
        config.nav.append({"More": rest})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the README, and copies of what pages link to outside of `docs/`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=readme))
    wanted = set()
    for file in files.documentation_pages():
        wanted |= {target for _, target in _outside(file.content_string, file.src_uri) if target}
    for target in sorted(wanted):
        content = (ROOT / target).read_bytes()
        files.append(File.generated(config, _copy(target), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turn links and diagrams into what the site has."""
    for written, target in _outside(markdown, page.file.src_uri):
        here = PurePosixPath(page.file.src_uri).parent
        new = os.path.relpath(_copy(target) if target else _inside(written), here)
        markdown = markdown.replace(f"]({written}", f"]({new}")
    name = PurePosixPath(page.file.src_uri).stem
    number = iter(range(1, 100))
    return _MERMAID.sub(lambda _: f"![Diagram](images/{name}-{next(number)}.svg)", markdown)


def _outside(markdown: str, page: str) -> list[tuple[str, str]]:
    """Links that are other ones in the site: as written, and the file of the repository that they lead to
    (empty where that is a page of the site after all)."""
    # The README lies in the repository's root and its page in docs/.
    folder = ROOT if page == "index.md" else (ROOT / "docs" / page).parent
    found: dict[str, str] = {}
    for _, written, _ in _LINK.findall(markdown):
        target = Path(os.path.normpath(folder / written))
        if re.match(r"\w+:", written) or not target.is_file() or target == folder / page:
            continue
        if target.is_relative_to(ROOT / "docs"):
            if page == "index.md":
                found[written] = ""
        else:
            found[written] = target.relative_to(ROOT).as_posix()
    return list(found.items())


def _inside(written: str) -> str:
    return written.removeprefix("docs/")


def _copy(target: str) -> str:
    """Where the copy of a file lies; as text, so that a browser shows it instead of running or saving it."""
    return "index.md" if target == "README.md" else f"{_COPIED}/{target}.txt"
