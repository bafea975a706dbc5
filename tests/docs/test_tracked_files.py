"""What no file of the repository may say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From pieces, so that this file does not say it either.
_FOLDERS = ("work", "root", "home", "Users")
_HOSTS = (
    *("py" + "pi.org", "python" + "hosted", "pytorch.org" + "/whl", "npm" + "js.", "conda." + "anaconda"),
    *("docker" + ".io", "gh" + "cr.io", "deb." + "debian", "archive." + "ubuntu", "proxy." + "golang"),
)
_FORBIDDEN = re.compile(
    rf"(?<![\w.~$}}/-])/(?:{'|'.join(_FOLDERS)})/\w" + "|" + "|".join(re.escape(host) for host in _HOSTS)
)


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no git, or not a checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_paths_and_no_registry_hosts() -> None:
    found = []
    for path in _tracked():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            if match := _FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found
